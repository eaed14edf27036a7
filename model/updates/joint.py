"""All parameters at once by gradient descent, the global norm clipped (paper, section 4: SGD 1.0, clip 5)."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from data.batch import Batch
from model.core import TextModel
from model.objective import Loss
from model.update import Step, Update, UpdateConfig

Normalisation = Literal["sentence", "token"]
"""Of the loss: the sum over a sentence's tokens, the scale of the paper's settings, or divided by their number."""


class Config(UpdateConfig):
    learning_rate: PositiveFloat = 1.0
    clip: PositiveFloat = 5.0  # on the norm of all parameters' gradients together
    normalisation: Normalisation = "sentence"

    def build(self, model: TextModel) -> "Joint":
        return Joint(model, learning_rate=self.learning_rate, clip=self.clip, normalisation=self.normalisation)


class Joint(Update):
    def __init__(self, model: TextModel, *, learning_rate: float, clip: float, normalisation: Normalisation):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, fused=True)
        self.clip = clip
        self.normalisation = normalisation

    def step(self, batch: Batch, loss: Loss, generator: torch.Generator) -> Step:
        sentences, length = batch.tokens.shape
        noise = self.model.draw_noise(sentences, self.model.training_draws, generator)
        value, bound = self.model.through(loss, batch.tokens, noise, generator)
        value = value if self.normalisation == "sentence" else value / length
        self.optimizer.zero_grad()
        value.backward()
        norm = torch.nn.utils.get_total_norm(p.grad for p in self.model.parameters() if p.grad is not None)
        # The norm is finite only if the loss and every gradient are.
        finite = torch.isfinite(value.detach()) & torch.isfinite(norm)
        # A fused optimizer divides by the one and does nothing if the other is 1, on the device.
        self.optimizer.grad_scale = (norm / self.clip).clamp(min=1.0)  # type: ignore[attr-defined]
        self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        return Step(bound.map(Tensor.detach), norm > self.clip, ~finite)

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def decay(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] *= factor

    def state_dict(self) -> dict[str, Tensor]:
        return {"learning_rate": torch.tensor(self.learning_rate, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = float(state["learning_rate"])
