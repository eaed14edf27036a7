"""Linear annealing, epoch by epoch: `start` throughout the first epoch, 1 from the one after `epochs` epochs on."""

import math

from pydantic import Field, PositiveInt

from model.schedule import Course, Schedule


class Config(Schedule):
    start: float = Field(0.0, ge=0, le=1)
    epochs: PositiveInt = 10

    def __call__(self, epoch: float, course: Course) -> float:
        ended = math.ceil(epoch) - 1
        return min(1.0, self.start + (1.0 - self.start) * ended / self.epochs)

    def warmup(self, course: Course) -> float:
        return float(self.epochs)
