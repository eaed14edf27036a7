"""What training and evaluation need of a model: a bound on −log p(x) from tokens and noise, and nothing else.

Shapes: B sentences of one length, T predicted tokens (words and `</s>`), S draws, L latents that one likelihood
conditions on, n latent dimensions, V predicted words.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Bound:
    """Terms of −log p(x) <= rec + latents * kl, nats per sentence.

    rec: (B,) reconstruction −log p(x | z), averaged over draws. kl_terms: (B, n) terms whose sum is the KL of *one*
    latent, one a dimension, or a single one where the KL does not split; (B, 0) for a language model.
    latents: how many independent latents the likelihood was given: 0 for a language model, whose rec is exact.
    """

    rec: Tensor
    kl_terms: Tensor
    latents: int

    @property
    def kl(self) -> Tensor:
        """(B,) KL(q(z|x) ‖ p(z)) of one latent."""
        return self.kl_terms.sum(dim=1)

    def detached(self) -> "Bound":
        return Bound(self.rec.detach(), self.kl_terms.detach(), self.latents)

    @property
    def paper(self) -> Tensor:
        """(B,) rec and one KL term, whatever the number of latents: the paper's −ELBO, not a bound for latents > 1."""
        return self.rec + self.kl

    @property
    def strict(self) -> Tensor:
        """(B,) upper bound on −log p(x): every latent is charged its KL (independent standard-normal priors)."""
        return self.rec + self.latents * self.kl


class TextModel(nn.Module, ABC):
    """A model of sentences. Its randomness comes in from outside: latents from `noise`, dropout from `generator`.

    latents_per_sentence: L, or 0 for a model without latents. training_draws: S during training.
    """

    latents_per_sentence: int = 0
    training_draws: int = 1

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw every parameter anew, in place."""

    @abstractmethod
    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        """(S, L, num_sentences, n) base noise of the latents, from no parameter, so that it can be drawn before."""

    @abstractmethod
    def bound(self, tokens: Tensor, noise: Tensor, generator: torch.Generator) -> Bound:
        """The bound of (B, T) tokens at (S, L, B, n) noise; `generator` feeds dropout, unused in evaluation mode.

        The gradient of its terms holds for losses that weigh all sentences alike.
        """

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(self, *arguments): PyTorch's way to see a model through other weights than its own."""
        return function(self, *arguments)

    def through(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(model, *arguments) for the weights that training computes with, which may be a rounding of ours."""
        return function(self, *arguments)

    @property
    @abstractmethod
    def operations_per_token(self) -> float:
        """Multiplications of one training step per predicted token, roughly; used to order trials by expected cost."""


class Posterior(ABC):
    """q(z|x) of B sentences."""

    @abstractmethod
    def sample(self, noise: Tensor) -> Tensor:
        """(S, L, B, n) latents, differentiable in the posterior's parameters, from base noise of the same shape."""

    @abstractmethod
    def log_ratio(self, latents: Tensor) -> Tensor:
        """(S, L, B) log p(z) − log q(z|x) of (S, L, B, n) latents, each by itself, nats."""

    @abstractmethod
    def kl_terms(self) -> Tensor:
        """(B, n) terms of KL(q(z|x) ‖ p(z)) of one latent, nats: one a dimension; a single one if it does not split."""

    def kl(self) -> Tensor:
        """(B,) KL(q(z|x) ‖ p(z)) of one latent, nats."""
        return self.kl_terms().sum(dim=1)


class LatentModel(TextModel):
    """A model with a posterior and a likelihood; its bound is written here, once for every family and decoder."""

    @abstractmethod
    def posterior(self, tokens: Tensor, generator: torch.Generator) -> Posterior:
        """q(z|x) of (B, T) tokens; `generator` feeds the encoder's dropout in training mode."""

    @abstractmethod
    def log_likelihood(
        self, tokens: Tensor, latents: Tensor, generator: torch.Generator, *, equal_weights: bool = False
    ) -> Tensor:
        """(S, B) log p(x | z^(1..L)) of (B, T) tokens, nats per sentence, given (S, L, B, n) latents.

        equal_weights: the caller's promise that its loss weighs all draws and sentences alike; the gradient is faster.
        """

    def bound(self, tokens: Tensor, noise: Tensor, generator: torch.Generator) -> Bound:
        posterior = self.posterior(tokens, generator)
        rec = -self.log_likelihood(tokens, posterior.sample(noise), generator, equal_weights=True)
        return Bound(rec.mean(dim=0), posterior.kl_terms(), self.latents_per_sentence)


class ModelConfig(BaseModel, ABC):
    """Configuration of an architecture; a concrete one is the `Config` of a module in `model/variants/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def build(self, vocabulary: Vocabulary) -> TextModel:
        """The model for a vocabulary, its parameters not yet drawn. Raises ValueError on fields that contradict."""
