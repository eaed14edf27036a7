"""Does a model use its latents? Mutual information, active units, the KL's spectrum, and latents that are exchanged.

All of one latent, whatever number of them a likelihood is given, from one draw a sentence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.batch import batches_of_tokens, on_device, sequential_batches
from data.corpus import Split
from model.core import LatentModel, Posterior
from model.draws import Draws
from model.randomness import generator

PAIRS_AT_ONCE = 2**22
"""Densities of a latent under a posterior at a time."""


@torch.no_grad()
def measure_use(
    model: LatentModel, split: Split, seed: int, purpose: str, tokens_at_once: int, batch: int
) -> tuple[Mapping[str, float], list[float]]:
    """Diagnostics of a split by name, and the (n,) KL of each dimension, mean over sentences; nats.

    `mi`: E [log q(z|x) − log q(z)], with the aggregate posterior q(z) of the whole split, which cannot exceed the log
    of its number of sentences; `mi_se`, its standard error over sentences. `mi_b32`: as the code of He et al. (2019)
    has it, with q(z) of each `batch` sentences of one length, mean over sentences, and E log q(z|x) in closed form,
    which has the same mean and more noise.
    `kl_aggregate`: KL(q(z) ‖ p(z)), mean KL − mi. `active_units`, only of a family that says what is active. `swap`: by
    how many nats another sentence's latents reconstruct worse. The model is in evaluation mode.
    """
    assert not model.training
    some = _encode(model, split, seed, purpose, tokens_at_once)
    information = some.own - _log_aggregate(some.latents, some.posteriors)
    kl_terms = torch.cat([posterior.kl_terms().double() for posterior in some.posteriors])
    mi = information.mean().item()
    found = {
        "mi": mi,
        "mi_se": information.std().item() / math.sqrt(len(information)) if len(information) > 1 else 0.0,
        "mi_b32": information_in_pools(model, split, seed, purpose, batch),
        "kl_aggregate": kl_terms.sum(dim=1).mean().item() - mi,
        **_active_units(some.posteriors),
        "swap": _swapped(model, split, some, seed, purpose, tokens_at_once),
    }
    return found, kl_terms.mean(dim=0).tolist()


@torch.no_grad()
def information_in_pools(model: LatentModel, split: Split, seed: int, purpose: str, size: int) -> float:
    """Mutual information of x and z as the code of He et al. (2019) estimates it, nats, mean over sentences.

    In pools of `size` sentences of one length, whose logarithm it cannot exceed; see `mi_b32` of `measure_use`. In
    evaluation mode; leaves the model in the mode it was in.
    """
    device, total = next(model.parameters()).device, 0.0
    was_training = model.training
    model.eval()
    for batch in on_device(sequential_batches(split, size), device):
        draws = Draws(model, batch.indices.tolist(), seed, purpose, device)
        posterior = model.posterior(batch.tokens, draws.inference)
        aggregate = _log_aggregate(posterior.sample(draws.take(1))[0, 0], [posterior])
        total -= (posterior.entropy() + aggregate).sum().item()
    model.train(was_training)
    return total / split.num_sentences


@dataclass(frozen=True)
class _Encoded:
    """A split's posteriors by batch, shortest sentences first; (N, n) latents, one each, and (N,) their own log q."""

    posteriors: Sequence[Posterior]
    latents: Tensor
    own: Tensor


def _encode(model: LatentModel, split: Split, seed: int, purpose: str, tokens_at_once: int) -> _Encoded:
    device = next(model.parameters()).device
    posteriors, latents, own = [], [], []
    for batch in on_device(batches_of_tokens(split, tokens_at_once), device):
        draws = Draws(model, batch.indices.tolist(), seed, purpose, device)
        posterior = model.posterior(batch.tokens, draws.inference)
        posteriors.append(posterior)
        latents.append(posterior.sample(draws.take(1))[0, 0])
        own.append(posterior.log_density(latents[-1]).diagonal())
    return _Encoded(posteriors, torch.cat(latents), torch.cat(own))


def _active_units(posteriors: Sequence[Posterior]) -> Mapping[str, float]:
    """Dimensions of a split's posteriors whose location varies over sentences, or nothing."""
    threshold = posteriors[0].active_variance
    if threshold is None:
        return {}
    location = torch.cat([posterior.location.double() for posterior in posteriors])
    variance = location.var(dim=0) if len(location) > 1 else torch.zeros_like(location[0])
    return {"active_units": float((variance >= threshold).sum().item())}


def _log_aggregate(latents: Tensor, posteriors: Sequence[Posterior]) -> Tensor:
    """(M,) log (1/N) Σ_k q(z_i|x_k) of (M, n) latents over all N sentences, float64."""
    total = torch.full((len(latents),), -math.inf, dtype=torch.float64, device=latents.device)
    for posterior in posteriors:
        rows = max(1, PAIRS_AT_ONCE // len(posterior.location))
        parts = [posterior.log_density(some).logsumexp(dim=1) for some in torch.split(latents, rows)]
        total = torch.logaddexp(total, torch.cat(parts))
    return total - math.log(sum(len(posterior.location) for posterior in posteriors))


def _swapped(
    model: LatentModel, split: Split, some: _Encoded, seed: int, purpose: str, tokens_at_once: int
) -> float:  # fmt: skip
    """Mean over sentences of log p(x_i | z_i) − log p(x_i | z_j), z repeated where a likelihood is given several."""
    device, num = some.latents.device, len(some.latents)
    if num < 2:
        return 0.0
    # A cycle through a random order: nobody keeps its own.
    order = torch.randperm(num, generator=generator(seed, f"{purpose}/swap"))
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    total, done, unused = 0.0, 0, torch.Generator(device)
    copies = model.latents_per_sentence
    for batch in on_device(batches_of_tokens(split, max(1, tokens_at_once // copies)), device):
        rows = slice(done, done + len(batch.tokens))
        done = rows.stop
        own, foreign = some.latents[rows], some.latents[other[rows].to(device)]
        pair = torch.stack([own, foreign]).unsqueeze(1).expand(-1, copies, -1, -1)
        log_p = model.log_likelihood(batch.tokens, pair, unused).double()
        total += (log_p[0] - log_p[1]).sum().item()
    return total / num
