"""Reconstruction and the weighted KL: by default one KL whatever the number of latents (paper, Eq. 5, section 3.2)."""

import torch
from torch import Tensor

from model.core import Bound, TextModel
from model.objective import Objective, bound_of


class Config(Objective):
    def loss(
        self, model: TextModel, tokens: Tensor, noise: Tensor, generator: torch.Generator, *moment: float | Tensor
    ) -> tuple[Tensor, Bound]:
        [beta] = moment
        bound = bound_of(model, tokens, noise, generator)
        return (bound.rec + beta * bound.charged.sum(dim=1)).mean(), bound

    def check(self, model: TextModel) -> None:
        """Any model will do."""
