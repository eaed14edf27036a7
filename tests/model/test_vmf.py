"""Von Mises–Fisher posteriors: exact constants, exact draws, exact gradients."""

import math

import pytest
import torch
from scipy import special
from torch import Tensor

from model.decode import between
from model.randomness import generator
from model.vmf import Concentration, VonMisesFisher, draw_uniform

CONCENTRATIONS = [(2, 1e-3), (2, 3.0), (3, 40.0), (4, 0.5), (25, 100.0), (32, 25.0), (50, 80.0), (200, 1.0), (32, 2e3)]
"""(n, κ)."""


def mean_vectors(num: int, dim: int, seed: int = 0) -> Tensor:
    return 3.0 * torch.randn(num, dim, generator=generator(seed, "means"))


def posterior(dim: int, kappa: float, num: int = 5) -> VonMisesFisher:
    return VonMisesFisher.towards(mean_vectors(num, dim), Concentration.of(kappa, dim))


def draws_of(some: VonMisesFisher, draws: int, seed: int = 1) -> Tensor:
    """(S, 1, B, n)."""
    num, dim = some.direction.shape
    noise = some.concentration.draw(draws * num, generator(seed, "noise"))
    return some.sample(noise.view(draws, 1, num, dim))


@pytest.mark.parametrize(
    ("dim", "kappa", "kl"),
    [(32, 25, 5.755), (32, 80, 17.863), (50, 35, 7.743), (50, 80, 19.515), (25, 25, 6.091), (100, 80, 18.411)],
)
def test_kl_of_known_concentrations(dim: int, kappa: float, kl: float) -> None:
    found = posterior(dim, kappa)
    assert found.concentration.kl == pytest.approx(kl, abs=5e-4)
    assert found.kl_terms().shape == (5, 1)
    assert found.kl().tolist() == pytest.approx([kl] * 5, abs=5e-4)


@pytest.mark.parametrize(("dim", "kappa"), CONCENTRATIONS)
def test_constants_are_those_of_bessel_functions(dim: int, kappa: float) -> None:
    """ln C = ν ln κ − n/2 ln 2π − ln I_ν(κ), ν = n/2 − 1; I = ive · e^κ."""
    found, order = Concentration.of(kappa, dim), 0.5 * dim - 1.0
    bessel, after = special.ive(order, kappa), special.ive(order + 1.0, kappa)
    assert found.mean_cosine == pytest.approx(after / bessel, rel=1e-10)
    area = special.gammaln(0.5 * dim) - math.log(2.0) - 0.5 * dim * math.log(math.pi)
    assert found.log_area == pytest.approx(-area, rel=1e-12)
    log_c = order * math.log(kappa) - 0.5 * dim * math.log(2.0 * math.pi) - math.log(bessel) - kappa
    assert -found.log_scale - found.log_area == pytest.approx(log_c, rel=1e-11, abs=1e-11)


def test_a_small_concentration_is_nearly_the_prior() -> None:
    """KL = κ² / 2n in the limit, where the difference of large constants would be noise."""
    for kappa in (1e-2, 1e-5):
        assert Concentration.of(kappa, 32).kl == pytest.approx(kappa**2 / 64, rel=1e-4)


