"""The diagonal Gaussian posterior against the standard-normal prior (Kingma and Welling 2014)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.core import Posterior


@dataclass(frozen=True)
class DiagonalGaussian(Posterior):
    """q(z|x) = N(mean, diag exp(log_variance)); both (B, n)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def log_ratio(self, latents: Tensor) -> Tensor:
        standardised = (latents - self.mean) * torch.exp(-0.5 * self.log_variance)
        return 0.5 * (standardised.square() - latents.square() + self.log_variance).sum(dim=-1)

    def kl_terms(self) -> Tensor:
        # Appendix B of Kingma and Welling 2014.
        return 0.5 * (self.mean.square() + torch.expm1(self.log_variance) - self.log_variance)


def largest_log_variance(kl: float) -> float:
    """log σ² below 0 at which the KL of one dimension is `kl` nats when its mean is 0 (Razavi et al. 2019, section 2).

    The root of ½ (σ² − 1 − log σ²) = kl, by bisection: the left side falls all the way from σ² = 0 to 1.
    """
    low, high = -2.0 * kl - 1.0, 0.0
    while (middle := 0.5 * (low + high)) not in (low, high):
        low, high = (middle, high) if 0.5 * (math.expm1(middle) - middle) > kl else (low, middle)
    return low
