"""What training and evaluation need of a model: a bound on −log p(x) from tokens and noise, and nothing else.

Shapes: B sentences of one length, T predicted tokens (words and `</s>`), S draws, L latents that one likelihood
conditions on, n latent dimensions, V predicted words.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
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
    charged_terms: (B, n) what training charges, where that is not `kl_terms`; see charge.py.
    beside: (B,) what training lowers beside the bound, as in `Posterior`; no part of any number that is reported.
    """

    rec: Tensor
    kl_terms: Tensor
    latents: int
    charged_terms: Tensor | None = None
    beside: Tensor | None = None

    @property
    def kl(self) -> Tensor:
        """(B,) KL(q(z|x) ‖ p(z)) of one latent."""
        return self.kl_terms.sum(dim=1)

    @property
    def charged(self) -> Tensor:
        """(B, n) terms of the KL that training charges; their sum and `rec` are what it lowers at KL weight 1."""
        return self.kl_terms if self.charged_terms is None else self.charged_terms

    def map(self, function: Callable[[Tensor], Tensor]) -> "Bound":
        """With a function of each tensor in its place."""
        charged, beside = (None if each is None else function(each) for each in (self.charged_terms, self.beside))
        return Bound(function(self.rec), function(self.kl_terms), self.latents, charged, beside)

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
    single_alone: what of it training cannot compute in bfloat16, as the beginning of a sentence; None for nothing.
    is_repeatable: whether its bound takes the same operations whatever the numbers; see `Update`.
    """

    latents_per_sentence: int = 0
    training_draws: int = 1
    single_alone: str | None = None
    is_repeatable: bool = True

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw every parameter anew, in place."""

    @abstractmethod
    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        """(S, L, num_sentences, n) base noise of the latents, from no parameter, so that it can be drawn before."""

    def weighing(self, beta: float) -> "TextModel":
        """The same model, its parameters shared, for a step of training at KL weight `beta`.

        Another than itself only where inference too depends on the weight. Evaluation is at weight 1.
        """
        return self

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

    def inference_parameters(self) -> Sequence[nn.Parameter]:
        """Those that q(z|x) alone depends on: none of a model without latents, or without an encoder."""
        return ()

    @abstractmethod
    def reader(self, latents: Tensor) -> "Reader":
        """R hypotheses before their first token, each from its own of (R, L, n) latents; (R, 1, 0) for no latents.

        L is 1, or `latents_per_sentence`. In evaluation mode alone.
        """

    @property
    @abstractmethod
    def operations_per_token(self) -> float:
        """Multiplications of one training step per predicted token, roughly; used to order trials by expected cost."""


class Reader(ABC):
    """Hypotheses that a decoder follows side by side, one token at a time; made by `TextModel.reader`."""

    @abstractmethod
    def read(self, words: Tensor) -> Tensor:
        """(R, V) log p of the token that comes next, nats, once each hypothesis goes on with its own of (R,) `words`.

        Ids of predicted words; at first of `<s>`. What the decoder sees of them is the model's matter. float32.
        """

    @abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Go on with the hypotheses of the indices (R',) `rows`, in their order; one named twice is followed twice."""


class Posterior(ABC):
    """q(z|x) of B sentences. beside: (B,) nats, lowered beside the bound where that does not teach the encoder."""

    beside: Tensor | None = None

    @abstractmethod
    def sample(self, noise: Tensor) -> Tensor:
        """(S, L, B, n) latents, differentiable in the posterior's parameters, from base noise of the same shape."""

    @abstractmethod
    def log_ratio(self, latents: Tensor) -> Tensor:
        """(S, L, B) log p(z) − log q(z|x) of (S, L, B, n) latents, each by itself, nats."""

    @abstractmethod
    def kl_terms(self) -> Tensor:
        """(B, n) terms of KL(q(z|x) ‖ p(z)) of one latent, nats: one a dimension; (B, 1) if it does not split."""

    def kl(self) -> Tensor:
        """(B,) KL(q(z|x) ‖ p(z)) of one latent, nats."""
        return self.kl_terms().sum(dim=1)

    @property
    @abstractmethod
    def location(self) -> Tensor:
        """(B, n) where each posterior is centred."""

    @property
    @abstractmethod
    def active_variance(self) -> float | None:
        """Of a location's coordinate over sentences: from here on the dimension counts as active.

        None for a family whose coordinates have no scale of their own that this could be told on.
        """

    @abstractmethod
    def entropy(self) -> Tensor:
        """(B,) −E log q(z|x) of one latent, nats."""

    @abstractmethod
    def log_density(self, latents: Tensor) -> Tensor:
        """(M, B) float64, log q(z|x) of each of (M, n) latents under each of the B posteriors, nats."""


class Exchangeable(Posterior):
    """A family whose L latents of a sentence can have a prior in which they are correlated, each N(0, 1) by itself.

    correlation: (n,) ρ of each dimension, the same between any two latents, −1 / (L − 1) < ρ < 1. At 0 they are
    independent, and charged L times their KL.
    """

    @abstractmethod
    def moments(self) -> tuple[Tensor, Tensor]:
        """(B, n) squared mean and variance of one latent: all that the best correlation depends on."""

    @abstractmethod
    def correlated_kl_terms(self, latents: int, correlation: Tensor) -> Tensor:
        """(B, n) terms of KL(q(z^1|x) … q(z^L|x) ‖ p(z^1, …, z^L)), nats."""

    @abstractmethod
    def correlated_log_ratio(self, latents: Tensor, correlation: Tensor) -> Tensor:
        """(S, B) log p(z^1, …, z^L) − Σ_l log q(z^l|x) of (S, L, B, n) latents, nats."""


class Charge(nn.Module, ABC):
    """Which KL training charges for the latents of a sentence.

    is_apart: whether that is not the KL of one latent. beyond_ratios: the setting that asks for something which no
    ratio p(z) / q(z|x) of a single latent says, so that importance weights cannot charge it.
    """

    is_apart: bool = True
    beyond_ratios: str | None = None

    @abstractmethod
    def forward(self, posterior: Posterior) -> Tensor | None:
        """(B, n) terms, nats; None for the KL of one latent, whatever their number, as the paper has it."""


class LatentModel(TextModel):
    """A model with a posterior and a likelihood; its bound is written here, once for every family and decoder.

    charge, decoder: set by each architecture. decoder: all that p(x|z) depends on.
    """

    charge: Charge
    decoder: nn.Module

    def inference_parameters(self) -> Sequence[nn.Parameter]:
        # A charge may have some of the prior.
        others = {id(parameter) for part in (self.decoder, self.charge) for parameter in part.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in others]

    @abstractmethod
    def draw_prior(self, num: int, generator: torch.Generator) -> Tensor:
        """(num, n) latents, each from p(z) by itself, on the generator's device."""

    @abstractmethod
    def posterior(self, tokens: Tensor, generator: torch.Generator) -> Posterior:
        """q(z|x) of (B, T) tokens; `generator` feeds the encoder's dropout in training mode.

        In evaluation mode q is a function of the sentence and of the generator's seed, whatever was drawn before.
        """

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
        charged = self.charge(posterior)
        return Bound(rec.mean(dim=0), posterior.kl_terms(), self.latents_per_sentence, charged, posterior.beside)


class ModelConfig(BaseModel, ABC):
    """Configuration of an architecture; a concrete one is the `Config` of a module in `model/variants/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def build(self, vocabulary: Vocabulary) -> TextModel:
        """The model for a vocabulary, its parameters not yet drawn. Raises ValueError on fields that contradict."""
