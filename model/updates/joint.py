"""All parameters at once by gradient descent, the global norm clipped (paper, section 4: SGD 1.0, clip 5)."""

from collections.abc import Mapping

import torch
from pydantic import PositiveFloat
from torch import Tensor

from data.batch import Batch
from model.core import Bound, TextModel
from model.objective import Normalisation, loss
from model.update import Step, Update, UpdateConfig


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

    def step(self, batch: Batch, beta: float, generator: torch.Generator) -> Step:
        sentences, length = batch.tokens.shape
        noise = self.model.draw_noise(sentences, self.model.training_draws, generator)
        bound = self.model.bound(batch.tokens, noise, generator)
        value = loss(bound, beta, length, self.normalisation)
        self.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.get_total_norm(p.grad for p in self.model.parameters() if p.grad is not None)
        # The norm is finite only if the loss and every gradient are.
        finite = torch.isfinite(value.detach()) & torch.isfinite(norm)
        # A fused optimizer divides by the one and does nothing if the other is 1, on the device.
        self.optimizer.grad_scale = (norm / self.clip).clamp(min=1.0)  # type: ignore[attr-defined]
        self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        return Step(Bound(bound.rec.detach(), bound.kl.detach(), bound.latents), norm > self.clip, ~finite)

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
