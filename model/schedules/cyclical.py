"""Cyclical annealing (Fu et al. 2019, Eq. 6): in each of `cycles` the weight rises from `start` to 1 and stays."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import Field, PositiveInt

from model.schedule import Course, Schedule

_RAMPS: Mapping[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "cosine": lambda x: 0.5 * (1.0 - math.cos(math.pi * x)),
    # From −6 to 6, where a logistic function is nearly 0 and 1.
    "sigmoid": lambda x: 1.0 / (1.0 + math.exp(6.0 - 12.0 * x)),
}


class Config(Schedule):
    cycles: PositiveInt = 4
    rise: float = Field(0.5, gt=0, le=1)  # fraction of a cycle that is spent rising
    ramp: Literal["linear", "cosine", "sigmoid"] = "linear"
    start: float = Field(0.0, ge=0, le=1)

    def __call__(self, epoch: float, course: Course) -> float:
        period = self._period(course)
        risen = (course.step(epoch) - 1) % period / period / self.rise
        return 1.0 if risen >= 1.0 else self.start + (1.0 - self.start) * _RAMPS[self.ramp](risen)

    def warmup(self, course: Course) -> float:
        """To the end of the last cycle's rise: each cycle before is a warm-up of its own."""
        period = self._period(course)
        last = (course.total - 1) // period * period
        return min((last + math.ceil(self.rise * period) + 1) / course.steps, float(course.epochs))

    def _period(self, course: Course) -> int:
        return math.ceil(course.total / self.cycles)
