"""Which KL training charges for the L latents that one likelihood is given: one of them, each, or their joint one.

The first is the paper's (section 3.2), with which the loss is no bound on −log p(x) for L > 1; the others make it one.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from model.core import Charge, Exchangeable, Posterior
from model.precision import at_least_single

AverageKl = Literal["paper", "strict", "exch"]


class OneKl(Charge):
    is_apart = False

    def forward(self, posterior: Posterior) -> Tensor | None:
        return None


class EveryKl(Charge):
    """Of independent latents."""

    def __init__(self, latents: int):
        super().__init__()
        self.latents = latents

    def forward(self, posterior: Posterior) -> Tensor:
        return self.latents * posterior.kl_terms()


class JointKl(Charge):
    """Of latents with an exchangeable prior, whose correlations are learned with everything else."""

    beyond_ratios = "average_kl: exch"

    def __init__(self, latents: int, latent_dim: int):
        super().__init__()
        self.latents = latents
        self.logits = nn.Parameter(torch.empty(latent_dim))

    def forward(self, posterior: Posterior) -> Tensor:
        assert isinstance(posterior, Exchangeable)
        return posterior.correlated_kl_terms(self.latents, torch.sigmoid(at_least_single(self.logits)))


def charge_of(which: AverageKl, latents: int, latent_dim: int) -> Charge:
    """Of L = `latents` that one likelihood is given. Raises ValueError where there is nothing to choose."""
    if which != "paper" and latents == 1:
        raise ValueError(
            f"average_kl: {which} is about several latents in one likelihood, and this model has one; "
            "leave it out, or give average: true and samples above 1"
        )
    match which:
        case "paper":
            return OneKl()
        case "strict":
            return EveryKl(latents)
        case "exch":
            return JointKl(latents, latent_dim)
