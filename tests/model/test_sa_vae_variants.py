"""What teaches the encoder of a VAE with refined posteriors, and what is measured of them."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from data.batch import Batch
from data.corpus import Corpus
from model.bounds import bounds_of
from model.draws import Draws
from model.importance import importance_weighted
from model.measure import EvaluationSettings, Measured, measure
from model.objective import Objective
from model.objectives.elbo import Config as Elbo
from model.objectives.free_bits import Config as FreeBits
from model.objectives.iwae import Config as Iwae
from model.precision import at_precision
from model.randomness import generator
from model.variants.lstm_vae import Config as VaeConfig
from model.variants.sa_vae import SaVae
from tests.model.small_sa_vae import SMALL, batch_of, gradients, sa_vae, value

NONE = torch.zeros(0)


def test_an_encoder_of_vae_svi_has_the_gradient_of_its_own_bound(corpus: Corpus) -> None:
    tokens = batch_of(corpus).tokens
    model = sa_vae(corpus, encoder_loss="elbo").eval()
    plain = VaeConfig(**SMALL).build(corpus.vocabulary).eval()
    plain.load_state_dict(model.vae.state_dict())
    bound = plain.bound(tokens, plain.draw_noise(len(tokens), 1, generator(5, "step")), generator(0, "unused"))
    (bound.rec + 0.4 * bound.kl).mean().backward()  # type: ignore[no-untyped-call]
    noise = model.draw_noise(len(tokens), 1, generator(6, "noise"))
    loss, found = Elbo().at(0.0, 0.4)(model, tokens, noise, generator(5, "step"))
    assert found.beside is not None
    assert torch.allclose(found.beside, bound.rec + 0.4 * bound.kl, rtol=1e-5)
    loss.backward()
    for name, expected in gradients(plain).items():
        if name.startswith(("encoder", "to_")):
            assert torch.allclose(gradients(model)[f"vae.{name}"], expected, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("encoder_loss", ["elbo", "kl"])
def test_what_teaches_the_encoder_is_no_matter_of_the_decoder_or_of_a_report(corpus: Corpus, encoder_loss: str) -> None:
    tokens = batch_of(corpus).tokens
    model, other = sa_vae(corpus, encoder_loss=encoder_loss), sa_vae(corpus, amortised=False)
    loss, bound = value(model, tokens)
    assert bound.beside.shape == (len(tokens),)
    assert torch.equal(loss, (bound.rec + 0.4 * bound.kl).mean() + bound.beside.mean())
    loss.backward()
    whole = gradients(model)
    model.zero_grad()
    loss, bound = value(model, tokens)
    (loss - bound.beside.mean()).backward()
    alone = gradients(model)
    for name, gradient in whole.items():
        is_decoder = name.startswith("vae.decoder")
        assert (name in alone and torch.equal(gradient, alone[name])) == is_decoder, name
    assert value(other, tokens)[1].beside is None
    with torch.no_grad():
        assert value(model, tokens)[1].beside is None


def test_an_encoder_of_vae_svi_kl_is_drawn_to_the_refined_posterior(corpus: Corpus) -> None:
    model, tokens = sa_vae(corpus, encoder_loss="kl").eval(), batch_of(corpus).tokens
    start, refined = model.vae.posterior(tokens, generator(0, "x")), model.posterior(tokens, generator(0, "x"))
    normal = [torch.distributions.Normal(each.mean, (0.5 * each.log_variance).exp()) for each in (start, refined)]
    assert refined.beside is not None
    assert not refined.mean.requires_grad
    assert torch.allclose(refined.beside, torch.distributions.kl_divergence(*normal).sum(dim=1), atol=1e-6)


def test_svi_starts_from_the_prior_and_has_no_encoder(corpus: Corpus) -> None:
    model, tokens = sa_vae(corpus, amortised=False).eval(), batch_of(corpus).tokens
    assert {name.split(".")[1] for name, _ in model.named_parameters()} == {"decoder"}
    assert model.posterior(tokens, generator(0, "x")).kl().min() > 0
    one = sa_vae(corpus, amortised=False, svi_steps=1, svi_learning_rate=1e-9).eval()
    assert one.posterior(tokens, generator(0, "x")).kl().max() < 1e-6
    at_precision(model, "fp32")
    assert model.operations_per_token > 0


@pytest.mark.parametrize("objective", [Elbo(), FreeBits(nats=0.01), Iwae()], ids=repr)
@pytest.mark.parametrize("fields", [{}, {"encoder_loss": "elbo"}, {"encoder_loss": "kl"}], ids=repr)
def test_every_objective_teaches_encoder_and_decoder(
    corpus: Corpus, objective: Objective, fields: dict[str, Any]
) -> None:
    model = sa_vae(corpus, samples=2, **fields)
    objective.check(model)
    value(model, batch_of(corpus).tokens, objective=objective)[0].backward()
    assert [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()] == []


def measured(model: SaVae, batch: Batch, seed: int = 2) -> dict[str, Tensor]:
    """(B,) by name: bounds, and importance-weighted with 50 draws."""
    found = dict(bounds_of(model, batch, 10, NONE, seed, "measure/x"))
    noise = Draws(model, batch.indices.tolist(), seed, "measure/importance", torch.device("cpu"))
    weighed = importance_weighted(model, batch.tokens, 50, noise, NONE, tokens_at_once=1000)
    return {**found, "iw": weighed["strict"].nll}


@pytest.mark.parametrize(
    "fields", [{"samples": 2, "average": True, "svi_over": "batch"}, {"amortised": False}], ids=repr
)
def test_what_is_measured_depends_on_the_sentence_and_the_seed_alone(corpus: Corpus, fields: dict[str, Any]) -> None:
    model, batch = sa_vae(corpus, svi_learning_rate=8.0, **fields).eval(), batch_of(corpus, 6)
    whole, again, other = measured(model, batch), measured(model, batch), measured(model, batch, seed=3)
    alone = [
        measured(model, Batch(batch.tokens[row : row + 1], batch.indices[row : row + 1])) for row in reversed(range(6))
    ]
    for name, values in whole.items():
        assert torch.equal(values, again[name])
        assert torch.allclose(torch.cat([each[name] for each in reversed(alone)]), values, rtol=1e-5), name
        assert not torch.allclose(other[name], values, rtol=1e-3)


def test_importance_weights_are_of_the_refined_posterior(corpus: Corpus) -> None:
    model, batch = sa_vae(corpus, svi_steps=20, svi_learning_rate=8.0).eval(), batch_of(corpus)
    found = measured(model, batch)
    error = (found["strict"] - found["iw"]).std() / math.sqrt(len(batch.tokens))
    assert found["iw"].mean() <= found["strict"].mean() + 2.0 * error
    unrefined = sa_vae(corpus, svi_steps=0).eval()
    unrefined.load_state_dict(model.state_dict())
    assert found["strict"].mean() < measured(unrefined, batch)["strict"].mean()


def test_a_whole_measurement_leaves_no_graph(corpus: Corpus) -> None:
    model = sa_vae(corpus, samples=2, average=True, svi_steps=2)
    settings = EvaluationSettings(samples=2, draws=10)
    first = measure(model, corpus, settings, 3, 500, Measured(), lambda: None)
    second = measure(model, corpus, settings, 3, 100, Measured(), lambda: None)
    for name, number in first.test.items():
        assert number == pytest.approx(second.test[name], rel=1e-4, abs=1e-4), name
    assert all(parameter.grad is None for parameter in model.parameters())


def test_in_evaluation_a_posterior_is_of_the_seed_and_not_of_what_was_drawn(corpus: Corpus) -> None:
    model, tokens = sa_vae(corpus).eval(), batch_of(corpus).tokens
    source = generator(0, "x")
    first = model.posterior(tokens, source).mean
    torch.rand(3, generator=source)
    assert torch.equal(model.posterior(tokens, source).mean, first)
    assert not torch.equal(model.posterior(tokens, generator(1, "x")).mean, first)
