"""The importance-weighted objective (Burda et al. 2016, Eq. 8): −log of the mean weight over the S draws of a step.

A bound that is tighter the more draws there are: `model.samples` of an LSTM-VAE. Of several latents that one likelihood
is given, each has its own ratio, so that it is strict for averaged hidden states too.
"""

import math

import torch
from torch import Tensor

from model.core import Bound, LatentModel, TextModel
from model.objective import Objective, check_latent
from model.precision import at_least_single


class Config(Objective):
    def loss(
        self, model: TextModel, tokens: Tensor, noise: Tensor, generator: torch.Generator, *moment: float | Tensor
    ) -> tuple[Tensor, Bound]:
        assert isinstance(model, LatentModel)
        [beta] = moment
        posterior = model.posterior(tokens, generator)
        latents = posterior.sample(noise)
        log_p = at_least_single(model.log_likelihood(tokens, latents, generator))
        log_weights = log_p + beta * at_least_single(posterior.log_ratio(latents)).sum(dim=1)
        value = (math.log(len(log_weights)) - log_weights.logsumexp(dim=0)).mean()
        kl_terms = at_least_single(posterior.kl_terms())
        return value, Bound(-log_p.mean(dim=0), kl_terms, model.latents_per_sentence, beside=posterior.beside)

    def check(self, model: TextModel) -> None:
        check_latent(model, "objective iwae")
        if isinstance(model, LatentModel) and (setting := model.charge.beyond_ratios) is not None:
            raise ValueError(
                f"objective iwae weighs each latent by its own ratio, so that {setting} can do nothing; "
                "leave it out, or give objective: elbo"
            )
