"""Training algorithms: what one batch does to the parameters."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from data.batch import Batch
from data.corpus import Split
from model.core import Bound, TextModel
from model.objective import Loss


class NonFiniteError(ArithmeticError):
    """Losses or gradients were infinite or not a number, more often than allowed; no parameter was touched by them."""


@dataclass(frozen=True)
class Step:
    """What one batch did, still on the device, so that nobody waits for it.

    bound: before the step, detached. clipped, skipped: scalar booleans, whether the gradient was scaled down, and
    whether one was not finite, which then touched neither the parameters nor the update's state.
    """

    bound: Bound
    clipped: Tensor
    skipped: Tensor


class Update(ABC):
    """Owns its optimizers and their state.

    is_repeatable: whether each step does the same on the device, whatever the numbers, so that all of it can be
    recorded once and be told to the device again as a whole.
    """

    is_repeatable: bool = False

    @abstractmethod
    def step(self, batch: Batch, loss: Loss, generator: torch.Generator, others: Iterable[Batch] = ()) -> Step:
        """Lower a loss on one batch, without waiting for the device more often than the algorithm has to.

        others: batches of the training split at random, for an update that looks at more than the one; none is made
        that is not taken.
        """

    @abstractmethod
    def end_epoch(self, model: TextModel, valid: Split, seed: int) -> Mapping[str, float]:
        """Take in that an epoch's last step is done; gives what is worth recording of the epoch, by name.

        model: what is trained, as it is evaluated; left in the mode that it is in. seed: of draws for measurements on
        `valid`, which are no part of the training's own.
        """

    @property
    @abstractmethod
    def learning_rate(self) -> float: ...

    @abstractmethod
    def decay(self, factor: float) -> None:
        """Multiply the learning rate by `factor`."""

    @abstractmethod
    def restart(self) -> None:
        """Forget what the optimizers gathered, as when the parameters are others than they left; not the rate."""

    def keep_rate_on_device(self) -> None:
        """Have a step that was recorded see each later learning rate; of one that is repeatable."""
        raise NotImplementedError

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Everything that a continued run needs, flat, as tensors."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class UpdateConfig(BaseModel, ABC):
    """Configuration of an update; a concrete one is the `Config` of a module in `model/updates/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def build(self, model: TextModel) -> Update:
        """The update of a model's parameters. Raises ValueError when it cannot train that model."""
