"""KL-annealing schedules: the weight of the KL term as a pure function of progress, so that nothing is saved."""

from abc import ABC, abstractmethod

from pydantic import BaseModel, ConfigDict


class Schedule(BaseModel, ABC):
    """A schedule is its own configuration; a concrete one is the `Config` of a module in `model/schedules/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def __call__(self, epoch: float) -> float:
        """KL weight after `epoch` epochs of training, fractions included: step t of S a epoch is t / S, t from 1."""

    @property
    @abstractmethod
    def warmup(self) -> float:
        """Epochs before validation at weight 1 says what training aims at; no early stop before."""
