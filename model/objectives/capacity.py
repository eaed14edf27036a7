"""Capacity (Burgess et al. 2018, Eq. 8): the batch's mean KL is held at a target that rises from 0 to `nats`."""

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from model.core import Bound, TextModel
from model.objective import Objective, bound_of, check_latent


class Config(Objective):
    nats: PositiveFloat = Field(5.0, json_schema_extra={"in_shape": False})  # the target after `epochs` epochs
    epochs: PositiveFloat = Field(10.0, json_schema_extra={"in_shape": False})
    # What a nat away from the target costs, times the schedule's weight.
    gamma: PositiveFloat = Field(1.0, json_schema_extra={"in_shape": False})

    def moment(self, epoch: float, beta: float) -> tuple[float, ...]:
        return beta * self.gamma, self.target(epoch)

    def loss(
        self, model: TextModel, tokens: Tensor, noise: Tensor, generator: torch.Generator, *moment: float | Tensor
    ) -> tuple[Tensor, Bound]:
        price, target = moment
        bound = bound_of(model, tokens, noise, generator)
        away = (bound.charged.sum(dim=1).mean() - target).abs()
        return bound.rec.mean() + price * away, bound

    def target(self, epoch: float) -> float:
        return self.nats * min(1.0, epoch / self.epochs)

    def check(self, model: TextModel) -> None:
        check_latent(model, "objective capacity")
