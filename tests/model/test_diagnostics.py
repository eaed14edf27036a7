"""Use of the latents: on a linear-Gaussian toy whose mutual information, active units and −log p(x) are known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from data.batch import Batch
from data.corpus import Corpus, Split
from model.bounds import FORMS, bounds_of
from model.charge import OneKl
from model.columns import Columns
from model.core import LatentModel, Reader
from model.diagnostics import measure_use
from model.draws import Draws
from model.exchangeable import fit_correlation
from model.gaussian import DiagonalGaussian
from model.importance import importance_weighted
from model.randomness import generator
from model.variants.lstm_vae import Config as VaeConfig

SCALE = 1000.0
"""A toy's token is a number in thousandths, counted from 0, so that a sentence is one real number."""


class Toy(LatentModel):
    """x = mean over l of w · z^l + noise, the z^l standard normal. One sentence is one token, the number x.

    weights: (n,) w. q: of the first dimension, N(a x, v) as (a, v); by default what is right for one latent, off by
    `miss` in all dimensions.
    """

    def __init__(
        self,
        latents: int = 1,
        weights: tuple[float, ...] = (1.0, 0.0),
        noise: float = 0.3,
        miss: float = 0.0,
        q: tuple[float, float] | None = None,
    ):
        super().__init__()
        self.latents_per_sentence = latents
        self.charge = OneKl()
        self.weights = torch.nn.Parameter(torch.tensor(weights))
        self.noise, self.miss, self.q = noise, miss, q

    def initialise(self, generator: torch.Generator) -> None: ...

    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        return torch.randn(draws, self.latents_per_sentence, num_sentences, len(self.weights), generator=generator)

    def draw_prior(self, num: int, generator: torch.Generator) -> Tensor:
        return torch.randn(num, len(self.weights), generator=generator)

    @property
    def operations_per_token(self) -> float:
        return 1.0

    @property
    def variance(self) -> float:
        """Of x."""
        return float(self.weights.detach().square().sum()) / self.latents_per_sentence + self.noise**2

    def posterior(self, tokens: Tensor, generator: torch.Generator) -> DiagonalGaussian:
        weights = self.weights.detach()
        total = float(weights.square().sum()) + self.noise**2
        slope, variance = weights / total, 1 - weights.square() / total
        if self.q is not None:
            slope[0], variance[0] = self.q
        mean = numbers(tokens).unsqueeze(1) * slope + self.miss
        return DiagonalGaussian(mean, variance.log().expand_as(mean))

    def log_likelihood(
        self, tokens: Tensor, latents: Tensor, generator: torch.Generator, *, equal_weights: bool = False
    ) -> Tensor:
        mean = (latents @ self.weights).mean(dim=1)
        return torch.distributions.Normal(mean, self.noise).log_prob(numbers(tokens))

    def reader(self, latents: Tensor) -> Reader:
        raise NotImplementedError

    def truth(self, tokens: Tensor) -> Tensor:
        return -torch.distributions.Normal(0.0, math.sqrt(self.variance)).log_prob(numbers(tokens))

    def split(self, num: int) -> Split:
        """Sentences that the model itself wrote."""
        x = torch.randn(num, generator=generator(5, "toy"), dtype=torch.float64) * math.sqrt(self.variance)
        tokens = ((x + 100.0) * SCALE).round().numpy().astype(np.int32)
        return Split(tokens, np.arange(num + 1, dtype=np.int64))


def numbers(tokens: Tensor) -> Tensor:
    return (tokens[:, 0].double() / SCALE - 100.0).float()


def batch_of(split: Split) -> Batch:
    return Batch(torch.from_numpy(split.tokens.astype(np.int64)).unsqueeze(1), torch.arange(split.num_sentences))


def test_mutual_information_and_active_units_are_those_of_the_toy() -> None:
    for weights in ((1.0, 0.0), (0.5, 0.0), (0.0, 0.0)):
        toy = Toy(weights=weights)
        toy.eval()
        found, spectrum = measure_use(toy, toy.split(4000), 0, "use", 10_000, 32)
        truth = 0.5 * math.log(toy.variance / toy.noise**2)
        assert abs(found["mi"] - truth) <= 3 * found["mi_se"] + 0.01
        assert found["mi_se"] < 0.03
        assert found["active_units"] == (1 if weights[0] else 0)
        assert spectrum[1] == pytest.approx(0.0, abs=1e-6)
        assert spectrum[0] == pytest.approx(truth, abs=0.05)
        # The aggregate posterior is the prior.
        assert found["kl_aggregate"] == pytest.approx(0.0, abs=0.05)
        assert (found["swap"] > 0.1) == bool(weights[0])


