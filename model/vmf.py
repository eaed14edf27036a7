"""The von Mises–Fisher posterior of fixed concentration against the uniform prior on the sphere (Xu and Durrett 2018).

Latents are unit vectors of R^n, densities are with respect to the sphere's surface. The KL depends on κ and n alone: it
is chosen and not learned. A posterior cannot collapse, and a KL weight or its annealing has no gradient to act on.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.core import Charge, Posterior
from model.decode import between


@dataclass(frozen=True)
class Concentration:
    """κ around a direction of R^n, `dim` = n, with what follows from the two; made by `of`, in float64.

    log_scale: ln E exp(κ z_1) of z uniform on the sphere, so that ln q(z|x) / p(z) = κ μ̂ᵀz − log_scale.
    mean_cosine: E μ̂ᵀz = I_{n/2}(κ) / I_{n/2−1}(κ).
    """

    kappa: float
    dim: int
    log_scale: float
    mean_cosine: float

    @classmethod
    def of(cls, kappa: float, dim: int) -> "Concentration":
        """Raises ValueError where there is no sphere to be concentrated on."""
        if dim < 2:
            raise ValueError(
                f"latents of vmf_vae are points of a sphere, which takes latent_dim 2 or more, not {dim}; give it more"
            )
        # E exp(κ z_1) = Γ(ν + 1) (2/κ)^ν I_ν(κ), ν = n/2 − 1, is the power series Σ_k (κ²/4)^k Γ(ν+1) / (k! Γ(ν+k+1)):
        # all terms are positive, so that nothing cancels. From k = κ on each is less than a quarter of the one before.
        index = np.arange(1.0, kappa + 60.0)
        log_terms = np.cumsum(2.0 * math.log(kappa / 2.0) - np.log(index) - np.log(0.5 * dim - 1.0 + index))
        log_scale = float(np.logaddexp.reduce(log_terms, initial=0.0))
        # The derivative of its logarithm in κ, term by term.
        mean_cosine = 2.0 / kappa * float(index @ np.exp(log_terms - log_scale))
        return cls(kappa, dim, log_scale, mean_cosine)

    @property
    def kl(self) -> float:
        """Of the posterior from the uniform prior, nats."""
        return self.kappa * self.mean_cosine - self.log_scale

    @property
    def log_area(self) -> float:
        """Of the sphere: −ln p(z), nats."""
        return math.log(2.0) + 0.5 * self.dim * math.log(math.pi) - math.lgamma(0.5 * self.dim)

    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """(num, n) exact draws around the first axis (Wood 1994), float32; waits for the generator's device."""
        drawn = torch.empty(0, self.dim, device=generator.device)
        while (left := num - len(drawn)) > 0:
            # As measured, 65 % or more are taken whatever n and κ, so that one round nearly always does.
            proposed, is_taken = self._propose(2 * left + 8, generator)
            drawn = torch.cat([drawn, proposed[is_taken][:left].float()])
        return drawn

    def _propose(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(num, n) float64 points of the sphere, and (num,) whether each is taken.

        Wood's ε ~ Beta((n−1)/2, (n−1)/2) is (1 − y_1) / 2 of y uniform on the sphere, whose other coordinates give the
        direction across. With y_1 his w = (1 − (1+b)ε) / (1 − (1−b)ε) is (x0 + y_1) / (1 + x0 y_1), and
        1 − w² = (1 − x0²) (1 − y_1²) / (1 + x0 y_1)², so that there is no root of a difference near 0.
        """
        free = self.dim - 1
        b = free / (2.0 * self.kappa + math.sqrt(4.0 * self.kappa**2 + free**2))
        x0, rest = (1.0 - b) / (1.0 + b), 4.0 * b / (1.0 + b) ** 2  # rest = 1 − x0²
        device = generator.device
        y = torch.randn(num, self.dim, generator=generator, device=device, dtype=torch.float64)
        y = functional.normalize(y, dim=1)
        scale = 1.0 + x0 * y[:, :1]
        proposed = torch.cat([x0 + y[:, :1], math.sqrt(rest) * y[:, 1:]], dim=1) / scale
        # κ w + (n−1) ln(1 − x0 w) − c, with c = κ x0 + (n−1) ln(1 − x0²), in terms of y_1.
        log_accepted = self.kappa * rest * y[:, 0] / scale[:, 0] - free * scale[:, 0].log()
        chance = torch.rand(num, generator=generator, device=device, dtype=torch.float64)
        return proposed, log_accepted >= chance.log()


def draw_uniform(num: int, dim: int, generator: torch.Generator) -> Tensor:
    """(num, dim) draws from the prior, on the generator's device."""
    return functional.normalize(torch.randn(num, dim, generator=generator, device=generator.device), dim=1)


@dataclass(frozen=True)
class VonMisesFisher(Posterior):
    """q(z|x) = vMF(direction, κ). direction: (B, n) unit vectors μ̂.

    length: (B,) of the vectors that the directions were taken from, of which q knows nothing.
    """

    direction: Tensor
    length: Tensor
    concentration: Concentration

    @classmethod
    def towards(cls, vectors: Tensor, concentration: Concentration) -> "VonMisesFisher":
        """In the directions of (B, n) vectors other than 0."""
        return cls(functional.normalize(vectors, dim=1), vectors.norm(dim=1), concentration)

    def sample(self, noise: Tensor) -> Tensor:
        """Noise: draws around the first axis e_1, which a reflection takes to μ̂.

        κ is fixed, so that the noise has no parameter, and the gradient through the reflection is the exact one.
        """
        first = self.direction[:, :1]
        # −s H, with s the sign of μ̂_1 and H the Householder reflection that takes e_1 to −s μ̂: its axis μ̂ + s e_1 is
        # never shorter than √2, where that of the one that takes e_1 to μ̂ vanishes at μ̂ = e_1.
        sign = torch.where(first < 0.0, -1.0, 1.0)
        axis = torch.cat([first + sign, self.direction[:, 1:]], dim=1)
        along = (noise * axis).sum(dim=-1, keepdim=True) / (1.0 + sign * first)
        return sign * (along * axis - noise)

    def log_ratio(self, latents: Tensor) -> Tensor:
        cosine = (latents * self.direction).sum(dim=-1)
        return self.concentration.log_scale - self.concentration.kappa * cosine

    def kl_terms(self) -> Tensor:
        return self.direction.new_full((len(self.direction), 1), self.concentration.kl)

    @property
    def location(self) -> Tensor:
        return self.direction

    @property
    def active_variance(self) -> None:
        # The coordinates of a unit vector have a variance of 1/n at the most, all together of 1.
        return None

    def entropy(self) -> Tensor:
        nats = self.concentration.log_area - self.concentration.kl
        return torch.full_like(self.length, nats, dtype=torch.float64)

    def log_density(self, latents: Tensor) -> Tensor:
        cosine = latents.double() @ self.direction.double().t()
        return self.concentration.kappa * cosine - self.concentration.log_scale - self.concentration.log_area


@between.register
def along_the_sphere(one: VonMisesFisher, other: VonMisesFisher, shares: Tensor) -> Tensor:
    """(N, n) unit vectors on the shortest arc, in even angles: spherical interpolation (Shoemake 1985)."""
    cosine = (one.direction * other.direction).sum(dim=1, keepdim=True)
    across = other.direction - cosine * one.direction
    sine = across.norm(dim=1, keepdim=True)
    angles = shares.unsqueeze(1) * torch.atan2(sine, cosine)
    return angles.cos() * one.direction + angles.sin() * functional.normalize(across, dim=1)


class NormPenalty(Charge):
    """The KL of one latent, and weight · (‖μ‖ − 1)² of the vector μ before it is normalised (the authors' code).

    In training alone; no bound and no KL that is reported has it. It is scaled with the KL by the schedule's weight.
    """

    beyond_ratios = "norm_penalty"

    def __init__(self, weight: float):
        super().__init__()
        self.weight = weight

    def forward(self, posterior: Posterior) -> Tensor:
        assert isinstance(posterior, VonMisesFisher)
        return posterior.kl_terms() + self.weight * (posterior.length - 1.0).square().unsqueeze(1)
