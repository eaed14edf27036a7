"""The diagonal Gaussian posterior against the standard-normal prior (Kingma and Welling 2014)."""

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

    def kl(self) -> Tensor:
        # Appendix B of Kingma and Welling 2014, summed over dimensions.
        return 0.5 * (self.mean.square() + torch.expm1(self.log_variance) - self.log_variance).sum(dim=1)