def test_small_pools_cannot_show_more_than_the_log_of_their_size() -> None:
    toy = Toy(noise=1e-3)
    toy.eval()
    found, _ = measure_use(toy, toy.split(2000), 0, "use", 10_000, 32)
    assert found["mi_b32"] <= math.log(32) + 0.2
    assert found["mi_b32"] > math.log(32) - 1.0
    assert found["mi"] > math.log(32) + 1.0
    assert found["mi"] <= math.log(2000)


def test_a_posterior_away_from_the_prior_has_an_aggregate_kl() -> None:
    toy = Toy(miss=1.0)
    toy.eval()
    found, _ = measure_use(toy, toy.split(2000), 0, "use", 10_000, 32)
    assert found["kl_aggregate"] == pytest.approx(2 * 0.5, abs=0.1)


def estimates(toy: Toy, split: Split, draws: int) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Importance-weighted NLL, effective draws, and bounds, by form, (N,) each."""
    toy.eval()
    batch = batch_of(split)
    correlation = fit_correlation(toy, split, 10_000)
    noise = Draws(toy, batch.indices.tolist(), 3, "iw", torch.device("cpu"))
    weighed = importance_weighted(toy, batch.tokens, draws, noise, correlation, tokens_at_once=100_000)
    bounds = dict(bounds_of(toy, batch, 20, correlation, 0, "bounds"))
    return {k: v.nll for k, v in weighed.items()}, {k: v.ess for k, v in weighed.items()}, bounds


def test_importance_weighting_finds_the_truth_and_every_strict_bound_is_above_it() -> None:
    toy = Toy(miss=0.4)
    split = toy.split(300)
    truth = toy.truth(batch_of(split).tokens).double()
    weighted, effective, bounds = estimates(toy, split, 500)
    assert set(weighted) == set(FORMS)
    assert all(torch.equal(weighted[form], weighted["strict"]) for form in FORMS)
    error = (weighted["strict"] - truth).mean().abs()
    spread = (weighted["strict"] - truth).std() / math.sqrt(300)
    assert error <= 3 * spread + 0.005
    assert bool((effective["strict"] <= 500 + 1e-6).all())
    assert bool((effective["strict"] >= 1).all())
    assert 50 < effective["strict"].mean() < 480
    assert bounds["strict"].mean() > truth.mean() + 0.1


def test_with_several_latents_the_papers_number_goes_below_the_truth_and_no_strict_one_does() -> None:
    toy = Toy(latents=10, noise=math.sqrt(0.05), q=(0.95, 0.334))
    split = toy.split(500)
    truth = toy.truth(batch_of(split).tokens).double().mean()
    weighted, effective, bounds = estimates(toy, split, 500)
    assert bounds["paper"].mean() < truth - 0.1
    assert weighted["paper"].mean() < truth - 0.1
    for form in ("strict", "exch", "l1"):
        assert bounds[form].mean() > truth
        assert weighted[form].mean() > truth - 3 * weighted[form].std() / math.sqrt(500)
        assert weighted[form].mean() <= bounds[form].mean() + 0.02
    # Ten ratios vary more than one.
    assert effective["strict"].mean() < effective["l1"].mean()


def test_an_exact_posterior_has_equal_weights() -> None:
    toy = Toy()
    split = toy.split(50)
    weighted, effective, bounds = estimates(toy, split, 20)
    truth = toy.truth(batch_of(split).tokens).double()
    assert torch.allclose(weighted["strict"], truth, atol=1e-4)
    assert torch.allclose(effective["strict"], torch.full((50,), 20.0, dtype=torch.float64), rtol=1e-3)
    assert bounds["strict"].mean() == pytest.approx(truth.mean().item(), abs=0.1)


def test_one_sentence_has_diagnostics_too() -> None:
    toy = Toy()
    toy.eval()
    found, _ = measure_use(toy, toy.split(1), 0, "use", 100, 32)
    assert (found["mi"], found["mi_se"], found["swap"], found["active_units"]) == (0.0, 0.0, 0.0, 0.0)


def test_the_order_of_work_changes_nothing(corpus: Corpus) -> None:
    model = VaeConfig(embedding_dim=6, hidden_dim=9, latent_dim=3, samples=2, average=True).build(corpus.vocabulary)
    model.initialise(generator(1, "parameters"))
    model.eval()
    split = corpus.splits["test"]
    found = [measure_use(model, split, 0, "use", tokens, 4)[0] for tokens in (1, 7, 10_000)]
    for other in found[1:]:
        assert other == pytest.approx(found[0], abs=1e-5)
    columns = Columns.of(split)
    assert not columns.done.any()
