"""Objectives: the one place where the terms of a bound become a loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from model.core import Bound, LatentModel, TextModel
from model.precision import at_least_single

Loss = Callable[[TextModel, Tensor, Tensor, torch.Generator], tuple[Tensor, Bound]]
"""An objective at one moment of the training: of a model, (B, T) tokens, (S, L, B, n) noise and a generator, the scalar
to minimise, nats per sentence, and the bound that it is made of."""


class Objective(BaseModel, ABC):
    """What training minimises; a concrete one is the `Config` of a module in `model/objectives/`.

    Evaluation knows nothing of it: that is at KL weight 1 and with the KL as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def at(self, epoch: float, beta: float) -> Loss:
        """The loss after `epoch` epochs of training, at KL weight `beta`."""
        return self.given(beta, self.moment(epoch, beta))

    def moment(self, epoch: float, beta: float) -> tuple[float, ...]:
        """All numbers of the loss that change as training goes on, after `epoch` epochs, at KL weight `beta`."""
        return (beta,)

    def given(self, beta: float, moment: Iterable[float | Tensor]) -> Loss:
        """The loss at a moment, whose numbers may be scalar float32 tensors: what they hold when it is computed."""

        def loss(model: TextModel, tokens: Tensor, noise: Tensor, generator: torch.Generator) -> tuple[Tensor, Bound]:
            value, bound = self.loss(model.weighing(beta), tokens, noise, generator, *moment)
            return value if bound.beside is None else value + bound.beside.mean(), bound

        return loss

    @abstractmethod
    def loss(
        self, model: TextModel, tokens: Tensor, noise: Tensor, generator: torch.Generator, *moment: float | Tensor
    ) -> tuple[Tensor, Bound]:
        """As `Loss` says: summed over the tokens of a sentence and averaged over sentences.

        That is the scale at which the paper's learning rate and clipping threshold act. Without what the bound has
        `beside` it, which is added once for all objectives.
        """

    @abstractmethod
    def check(self, model: TextModel) -> None:
        """Raises ValueError when this cannot be minimised for a model."""


def bound_of(model: TextModel, tokens: Tensor, noise: Tensor, generator: torch.Generator) -> Bound:
    """The model's bound, in float32 whatever it computes in."""
    bound = model.bound(tokens, noise, generator)
    return bound.map(at_least_single)


def check_latent(model: TextModel, what: str) -> None:
    """Raises ValueError for a model without a KL term. what: the objective's name, with an article."""
    if not isinstance(model, LatentModel):
        raise ValueError(f"{what} is about latent variables, and this model has none; give it objective: elbo")
