"""SA-VAE (Kim et al. 2018): an LSTM-VAE whose posterior is refined, sentence by sentence, by K steps of descent.

The encoder gives where the steps start, and is taught through them. Bounds, importance weights and everything else
that is measured are of the refined posterior, so evaluation refines too. In their terms:

SA-VAE: the fields as they are. VAE+SVI: `encoder_loss: elbo`, the encoder has a bound of its own. VAE+SVI+KL:
`encoder_loss: kl`, it is drawn to the refined posterior. SVI: `amortised: false`, there is no encoder, and the steps
start from the prior. In the last three nothing is differentiated through the steps.

A step of training takes about 2 + 6 of the decoder's matrix products for each of the K where a VAE takes 3 in all, an
evaluation 2 for each. Memory is that of one of the K, all its logits among it. `svi_steps: 0` is the LSTM-VAE.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.func import functional_call

from data.vocabulary import Vocabulary
from model.core import Bound, Charge, LatentModel, Reader
from model.gaussian import DiagonalGaussian
from model.lstm import LstmDecoder, operations
from model.precision import at_least_single
from model.randomness import generator as named_generator
from model.randomness import seed_of
from model.refinement import Descent, InnerLoss, SecondOrder, once, through
from model.start import StartsFromTrained
from model.variants.lstm_vae import LstmVae, LstmVaeConfig

EncoderLoss = Literal["refined", "elbo", "kl"]
"""What teaches the encoder: the bound after refinement, the bound before it, or KL(before ‖ after)."""


class Config(LstmVaeConfig):
    svi_steps: NonNegativeInt = 20  # K; He et al. (2019) ran it with 10
    # Of the mean over a batch, so that a sentence's own is this / svi_batch.
    svi_learning_rate: PositiveFloat = Field(1.0, json_schema_extra={"in_shape": False})
    svi_momentum: float = Field(0.5, ge=0, lt=1, json_schema_extra={"in_shape": False})
    # On a batch's gradients of means and of log-variances, each by itself.
    svi_clip: PositiveFloat = Field(5.0, json_schema_extra={"in_shape": False})
    # The same on what comes back through the steps; without it, inputless, gradients of 1e9 were seen.
    svi_backward_clip: PositiveFloat = Field(5.0, json_schema_extra={"in_shape": False})
    # Sentences in the batch that learning rate and clips are of.
    svi_batch: PositiveInt = Field(32, json_schema_extra={"in_shape": False})
    # Whether in training they are of the batch at hand, as in their code; evaluation takes each sentence by itself.
    svi_over: Literal["sentence", "batch"] = "sentence"
    second_order: SecondOrder = "exact"
    amortised: bool = True
    encoder_loss: EncoderLoss = "refined"

    def build(self, vocabulary: Vocabulary) -> "SaVae":
        self._check()
        vae = self.vae(vocabulary)
        if not self.amortised:
            del vae.encoder, vae.to_mean, vae.to_log_variance
        is_through = self.amortised and self.encoder_loss == "refined"
        return SaVae(
            vae,
            steps=self.svi_steps,
            descent=Descent(
                self.svi_learning_rate, self.svi_momentum, self.svi_clip, self.svi_backward_clip, self.svi_batch
            ),
            over_batch=self.svi_over == "batch",
            second_order=self.second_order if is_through else None,
            amortised=self.amortised,
            encoder_loss=self.encoder_loss,
        )

    def _check(self) -> None:
        if self.delta > 0.0:
            raise ValueError(
                f"refinement would leave the posteriors that delta {self.delta:g} allows; leave it 0, or give "
                "kind: lstm_vae"
            )
        if not self.amortised and self.encoder_loss != "refined":
            raise ValueError(
                f"amortised: false has no encoder that encoder_loss: {self.encoder_loss} could teach; leave one of "
                "them out"
            )
        if not self.amortised and self.encoder_dropout > 0.0:
            raise ValueError(
                f"amortised: false has no encoder for encoder_dropout {self.encoder_dropout:g}; leave one of them out"
            )
        if not self.amortised and self.svi_steps == 0:
            raise ValueError(
                "amortised: false without a step leaves every posterior at the prior; give svi_steps 1 or more"
            )
        if self.second_order != "exact" and not (self.amortised and self.encoder_loss == "refined"):
            raise ValueError(
                f"second_order: {self.second_order} is about differentiating through refinement, which is done with an "
                "encoder and encoder_loss: refined alone; leave it out"
            )
        if self.second_order == "kim_clip" and self.svi_over != "batch":
            raise ValueError(
                "second_order: kim_clip clips what a whole batch has together, and svi_over: sentence takes each by "
                "itself; give svi_over: batch"
            )
        is_clipped_back = self.amortised and self.encoder_loss == "refined" and self.second_order != "kim_clip"
        if self.svi_backward_clip != Config.model_fields["svi_backward_clip"].default and not is_clipped_back:
            raise ValueError(
                f"svi_backward_clip {self.svi_backward_clip:g} is of what comes back through the steps, which takes an "
                "encoder, encoder_loss: refined and another second_order than kim_clip; leave it out"
            )


class SaVae(LatentModel, StartsFromTrained):
    is_repeatable = False  # its steps draw from generators that the sentences name

    def __init__(
        self,
        vae: LstmVae,
        *,
        steps: int,
        descent: Descent,
        over_batch: bool,
        second_order: SecondOrder | None,
        amortised: bool,
        encoder_loss: EncoderLoss,
    ):
        """second_order: None where no gradient goes through the steps. amortised: whether vae has an encoder."""
        super().__init__()
        self.vae = vae
        self.steps = steps
        self.descent = descent
        self.over_batch = over_batch
        self.second_order = second_order
        if second_order in ("finite", "kim_clip"):
            self.single_alone = f"second_order: {second_order} takes differences, which"
        self.amortised = amortised
        self.encoder_loss = encoder_loss
        self.beta = 1.0
        self.latents_per_sentence = vae.latents_per_sentence
        self.training_draws = vae.training_draws

    @property
    def charge(self) -> Charge:  # type: ignore[override]
        return self.vae.charge

    @property
    def decoder(self) -> LstmDecoder:  # type: ignore[override]
        return self.vae.decoder

    def initialise(self, generator: torch.Generator) -> None:
        self.vae.initialise(generator)

    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        return self.vae.draw_noise(num_sentences, draws, generator)

    def draw_prior(self, num: int, generator: torch.Generator) -> Tensor:
        return self.vae.draw_prior(num, generator)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """As of an LSTM-VAE. Raises ValueError where there is no encoder to take the weights."""
        if not self.amortised:
            raise ValueError("start: trained is for encoders, and amortised: false has none; leave one of them out")
        self.vae.start_from(weights)

    def weighing(self, beta: float) -> "SaVae":
        weighed = copy.copy(self)
        weighed.beta = beta
        return weighed

    def posterior(self, tokens: Tensor, generator: torch.Generator) -> DiagonalGaussian:
        start = self.vae.posterior(tokens, generator) if self.amortised else self._prior(len(tokens))
        if self.steps == 0:
            return start
        parameters, weights = torch.stack([start.mean, start.log_variance]), list(self.vae.parameters())
        descent = self.descent
        if self.training and self.over_batch:
            descent = replace(descent, batch=len(tokens), together=True)
        steps = self._losses(tokens, generator, descent.batch)
        if self.second_order is not None and torch.is_grad_enabled():
            refined = descent.run(parameters, steps, through(descent, self.second_order, weights))
            return DiagonalGaussian(*refined.unbind())
        found = DiagonalGaussian(*descent.run(parameters.detach(), steps, once(descent, weights)).unbind())
        return replace(found, beside=self._lesson(start, found, tokens, generator))

    def log_likelihood(
        self, tokens: Tensor, latents: Tensor, generator: torch.Generator, *, equal_weights: bool = False
    ) -> Tensor:
        return self.vae.log_likelihood(tokens, latents, generator, equal_weights=equal_weights)

    def reader(self, latents: Tensor) -> Reader:
        return self.vae.reader(latents)

    @property
    def operations_per_token(self) -> float:
        one = self.latents_per_sentence * operations(self.decoder.lstm) + operations(self.decoder.to_logits)
        each = 2.0 / 3.0 if self.second_order is None else 8.0 / 3.0
        encoder = operations(self.vae.encoder) if self.amortised else 0.0
        return encoder + (self.training_draws + self.steps * each) * one

    def _prior(self, sentences: int) -> DiagonalGaussian:
        zeros = at_least_single(self.decoder.to_logits.weight.new_zeros(sentences, self.vae.latent_dim))
        return DiagonalGaussian(zeros, zeros)

    def _losses(self, tokens: Tensor, generator: torch.Generator, batch: int) -> list[InnerLoss]:
        """What each step lowers: the −ELBO of training at one draw, with noise and dropout of its own."""
        seed, noise = seed_of(generator), self._noise(tokens, generator)
        names = [name for name, _ in self.vae.named_parameters()]

        def lowered_by(step: int) -> InnerLoss:
            def loss(parameters: Tensor, weights: Sequence[Tensor], twice: bool) -> Tensor:
                source = named_generator(seed, f"dropout of step {step}", tokens.device)
                arguments = parameters, tokens, noise[step : step + 1], self.beta, source, twice
                each: Tensor = functional_call(
                    self.vae, dict(zip(names, weights, strict=True)), (_nelbo, *arguments)
                )  # fmt: skip
                return each.sum() / batch

            return loss

        return [lowered_by(step) for step in range(self.steps)]

    def _noise(self, tokens: Tensor, generator: torch.Generator) -> Tensor:
        """(K, L, B, n), a draw for each step. In evaluation each sentence's come from its words and the seed alone."""
        if self.training:
            return self.draw_noise(len(tokens), self.steps, generator)
        seed = generator.initial_seed()
        sources = [named_generator(seed, f"refinement of {words}", tokens.device) for words in tokens.tolist()]
        return torch.cat([self.draw_noise(1, self.steps, source) for source in sources], dim=2)

    def _lesson(
        self, start: DiagonalGaussian, refined: DiagonalGaussian, tokens: Tensor, generator: torch.Generator
    ) -> Tensor | None:
        """(B,) what teaches an encoder that no gradient comes to through the steps; None where none is to be taught."""
        if not (torch.is_grad_enabled() and self.amortised):
            return None
        if self.encoder_loss == "kl":
            return refined.kl_from(start)
        fixed = {name: parameter.detach() for name, parameter in self.vae.named_parameters()}
        parameters = torch.stack([start.mean, start.log_variance])
        noise = self.draw_noise(len(tokens), 1, generator)
        lesson: Tensor = functional_call(
            self.vae, fixed, (_nelbo, parameters, tokens, noise, self.beta, generator, False)
        )  # fmt: skip
        return lesson


def _nelbo(
    vae: LstmVae,
    parameters: Tensor,
    tokens: Tensor,
    noise: Tensor,
    beta: float,
    generator: torch.Generator,
    twice: bool,
) -> Tensor:
    """(B,) reconstruction and the charged KL times beta, nats, of posteriors with (2, B, n) parameters."""
    posterior = DiagonalGaussian(*parameters.unbind())
    log_p = vae.log_likelihood(tokens, posterior.sample(noise), generator, equal_weights=not twice, twice=twice)
    bound = Bound(-log_p.mean(dim=0), posterior.kl_terms(), vae.latents_per_sentence, vae.charge(posterior))
    return at_least_single(bound.rec) + beta * bound.charged.sum(dim=1)
