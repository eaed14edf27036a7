"""All parameters at once by gradient descent, the global norm clipped (paper, section 4: SGD 1.0, clip 5)."""

from collections.abc import Mapping

import torch
from pydantic import PositiveFloat
from torch import Tensor

from data.batch import Batch
from model.core import Bound, TextModel
from model.objective import Normalisation, loss
from model.update import NonFiniteError, Update, UpdateConfig


class Config(UpdateConfig):
    learning_rate: PositiveFloat = 1.0
    clip: PositiveFloat = 5.0  # on the norm of all parameters' gradients together
    normalisation: Normalisation = "sentence"

    def build(self, model: TextModel) -> "Joint":
        return Joint(model, learning_rate=self.learning_rate, clip=self.clip, normalisation=self.normalisation)


class Joint(Update):
    def __init__(self, model: TextModel, *, learning_rate: float, clip: float, normalisation: Normalisation):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
        self.clip = clip
        self.normalisation = normalisation

    def step(self, batch: Batch, beta: float, generator: torch.Generator) -> Bound:
        sentences, length = batch.tokens.shape
        noise = self.model.draw_noise(sentences, self.model.training_draws, generator)
        bound = self.model.bound(batch.tokens, noise, generator)
        value = loss(bound, beta, length, self.normalisation)
        self.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        # The norm is finite only if the loss and every gradient are.
        if not (torch.isfinite(value) & torch.isfinite(norm)):
            raise NonFiniteError(f"loss {value.item():g}, gradient norm {norm.item():g}")
        self.optimizer.step()
        return Bound(bound.rec.detach(), bound.kl.detach(), bound.latents)

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
