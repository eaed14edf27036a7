"""KL-annealing schedules: the weight of the KL term as a pure function of progress, so that nothing is saved."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class Course:
    """A training from its first step to its last, if nothing ends it before: `epochs` of `steps` steps each."""

    epochs: int
    steps: int

    @property
    def total(self) -> int:
        """Steps of all epochs."""
        return self.epochs * self.steps

    def step(self, epoch: float) -> int:
        """The step, from 1, that ends after `epoch` epochs."""
        return round(epoch * self.steps)


class Schedule(BaseModel, ABC):
    """A schedule is its own configuration; a concrete one is the `Config` of a module in `model/schedules/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def __call__(self, epoch: float, course: Course) -> float:
        """KL weight after `epoch` epochs of training, fractions included: step t of S a epoch is t / S, t from 1."""

    @abstractmethod
    def warmup(self, course: Course) -> float:
        """Epochs after which the weight stays what it aims at; no early stop and no pruning before."""
