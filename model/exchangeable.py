"""A prior in which the L latents of a sentence are correlated: how the correlations are fitted, and drawing from it.

It makes a bound out of averaged hidden states' reconstruction that is much tighter than L independent priors do, since
L draws from one posterior are alike. Each latent by itself stays N(0, I).
"""

import torch
from torch import Tensor

from data.batch import batches_of_tokens, on_device
from data.corpus import Split
from model.core import Exchangeable, LatentModel

GRID, HALVINGS = 2001, 60
"""Correlations that are tried, and then how often the best one's neighbourhood is halved."""


def best_correlation(square: Tensor, variance: Tensor, latents: int) -> Tensor:
    """(n,) float64, the correlations with the lowest mean KL, from the means of `Exchangeable.moments`, each (n,)."""
    square, variance = square.double().unsqueeze(1), variance.double().unsqueeze(1)

    def kl(position: Tensor) -> Tensor:
        together, apart = _eigenvalues(position, latents)
        scaled = variance * (1.0 / together + (latents - 1) / apart) + square * latents / together
        return scaled + together.log() + (latents - 1) * apart.log()

    # The mean KL may have two minima, so that no descent from one place will do.
    positions = torch.linspace(-16.0, 16.0, GRID, dtype=torch.float64, device=square.device)
    width = torch.full_like(square, 32.0 / (GRID - 1))
    best = positions[kl(positions.expand(len(square), -1)).argmin(dim=1)].unsqueeze(1)
    for _ in range(HALVINGS):
        tried = torch.cat([best - width, best, best + width], dim=1)
        best = tried.gather(1, kl(tried).argmin(dim=1, keepdim=True))
        width = width / 2
    return 1.0 - _eigenvalues(best, latents)[1].squeeze(1)


def _eigenvalues(position: Tensor, latents: int) -> tuple[Tensor, Tensor]:
    """Of the prior's covariance, along the latents' mean and across it: positive for every place on the line."""
    return latents * torch.sigmoid(position), latents / (latents - 1) * torch.sigmoid(-position)


@torch.no_grad()
def fit_correlation(model: LatentModel, split: Split, tokens_at_once: int) -> Tensor:
    """(n,) correlations with the lowest mean KL on a split, which must not be the test split.

    (0,) where a likelihood is given one latent, or the family has no such prior.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    unused = torch.Generator(device)
    sums: Tensor | None = None
    for batch in on_device(batches_of_tokens(split, tokens_at_once), device):
        posterior = model.posterior(batch.tokens, unused)
        if model.latents_per_sentence < 2 or not isinstance(posterior, Exchangeable):
            break
        moments = torch.stack([each.double().sum(dim=0) for each in posterior.moments()])
        sums = moments if sums is None else sums + moments
    model.train(was_training)
    if sums is None:
        return torch.zeros(0, dtype=torch.float64, device=device)
    square, variance = sums / split.num_sentences
    return best_correlation(square, variance, model.latents_per_sentence)


def sample_prior(draws: int, latents: int, correlation: Tensor, generator: torch.Generator) -> Tensor:
    """(S, L, n) latents from the prior with (n,) correlations, on the generator's device."""
    noise = torch.randn(draws, latents, len(correlation), generator=generator, device=generator.device)
    rho = correlation.to(noise)
    mean = noise.mean(dim=1, keepdim=True)
    return (1.0 + (latents - 1) * rho).sqrt() * mean + (1.0 - rho).sqrt() * (noise - mean)
