"""Bounds: the toy on which the paper's objective is none, and identities that hold for every model and draw."""

import math

import pytest
import torch
from torch import Tensor

from data.batch import Batch, sequential_batches
from data.corpus import Corpus
from model.bounds import FORMS, bounds_of
from model.columns import Columns
from model.draws import Draws
from model.exchangeable import best_correlation, fit_correlation, sample_prior
from model.gaussian import DiagonalGaussian
from model.randomness import generator
from model.variants.lstm_lm import Config as LmConfig
from model.variants.lstm_vae import Config as VaeConfig
from model.variants.lstm_vae import LstmVae

LATENTS, NOISE, TOTAL = 10, 0.05, 0.15
"""The toy: p(x | z^1…z^L) = N(x; mean z, NOISE), q = N(a x, σ²), x from the model's own marginal N(0, TOTAL)."""


def toy(a: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Reconstruction and KL of one latent, means over x, in closed form; nats."""
    rec = 0.5 * math.log(2 * math.pi * NOISE) + ((1 - a) ** 2 * TOTAL + variance / LATENTS) / (2 * NOISE)
    kl = 0.5 * (a**2 * TOTAL + variance - 1 - variance.log())
    return rec, kl


def test_the_papers_objective_goes_below_the_truth_and_the_strict_ones_never_do() -> None:
    assert math.isclose(1 / LATENTS + NOISE, TOTAL)  # so that x is from the model
    truth = 0.5 * (math.log(2 * math.pi * TOTAL) + 1)
    a, variance = torch.meshgrid(
        torch.linspace(-0.5, 1.5, 401, dtype=torch.float64), torch.logspace(-3, 1, 801, dtype=torch.float64),
        indexing="ij",
    )  # fmt: skip
    rec, kl = toy(a, variance)
    paper, strict = rec + kl, rec + LATENTS * kl
    assert truth == pytest.approx(0.4704, abs=5e-5)
    assert paper.min().item() == pytest.approx(0.0418, abs=2e-4)
    best = paper.flatten().argmin()
    assert (a.flatten()[best].item(), variance.flatten()[best].item()) == pytest.approx((0.95, 0.334), abs=0.01)
    assert strict.min().item() == pytest.approx(0.8327, abs=2e-3)
    assert bool((strict >= truth).all())


def test_the_exchangeable_bound_is_above_the_truth_of_its_own_prior() -> None:
    """Which is a wider distribution of x than the toy's, so that its truth on the toy's x is above the toy's."""
    truth = 0.5 * (math.log(2 * math.pi * TOTAL) + 1)
    a, variance = torch.meshgrid(
        torch.linspace(-0.5, 1.5, 41, dtype=torch.float64), torch.logspace(-3, 1, 41, dtype=torch.float64),
        indexing="ij",
    )  # fmt: skip
    rec, kl = toy(a, variance)
    square, variance = (a**2 * TOTAL).flatten(), variance.flatten()
    rho = best_correlation(square, variance, LATENTS)
    posterior = DiagonalGaussian(square.sqrt().unsqueeze(0), variance.log().unsqueeze(0))
    exch = rec.flatten() + posterior.correlated_kl_terms(LATENTS, rho)[0]
    marginal = (1 + (LATENTS - 1) * rho) / LATENTS + NOISE
    its_truth = 0.5 * ((2 * math.pi * marginal).log() + TOTAL / marginal)
    assert bool((exch >= its_truth - 1e-9).all())
    assert bool((its_truth >= truth - 1e-9).all())
    assert bool((exch <= (rec + LATENTS * kl).flatten() + 1e-9).all())


def covariance(latents: int, rho: float) -> Tensor:
    return (1 - rho) * torch.eye(latents, dtype=torch.float64) + rho * torch.ones(latents, latents, dtype=torch.float64)


@pytest.mark.parametrize("latents", [2, 5])
@pytest.mark.parametrize("rho", [-0.15, 0.0, 0.4, 0.97])
def test_the_exchangeable_kl_and_ratio_are_those_of_the_full_covariance(latents: int, rho: float) -> None:
    source = generator(0, "x")
    mean, log_variance = torch.randn(2, 4, 3, generator=source, dtype=torch.float64).unbind()
    posterior = DiagonalGaussian(mean, log_variance)
    prior = torch.distributions.MultivariateNormal(torch.zeros(latents).double(), covariance(latents, rho))
    q = torch.distributions.MultivariateNormal(
        mean.unsqueeze(-1).expand(-1, -1, latents),
        log_variance.exp()[..., None, None] * torch.eye(latents, dtype=torch.float64),
    )
    correlation = torch.full((3,), rho, dtype=torch.float64)
    expected = torch.distributions.kl_divergence(q, prior)
    assert torch.allclose(posterior.correlated_kl_terms(latents, correlation), expected)
    z = posterior.sample(torch.randn(6, latents, 4, 3, generator=source, dtype=torch.float64))
    each = z.permute(0, 2, 3, 1)  # (S, B, n, L)
    expected = (prior.log_prob(each) - q.log_prob(each)).sum(dim=-1)
    assert torch.allclose(posterior.correlated_log_ratio(z, correlation), expected)
    if rho == 0.0:
        assert torch.allclose(posterior.correlated_kl_terms(latents, correlation), latents * posterior.kl_terms())
        assert torch.allclose(posterior.correlated_log_ratio(z, correlation), posterior.log_ratio(z).sum(dim=1))


def test_the_fitted_correlation_is_the_best_there_is() -> None:
    source = generator(1, "x")
    square = torch.rand(200, generator=source, dtype=torch.float64) * 2
    variance = torch.rand(200, generator=source, dtype=torch.float64) * 1.5 + 0.01
    for latents in (2, 10):
        rho = best_correlation(square, variance, latents)
        found = DiagonalGaussian(square.sqrt().unsqueeze(0), variance.log().unsqueeze(0))
        best = found.correlated_kl_terms(latents, rho)
        low = -1.0 / (latents - 1)
        assert bool(((rho > low) & (rho < 1)).all())
        for other in torch.linspace(low + 1e-3, 1 - 1e-3, 500, dtype=torch.float64):
            assert bool((best <= found.correlated_kl_terms(latents, other.expand(200)) + 1e-9).all())


def test_where_the_aggregate_is_the_prior_the_correlation_is_the_variance_of_the_means() -> None:
    variance = torch.tensor([0.9, 0.5, 0.02, 1.0], dtype=torch.float64)
    rho = best_correlation(1 - variance, variance, 10)
    assert torch.allclose(rho, 1 - variance, atol=1e-6)
    kl = DiagonalGaussian((1 - variance).sqrt().unsqueeze(0), variance.log().unsqueeze(0)).correlated_kl_terms(10, rho)
    assert torch.allclose(kl[0], 0.5 * torch.log1p(10 * (1 - variance) / variance))


def test_draws_of_the_prior_have_its_correlations() -> None:
    z = sample_prior(200_000, 3, torch.tensor([0.0, 0.6, -0.3]), generator(0, "z"))
    for dimension, rho in enumerate((0.0, 0.6, -0.3)):
        assert torch.allclose(z[..., dimension].t().cov(), covariance(3, rho).float(), atol=0.02)


def model_of(corpus: Corpus, **fields: object) -> LstmVae:
    config = VaeConfig.model_validate({"embedding_dim": 6, "hidden_dim": 9, "latent_dim": 3, **fields})
    model = config.build(corpus.vocabulary)
    model.initialise(generator(1, "parameters"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0)
    return model.eval()


def batches(corpus: Corpus, size: int = 8) -> list[Batch]:
    return list(sequential_batches(corpus.splits["train"], size))


def bounds(model: LstmVae, batch: Batch, samples: int = 3, seed: int = 2) -> dict[str, Tensor]:
    correlation = torch.full((3,), 0.5, dtype=torch.float64)
    return dict(bounds_of(model, batch, samples, correlation, seed, "test"))


def test_averaging_gains_by_jensen_in_every_draw_of_every_sentence(corpus: Corpus) -> None:
    model = model_of(corpus, samples=4, average=True)
    for batch in batches(corpus):
        found = bounds(model, batch, samples=1)
        assert bool((found["l1"] >= found["paper"] - 1e-5).all())
        assert torch.allclose(found["paper"], found["rec"] + found["kl"])
        assert torch.allclose(found["strict"], found["rec"] + 4 * found["kl"])


def test_the_gain_is_that_of_the_log_sum_exps(corpus: Corpus) -> None:
    """g_t = mean_l LSE(a_l) − LSE(mean_l a_l), step by step from the plain decoder's logits."""
    model, batch = model_of(corpus, samples=4, average=True), batches(corpus)[-1]
    found = bounds(model, batch, samples=1)
    latents = model.posterior(batch.tokens, torch.Generator()).sample(
        Draws(model, batch.indices.tolist(), 2, "test", torch.device("cpu")).take(1)
    )
    decoder, words = model.decoder, model.decoder.embedding(model.inputs(batch.tokens, False, torch.Generator()).t())
    logits = []
    with torch.no_grad():
        for z in latents[0]:
            start = decoder.to_state(z).unsqueeze(0)  # type: ignore[misc]
            states, _ = decoder.lstm(torch.cat([words, z.expand(len(words), -1, -1)], dim=-1), (start, 0 * start))
            logits.append(decoder.to_logits(states))
        gain = torch.stack([each.logsumexp(-1) for each in logits]).mean(0) - torch.stack(logits).mean(0).logsumexp(-1)
    assert bool((gain >= -1e-6).all())
    assert torch.allclose(found["l1"] - found["paper"], gain.sum(dim=0).double(), atol=1e-4)


def test_one_latent_has_one_bound(corpus: Corpus) -> None:
    found = bounds_of(model_of(corpus, samples=5), batches(corpus)[-1], 3, torch.zeros(0), 2, "test")
    assert all(torch.equal(found[form], found["paper"]) for form in FORMS)


def test_alike_latents_gain_nothing(corpus: Corpus) -> None:
    """methods: averaged states with the same noise in every chain are the model with one latent."""
    averaged, plain = model_of(corpus, samples=3, average=True), model_of(corpus)
    batch = batches(corpus)[-1]
    latents = torch.randn(2, 1, len(batch.tokens), 3, generator=generator(0, "z"))
    with torch.no_grad():
        together = averaged.log_likelihood(batch.tokens, latents.expand(-1, 3, -1, -1), torch.Generator())
        assert torch.allclose(together, plain.log_likelihood(batch.tokens, latents, torch.Generator()), atol=1e-5)


def test_a_language_model_is_exact_in_every_form(corpus: Corpus) -> None:
    model = LmConfig(embedding_dim=6, hidden_dim=9).build(corpus.vocabulary)
    model.initialise(generator(1, "parameters"))
    found = bounds_of(model.eval(), batches(corpus)[0], 7, torch.zeros(0), 0, "test")
    assert set(found) == {"rec", *FORMS}
    assert all(torch.equal(found[form], found["rec"]) for form in FORMS)


def test_the_batch_and_the_order_change_nothing(corpus: Corpus) -> None:
    model, split = model_of(corpus, samples=2, average=True), corpus.splits["train"]
    found = []
    for tokens_at_once in (1, 17, 10_000):
        columns = Columns.of(split)
        columns.fill(lambda batch: bounds(model, batch), split, tokens_at_once, torch.device("cpu"), lambda: None)
        found.append(columns)
    for other in found[1:]:
        assert all(torch.allclose(other.values[name], found[0].values[name], rtol=1e-6) for name in found[0].values)


def test_on_the_split_that_fits_it_the_exchangeable_prior_is_no_worse(corpus: Corpus) -> None:
    model, split = model_of(corpus, samples=4, average=True), corpus.splits["train"]
    correlation = fit_correlation(model, split, 100)
    columns = Columns.of(split)
    columns.fill(
        lambda batch: bounds_of(model, batch, 1, correlation, 0, "x"), split, 100, torch.device("cpu"), lambda: None
    )
    assert columns.mean("exch") <= columns.mean("strict")
    assert columns.mean("paper") <= columns.mean("exch") + 1e-9
    assert fit_correlation(model_of(corpus), split, 100).shape == (0,)


def test_what_stopped_goes_on(corpus: Corpus) -> None:
    model, split = model_of(corpus), corpus.splits["train"]
    whole, stopped = Columns.of(split), Columns.of(split)
    whole.fill(lambda batch: bounds(model, batch), split, 20, torch.device("cpu"), lambda: None)
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        stopped.fill(lambda batch: bounds(model, batch), split, 20, torch.device("cpu"), stop)
    continued = Columns.of(split, stopped.state())
    continued.fill(lambda batch: bounds(model, batch), split, 20, torch.device("cpu"), stop)
    assert all(torch.equal(continued.values[name], whole.values[name]) for name in whole.values)
