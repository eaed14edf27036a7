"""Importance weights: one posterior a sentence, draws in chunks, so that memory does not grow with their number."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from model.core import LatentModel


@dataclass(frozen=True)
class Weighed:
    """Some draws of the latents of B sentences, float64, nats.

    log_likelihood: (S, B) log p(x | z^(1..L)). log_ratio: (S, L, B) log p(z) − log q(z | x) of each latent.
    """

    log_likelihood: Tensor
    log_ratio: Tensor


@torch.no_grad()
def weigh(
    model: LatentModel, tokens: Tensor, draws: int, generator: torch.Generator, *, tokens_at_once: int
) -> Iterator[Weighed]:
    """Draws from the posterior of (B, T) tokens, `draws` in all, in chunks of about `tokens_at_once` decoded tokens.

    The model is in evaluation mode.
    """
    assert not model.training
    posterior = model.posterior(tokens, generator)
    chunk = max(1, tokens_at_once // (tokens.numel() * model.latents_per_sentence))
    for start in range(0, draws, chunk):
        noise = model.draw_noise(len(tokens), min(chunk, draws - start), generator)
        latents = posterior.sample(noise)
        log_p = model.log_likelihood(tokens, latents, generator)
        yield Weighed(log_p.double(), posterior.log_ratio(latents).double())


def importance_nll(
    model: LatentModel, tokens: Tensor, draws: int, generator: torch.Generator, *, tokens_at_once: int
) -> Tensor:
    """(B,) −log (1/K) Σ_k p(x | z_k) Π_l p(z_k^l) / q(z_k^l | x), nats per sentence, K = `draws` (Burda et al. 2016).

    In expectation an upper bound on −log p(x) that falls with K; at K = 1 the ELBO's own.
    """
    total = torch.full((len(tokens),), -math.inf, dtype=torch.float64, device=tokens.device)
    for some in weigh(model, tokens, draws, generator, tokens_at_once=tokens_at_once):
        log_weights = some.log_likelihood + some.log_ratio.sum(dim=1)
        total = torch.logaddexp(total, log_weights.logsumexp(dim=0))
    return math.log(draws) - total
