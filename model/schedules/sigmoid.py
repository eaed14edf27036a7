"""Sigmoid annealing (Bowman et al. 2016): 1 / (1 + exp(−slope · (t − midpoint))) at step t of the whole training."""

import math

from pydantic import NonNegativeFloat, PositiveFloat

from model.schedule import Course, Schedule

NEARLY_ONE = 0.99
"""The weight at which the warm-up counts as over, since it never is 1."""


class Config(Schedule):
    slope: PositiveFloat = 0.0025  # a step
    midpoint: NonNegativeFloat = 2500.0  # the step at which the weight is a half

    def __call__(self, epoch: float, course: Course) -> float:
        # As a hyperbolic tangent, which has no argument that overflows.
        return 0.5 * (1.0 + math.tanh(0.5 * self.slope * (course.step(epoch) - self.midpoint)))

    def warmup(self, course: Course) -> float:
        nearly = self.midpoint + math.log(NEARLY_ONE / (1.0 - NEARLY_ONE)) / self.slope
        return min(nearly / course.steps, float(course.epochs))
