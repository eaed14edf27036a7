"""What a training starts from: parameters that are drawn, or what fits of another trial's best weights."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from model.core import TextModel


class StartConfig(BaseModel):
    """Parameters are drawn, and then, with `trained`, in part replaced.

    trained: a patch of the trial's own config. What it makes is another trial, of the same seed and text, from whose
    best weights the model takes what it can use; "+ init" of Yang et al. (2017) starts an encoder from a language
    model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trained: dict[str, Any] | None = None

    def check(self, model: TextModel) -> None:
        """Raises ValueError when a model takes nothing from another."""
        if self.trained is not None and not isinstance(model, StartsFromTrained):
            raise ValueError(
                "start: trained is for models that take weights from another, and this one takes none; leave it out"
            )


class StartsFromTrained(ABC):
    """A model that can take over weights of another one."""

    @abstractmethod
    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take over what fits, by name, of a trained model's weights. Raises ValueError when nothing does."""
