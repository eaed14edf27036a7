"""All parameters at once by gradient descent, the global norm clipped (paper, section 4: SGD 1.0, clip 5)."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from data.batch import Batch
from data.corpus import Split
from model.core import TextModel
from model.descent import Descent, DescentConfig, Normalisation, gradient_of, scale_of
from model.objective import Loss
from model.update import Step, Update


class Config(DescentConfig):
    def build(self, model: TextModel) -> "Joint":
        descent = self.descent(dict(model.named_parameters()))
        return Joint(model, descent, clip=self.clip, normalisation=self.normalisation)


class Joint(Update):
    is_repeatable = True

    def __init__(self, model: TextModel, descent: Descent, *, clip: float, normalisation: Normalisation):
        self.model = model
        self.descent = descent
        self.clip = clip
        self.normalisation = normalisation

    def step(self, batch: Batch, loss: Loss, generator: torch.Generator, others: Iterable[Batch] = ()) -> Step:
        gradient = gradient_of(self.model, batch, loss, generator, self.normalisation)
        skipped = ~gradient.finite
        self.descent.step(scale_of(gradient.norm, self.clip), skipped)
        return Step(gradient.bound, gradient.norm > self.clip, skipped)

    def end_epoch(self, model: TextModel, valid: Split, seed: int) -> Mapping[str, float]:
        return {}

    @property
    def learning_rate(self) -> float:
        return self.descent.learning_rate

    def keep_rate_on_device(self) -> None:
        self.descent.keep_rate_on_device()

    def decay(self, factor: float) -> None:
        self.descent.learning_rate *= factor

    def restart(self) -> None:
        self.descent.restart()

    def state_dict(self) -> dict[str, Tensor]:
        return {"learning_rate": torch.tensor(self.learning_rate, dtype=torch.float64), **self.descent.state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.descent.learning_rate = float(state["learning_rate"])
        self.descent.restore(state)
