"""Constant KL weight: 1 is the plain ELBO, less is a β-VAE (Higgins et al. 2017)."""

from pydantic import NonNegativeFloat

from model.schedule import Course, Schedule


class Config(Schedule):
    weight: NonNegativeFloat = 1.0

    def __call__(self, epoch: float, course: Course) -> float:
        return self.weight

    def warmup(self, course: Course) -> float:
        return 0.0
