"""Importance-weighted −log p(x) (Burda et al. 2016), in every form that a bound comes in, for every latent family.

One posterior a sentence, draws in chunks, so that memory does not grow with their number; weights add up in float64.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.bounds import FORMS
from model.core import Exchangeable, LatentModel, Posterior
from model.draws import BLOCK, Draws


@dataclass(frozen=True)
class Weighed:
    """(B,) float64 each: `nll`, −log of the mean weight, nats; `ess`, (Σ w)² / Σ w², the effective number of draws."""

    nll: Tensor
    ess: Tensor


@torch.no_grad()
def importance_weighted(
    model: LatentModel, tokens: Tensor, draws: int, noise: Draws, correlation: Tensor, *, tokens_at_once: int
) -> Mapping[str, Weighed]:
    """By form, of (B, T) tokens, from K = `draws` draws of all latents, `tokens_at_once` tokens decoded at a time.

    `strict`: the mean over k of p(x | z_k^(1..L)) Π_l p(z_k^l) / q(z_k^l | x): in expectation a bound on −log p(x) that
    falls with K. `exch`: with the exchangeable prior of (n,) correlations in place of Π_l p. `l1`: of p(x | z_k^1), the
    model that is given one latent. `paper`: the geometric mean over l in place of the product, which bounds nothing
    when L > 1. At L = 1 all are the same. The model is in evaluation mode.
    """
    assert not model.training
    posterior = model.posterior(tokens, noise.inference)
    totals: dict[str, tuple[Tensor, Tensor]] = {}
    for latents in _chunks(model, posterior, tokens, draws, noise, tokens_at_once):
        for form, log_weights in _log_weights(model, posterior, tokens, latents, correlation).items():
            sums = log_weights.logsumexp(dim=0), (2.0 * log_weights).logsumexp(dim=0)
            before = totals.get(form)
            totals[form] = sums if before is None else (_add(before[0], sums[0]), _add(before[1], sums[1]))
    found = {
        form: Weighed(math.log(draws) - one, torch.exp(2.0 * one - two)) for form, (one, two) in totals.items()
    }  # fmt: skip
    return found if len(found) > 1 else dict.fromkeys(FORMS, found["strict"])


_add = torch.logaddexp


def _chunks(
    model: LatentModel, posterior: Posterior, tokens: Tensor, draws: int, noise: Draws, tokens_at_once: int
) -> Iterator[Tensor]:
    """(S, L, B, n) latents, `draws` in all."""
    most = tokens_at_once // (tokens.numel() * model.latents_per_sentence)
    chunk = max(1, most // BLOCK) * BLOCK
    for start in range(0, draws, chunk):
        yield posterior.sample(noise.take(min(chunk, draws - start)))


def _log_weights(
    model: LatentModel, posterior: Posterior, tokens: Tensor, latents: Tensor, correlation: Tensor
) -> Mapping[str, Tensor]:
    """(S, B) float64 by form; the strict one alone where a likelihood is given one latent."""
    unused = torch.Generator(tokens.device)
    log_p = model.log_likelihood(tokens, latents, unused).double()
    ratio = posterior.log_ratio(latents).double()
    strict = log_p + ratio.sum(dim=1)
    if latents.shape[1] == 1:
        return {"strict": strict}
    alone = model.log_likelihood(tokens, latents[:, :1], unused).double()
    exch = strict
    if isinstance(posterior, Exchangeable) and len(correlation):
        exch = log_p + posterior.correlated_log_ratio(latents.double(), correlation)
    return {"paper": log_p + ratio.mean(dim=1), "strict": strict, "exch": exch, "l1": alone + ratio[:, 0]}
