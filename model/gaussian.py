"""The diagonal Gaussian posterior against the standard-normal prior (Kingma and Welling 2014)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.core import Exchangeable

ACTIVE = 0.01
"""Variance over sentences of a posterior's mean from which a dimension counts as active (Burda et al. 2016)."""


@dataclass(frozen=True)
class DiagonalGaussian(Exchangeable):
    """q(z|x) = N(mean, diag exp(log_variance)); both (B, n)."""

    mean: Tensor
    log_variance: Tensor
    beside: Tensor | None = None

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def log_ratio(self, latents: Tensor) -> Tensor:
        standardised = (latents - self.mean) * torch.exp(-0.5 * self.log_variance)
        return 0.5 * (standardised.square() - latents.square() + self.log_variance).sum(dim=-1)

    def kl_terms(self) -> Tensor:
        # Appendix B of Kingma and Welling 2014.
        return 0.5 * (self.mean.square() + torch.expm1(self.log_variance) - self.log_variance)

    def kl_from(self, other: "DiagonalGaussian") -> Tensor:
        """(B,) KL(other ‖ q), nats."""
        distance = (other.mean - self.mean).square() * torch.exp(-self.log_variance)
        wider = other.log_variance - self.log_variance
        return 0.5 * (distance + torch.expm1(wider) - wider).sum(dim=1)

    @property
    def location(self) -> Tensor:
        return self.mean

    @property
    def active_variance(self) -> float:
        return ACTIVE

    def entropy(self) -> Tensor:
        return 0.5 * (math.log(2.0 * math.pi) + 1.0 + self.log_variance.double()).sum(dim=1)

    def log_density(self, latents: Tensor) -> Tensor:
        z, mean, log_variance = latents.double(), self.mean.double(), self.log_variance.double()
        precision = torch.exp(-log_variance)
        # (z − μ)² / σ², multiplied out, so that no array has M, B and n.
        squares = z.square() @ precision.t() - 2.0 * z @ (mean * precision).t() + (mean.square() * precision).sum(dim=1)
        return -0.5 * (squares + (math.log(2.0 * math.pi) + log_variance).sum(dim=1))

    def moments(self) -> tuple[Tensor, Tensor]:
        return self.mean.square(), self.log_variance.exp()

    def correlated_kl_terms(self, latents: int, correlation: Tensor) -> Tensor:
        square, variance = self.moments()
        together, apart = eigenvalues(latents, correlation)
        scaled = variance * (1.0 / together + (latents - 1) / apart) + square * latents / together
        return 0.5 * (scaled - latents * (1.0 + self.log_variance) + together.log() + (latents - 1) * apart.log())

    def correlated_log_ratio(self, latents: Tensor, correlation: Tensor) -> Tensor:
        num = latents.shape[1]
        together, apart = eigenvalues(num, correlation)
        mean = latents.mean(dim=1, keepdim=True)
        squares = num * mean.squeeze(1).square() / together + (latents - mean).square().sum(dim=1) / apart
        log_prior = -0.5 * (squares + together.log() + (num - 1) * apart.log())
        standardised = (latents - self.mean) * torch.exp(-0.5 * self.log_variance)
        log_posterior = -0.5 * (standardised.square().sum(dim=1) + num * self.log_variance)
        return (log_prior - log_posterior).sum(dim=-1)


def eigenvalues(latents: int, correlation: Tensor) -> tuple[Tensor, Tensor]:
    """Of the covariance (1 − ρ) I + ρ 11ᵀ of L latents: along their mean, and L − 1 times across it."""
    return 1.0 + (latents - 1) * correlation, 1.0 - correlation


def largest_log_variance(kl: float) -> float:
    """log σ² below 0 at which the KL of one dimension is `kl` nats when its mean is 0 (Razavi et al. 2019, section 2).

    The root of ½ (σ² − 1 − log σ²) = kl, by bisection: the left side falls all the way from σ² = 0 to 1.
    """
    low, high = -2.0 * kl - 1.0, 0.0
    while (middle := 0.5 * (low + high)) not in (low, high):
        low, high = (middle, high) if 0.5 * (math.expm1(middle) - middle) > kl else (low, middle)
    return low