@pytest.mark.parametrize("kappa", [0.1, 25.0, 1e5])
@pytest.mark.parametrize("dim", [2, 3, 32, 100])
def test_draws_are_accepted_as_wood_says(dim: int, kappa: float) -> None:
    """The proposals in his own terms: ε, b, x0, c."""
    concentration = Concentration.of(kappa, dim)
    proposed, is_taken = concentration._propose(4000, generator(0, "draws"))
    w = proposed[:, 0]
    m = dim - 1
    b = m / (2 * kappa + math.sqrt(4 * kappa**2 + m**2))
    x0 = (1 - b) / (1 + b)
    c = kappa * x0 + m * math.log(1 - x0**2)
    source = generator(0, "draws")
    y = torch.randn(4000, dim, generator=source, dtype=torch.float64)
    epsilon = 0.5 * (1 - y[:, 0] / y.norm(dim=1))
    assert torch.allclose(w, (1 - (1 + b) * epsilon) / (1 - (1 - b) * epsilon), atol=1e-9)
    log_u = torch.rand(4000, generator=source, dtype=torch.float64).log()
    margin = kappa * w + m * (1 - x0 * w).log() - c - log_u
    assert torch.equal(is_taken[margin.abs() > 1e-6], margin[margin.abs() > 1e-6] >= 0)
    assert 0.5 < is_taken.double().mean() <= 1.0
    # Across the first axis the direction is uniform: its own coordinate has the law of ε.
    assert torch.allclose(proposed.norm(dim=1), torch.ones(4000, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(("dim", "kappa"), [(32, 25.0), (2, 1.0), (3, 0.2), (50, 80.0), (5, 300.0)])
def test_draws_are_unit_vectors_as_concentrated_as_they_should_be(dim: int, kappa: float) -> None:
    some = posterior(dim, kappa)
    z = draws_of(some, 20_000)
    assert torch.allclose(z.norm(dim=-1), torch.ones(20_000, 1, 5), atol=1e-5)
    cosine = (z * some.direction).sum(dim=-1).double()
    error = cosine.std().item() / math.sqrt(cosine.numel())
    assert cosine.mean().item() == pytest.approx(some.concentration.mean_cosine, abs=4 * error)
    if (dim, kappa) == (32, 25.0):
        assert cosine.mean().item() == pytest.approx(0.552, abs=2e-3)
    # The mean latent is the mean direction, as long as the mean cosine: nothing is left across it.
    mean = z.double().mean(dim=(0, 1))
    assert torch.allclose(mean, some.concentration.mean_cosine * some.direction.double(), atol=0.03)
    # −E ln p/q is the KL.
    sampled = -some.log_ratio(z).double()
    error = sampled.std().item() / math.sqrt(sampled.numel())
    assert sampled.mean().item() == pytest.approx(some.concentration.kl, abs=4 * error + 1e-4)


def test_draws_have_the_law_of_the_cosine() -> None:
    """Its distribution function by quadrature of (1 − w²)^((n−3)/2) e^{κw}."""
    dim, kappa = 8, 6.0
    drawn = Concentration.of(kappa, dim).draw(100_000, generator(2, "noise"))[:, 0].double().sort().values
    w = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    density = (1 - w**2) ** (0.5 * (dim - 3)) * torch.exp(kappa * (w - 1))
    total = torch.cumulative_trapezoid(density, w)
    expected = torch.searchsorted(drawn, w[1:]) / len(drawn)
    assert float((total / total[-1] - expected).abs().max()) < 1.63 / math.sqrt(len(drawn))  # Kolmogorov, 1 %


def test_the_generator_decides() -> None:
    concentration = Concentration.of(25.0, 32)
    state = torch.get_rng_state()
    first = concentration.draw(100, generator(3, "noise"))
    assert torch.equal(concentration.draw(100, generator(3, "noise")), first)
    assert not torch.equal(concentration.draw(100, generator(4, "noise")), first)
    assert concentration.draw(0, generator(3, "noise")).shape == (0, 32)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_gradient_is_that_of_the_expectation() -> None:
    """d/dμ of E f(z), noise fixed, against differences of the same in double precision."""
    concentration = Concentration.of(8.0, 5)
    noise = concentration.draw(400, generator(5, "noise")).double().view(400, 1, 1, 5)
    weights = torch.randn(5, 5, generator=generator(6, "weights"), dtype=torch.float64)

    def expectation(vectors: Tensor) -> Tensor:
        z = VonMisesFisher.towards(vectors, concentration).sample(noise)
        return torch.tanh(z @ weights).square().sum(dim=-1).mean()

    for seed in range(4):
        vectors = mean_vectors(1, 5, seed).double().requires_grad_()
        assert torch.autograd.gradcheck(expectation, vectors, atol=1e-7)


def test_the_gradient_estimates_that_of_the_closed_form() -> None:
    """E aᵀz = A_n(κ) aᵀμ̂, differentiated in the vector that μ̂ comes from, at draws of new noise."""
    concentration = Concentration.of(8.0, 5)
    a = torch.randn(5, generator=generator(6, "weights"))
    vectors = mean_vectors(1, 5).requires_grad_()
    some = VonMisesFisher.towards(vectors, concentration)
    [closed] = torch.autograd.grad(concentration.mean_cosine * (some.direction @ a).sum(), vectors, retain_graph=True)
    [found] = torch.autograd.grad((draws_of(some, 100_000) @ a).mean(), vectors)
    assert torch.allclose(found, closed, atol=0.01 * float(closed.norm()))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_no_direction_is_degenerate(sign: float) -> None:
    concentration = Concentration.of(25.0, 6)
    noise = concentration.draw(50, generator(5, "noise")).view(50, 1, 1, 6)
    for off in (0.0, 1e-30, 1e-8, 1e-4):
        vectors = torch.tensor([[sign, off, 0.0, 0.0, 0.0, -off]], requires_grad=True)
        some = VonMisesFisher.towards(vectors, concentration)
        z = some.sample(noise)
        assert torch.allclose(z.norm(dim=-1), torch.ones(50, 1, 1), atol=1e-5)
        assert torch.allclose((z * some.direction).sum(dim=-1), noise[..., 0], atol=1e-5)
        z.square().sum(dim=-1).sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        z[..., 1].sum().backward()  # type: ignore[no-untyped-call]
        assert vectors.grad is not None
        assert float(vectors.grad.abs().max()) < 1e3


@pytest.mark.parametrize(("dim", "kappa"), [(2, 3.0), (3, 5.0), (4, 2.0)])
def test_densities_are_of_the_surface(dim: int, kappa: float) -> None:
    """∫ q = 1, ∫ −q ln q = entropy, with uniform points of the sphere; p is 1 / area, and so is the ratio's p."""
    some = posterior(dim, kappa)
    points = draw_uniform(200_000, dim, generator(7, "points"))
    log_q = some.log_density(points)
    assert (log_q.shape, log_q.dtype) == ((200_000, 5), torch.float64)
    area = math.exp(some.concentration.log_area)
    assert area == pytest.approx({2: 2 * math.pi, 3: 4 * math.pi, 4: 2 * math.pi**2}[dim])
    assert torch.allclose(area * log_q.exp().mean(dim=0), torch.ones(5, dtype=torch.float64), atol=0.03)
    entropy = -area * (log_q.exp() * log_q).mean(dim=0)
    assert torch.allclose(entropy, some.entropy(), atol=0.1)
    assert some.entropy().dtype == torch.float64
    z = points[:5]
    log_p = some.log_ratio(z.view(1, 1, 5, dim))[0, 0] + log_q[:5].diagonal()
    assert log_p.tolist() == pytest.approx([-math.log(area)] * 5, rel=1e-5)


def test_the_prior_is_uniform() -> None:
    z = draw_uniform(100_000, 7, generator(8, "prior")).double()
    assert torch.allclose(z.norm(dim=1), torch.ones(100_000, dtype=torch.float64), atol=1e-6)
    assert float(z.mean(dim=0).abs().max()) < 0.01
    assert torch.allclose(z.t() @ z / len(z), torch.eye(7, dtype=torch.float64) / 7, atol=0.01)


def test_the_way_between_two_directions_is_an_arc() -> None:
    concentration = Concentration.of(5.0, 2)
    one, other = (VonMisesFisher.towards(torch.tensor([end]), concentration) for end in ([2.0, 0.0], [0.0, 0.1]))
    found = between(one, other, torch.tensor([0.0, 1 / 3, 0.5, 1.0]))
    angles = torch.tensor([0.0, 30.0, 45.0, 90.0]).deg2rad()
    assert torch.allclose(found, torch.stack([angles.cos(), angles.sin()], dim=1), atol=1e-6)
    assert torch.allclose(between(one, one, torch.tensor([0.0, 0.5])), one.direction.expand(2, -1))
    high, low = posterior(32, 1.0, num=1), VonMisesFisher.towards(mean_vectors(1, 32, seed=9), concentration)
    assert torch.allclose(between(high, low, torch.linspace(0, 1, 7)).norm(dim=1), torch.ones(7), atol=1e-5)
