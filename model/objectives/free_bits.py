"""Free bits: a KL below a floor is not worth lowering, so that there is no gain in a posterior equal to the prior.

Four forms by what is held against the floor: each dimension or their sum, of each sentence or of a batch's mean.
By dimension and batch: Kingma et al. 2016; by dimension and sentence, or in all: Li et al. 2019.
"""

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from model.core import Bound, TextModel
from model.objective import Objective, bound_of, check_latent


class Config(Objective):
    # Of a sentence's whole KL; of n dimensions, each has nats / n.
    nats: PositiveFloat = Field(4.0, json_schema_extra={"in_shape": False})
    by_dimension: bool = True
    by_sentence: bool = False

    def loss(
        self, model: TextModel, tokens: Tensor, noise: Tensor, generator: torch.Generator, *moment: float | Tensor
    ) -> tuple[Tensor, Bound]:
        [beta] = moment
        bound = bound_of(model, tokens, noise, generator)
        return bound.rec.mean() + beta * self.clamped(bound.charged), bound

    def clamped(self, kl_terms: Tensor) -> Tensor:
        """Scalar, from the (B, n) KL of each sentence and dimension."""
        kl = kl_terms if self.by_dimension else kl_terms.sum(dim=1, keepdim=True)
        kl = kl if self.by_sentence else kl.mean(dim=0, keepdim=True)
        return kl.clamp(min=self.nats / kl.shape[1]).sum(dim=1).mean()

    def check(self, model: TextModel) -> None:
        check_latent(model, "objective free_bits")
