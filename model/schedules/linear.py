"""Linear annealing, step by step: from `start` to 1 over the first `epochs` epochs (paper: 0 to 1 over 10)."""

from pydantic import Field, PositiveFloat

from model.schedule import Course, Schedule


class Config(Schedule):
    start: float = Field(0.0, ge=0, le=1)
    epochs: PositiveFloat = 10.0

    def __call__(self, epoch: float, course: Course) -> float:
        return min(1.0, self.start + (1.0 - self.start) * epoch / self.epochs)

    def warmup(self, course: Course) -> float:
        return self.epochs
