"""SA-VAE: the VAE when it takes no step, and derivatives through the steps."""

from typing import Any

import pytest
import torch

from data.batch import sequential_batches
from data.corpus import Corpus
from data.vocabulary import END, Vocabulary
from model.evaluate import EvaluateConfig, evaluate
from model.objectives.elbo import Config as Elbo
from model.precision import at_precision
from model.randomness import generator
from model.refinement import exact_product, finite_product
from model.train import TrainConfig
from model.updates.joint import Config as Joint
from model.variants.lstm_lm import Config as LmConfig
from model.variants.lstm_vae import Config as VaeConfig
from model.variants.sa_vae import Config, SaVae
from tests.model.small_sa_vae import SMALL, batch_of, gradients, sa_vae, value

TINY = {
    "embedding_dim": 2,
    "hidden_dim": 3,
    "latent_dim": 2,
    "init_range": 0.8,
    "svi_learning_rate": 8.0,
    "svi_backward_clip": 1e6,
}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"encoder_dropout": 0.3, "word_dropout": 0.2, "samples": 3},
        {"samples": 3, "average": True, "average_kl": "exch"},
        {"encoder_loss": "kl"},
    ],
    ids=repr,
)
def test_without_a_step_it_is_the_vae_bit_for_bit(corpus: Corpus, fields: dict[str, Any]) -> None:
    vae = VaeConfig(**SMALL, **{key: each for key, each in fields.items() if key != "encoder_loss"}).build(
        corpus.vocabulary
    )
    vae.initialise(generator(1, "parameters"))
    refined = sa_vae(corpus, svi_steps=0, **fields)
    sources, updates = (generator(0, "train"), generator(0, "train")), (Joint().build(vae), Joint().build(refined))
    for number, batch in enumerate(sequential_batches(corpus.splits["train"], 8)):
        loss = Elbo().at(0.0, 0.1 * number)
        one, other = (update.step(batch, loss, source) for update, source in zip(updates, sources, strict=True))
        assert torch.equal(one.bound.rec, other.bound.rec)
        assert torch.equal(one.bound.charged, other.bound.charged)
    assert {f"vae.{name}" for name in vae.state_dict()} == set(refined.state_dict())
    for name, weight in vae.state_dict().items():
        assert torch.equal(refined.state_dict()[f"vae.{name}"], weight)
    split = corpus.splits["valid"]
    assert evaluate(vae, split, EvaluateConfig(), 3, "x") == evaluate(refined, split, EvaluateConfig(), 3, "x")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"samples": 2, "average": True, "average_kl": "exch", "initial_state": "tanh_cell"},
        {"samples": 2, "latent_dropout": True, "initial_state": "linear_both", "linear_bias": True},
        {"inputs": "none", "svi_over": "batch"},
        {"svi_clip": 0.05},
    ],
    ids=repr,
)
def test_the_gradient_of_training_is_that_of_its_loss(fields: dict[str, Any]) -> None:
    """Encoder and decoder parameters against numerical differentiation of the loss after refinement, float64."""
    vocabulary = Vocabulary((END, *(f"w{index}" for index in range(4))))
    model = Config(**{**TINY, "svi_steps": 3, **fields}).build(vocabulary)
    model.initialise(generator(1, "parameters"))
    model.double()
    tokens = torch.randint(1, 5, (3, 4), generator=generator(0, "tokens"))
    value(model, tokens)[0].backward()
    source, width = generator(0, "directions"), 1e-5
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=source, dtype=torch.float64)
        with torch.no_grad():
            values = []
            for sign in (1.0, -1.0):
                parameter += sign * width * direction
                with torch.enable_grad():
                    values.append(value(model, tokens)[0].item())
                parameter -= sign * width * direction
        assert parameter.grad is not None
        expected = (values[0] - values[1]) / (2.0 * width)
        assert float((parameter.grad * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-8), name


@pytest.mark.parametrize("second_order", ["exact", "finite"])
def test_both_ways_through_the_lstm_give_the_same(
    corpus: Corpus, second_order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, found = batch_of(corpus).tokens, []
    for is_split in (True, False):
        monkeypatch.setattr("model.recurrence._split_pays", lambda words, hidden, is_split=is_split: is_split)
        model = sa_vae(corpus, samples=2, average=True, second_order=second_order).double()
        loss, _ = value(model, tokens)
        loss.backward()
        found.append({"loss": loss, **gradients(model)})
    for name, one in found[0].items():
        assert torch.allclose(one, found[1][name], rtol=1e-6, atol=1e-8), name


def test_products_with_the_hessian_by_two_ways(corpus: Corpus) -> None:
    """Differences of gradients against differentiating twice, of the model's own loss of a step, in float64."""
    model, tokens = sa_vae(corpus).double(), batch_of(corpus).tokens
    [loss, *_] = model._losses(tokens, generator(2, "draws"), 32)
    source, weights = generator(3, "numbers"), list(model.vae.parameters())
    parameters, vector = torch.randn(2, 2, len(tokens), 3, generator=source, dtype=torch.float64)
    exact = exact_product(loss, parameters, weights, vector)
    finite = finite_product(loss, parameters, weights, vector)
    names = ["parameters", *(name for name, _ in model.vae.named_parameters())]
    for name, one, other in zip(names, exact, finite, strict=True):
        assert (one is None) == (other is None) == (name.startswith(("encoder", "to_")))
        assert one is None or other is None or (one - other).norm() <= 1e-4 * one.norm(), name


def test_the_two_ways_train_alike(corpus: Corpus) -> None:
    tokens, found = batch_of(corpus).tokens, []
    for second_order in ("exact", "finite"):
        model = sa_vae(corpus, second_order=second_order, svi_learning_rate=8.0)
        value(model, tokens)[0].backward()
        found.append(torch.cat([each.flatten() for each in gradients(model).values()]))
    assert (found[0] - found[1]).norm() <= 0.002 * found[0].norm()
    assert not torch.equal(*found)


@pytest.mark.parametrize("length", [5.0, 0.1, 0.0])
def test_differences_are_good_in_float32_for_a_vector_of_any_length(corpus: Corpus, length: float) -> None:
    model, tokens = sa_vae(corpus), batch_of(corpus).tokens
    [loss, *_] = model._losses(tokens, generator(2, "draws"), 32)
    source, weights = generator(3, "numbers"), list(model.vae.parameters())
    parameters, vector = torch.randn(2, 2, len(tokens), 3, generator=source)
    vector = vector * (length / vector.norm())
    products = [product(loss, parameters, weights, vector) for product in (exact_product, finite_product)]
    exact, finite = (torch.cat([each.flatten() for each in found if each is not None]) for found in products)
    assert (exact - finite).norm() <= 0.01 * exact.norm()


def test_refinement_lowers_the_loss(corpus: Corpus) -> None:
    tokens = batch_of(corpus).tokens
    losses = []
    for steps in (0, 4, 40):
        model = sa_vae(corpus, svi_steps=steps).eval()
        noise = model.draw_noise(len(tokens), 100, generator(0, "noise"))
        losses.append(model.bound(tokens, noise, generator(1, "posterior")).strict.mean().item())
    assert losses[0] > losses[1] > losses[2]


def test_inference_is_at_the_weight_of_training(corpus: Corpus) -> None:
    model, tokens = sa_vae(corpus, svi_steps=40), batch_of(corpus).tokens
    kl = {beta: model.weighing(beta).posterior(tokens, generator(0, "x")).kl().sum().item() for beta in (0.0, 1.0)}
    assert kl[0.0] > kl[1.0]
    assert model.posterior(tokens, generator(0, "x")).kl().sum().item() == kl[1.0]
    seen, weighing = [], SaVae.weighing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SaVae, "weighing", lambda self, beta: seen.append(beta) or weighing(self, beta))
        Joint().build(model).step(batch_of(corpus), Elbo().at(0.0, 0.3), generator(0, "step"))
    assert seen == [0.3]


def test_the_weight_reaches_a_model_in_bfloat16(corpus: Corpus) -> None:
    model, tokens = at_precision(sa_vae(corpus, svi_steps=40), "bf16"), batch_of(corpus).tokens
    noise = model.draw_noise(len(tokens), 1, generator(0, "noise"))
    kl = [model.weighing(beta).bound(tokens, noise, generator(0, "x")).kl.sum().item() for beta in (0.0, 1.0)]
    assert kl[0] > kl[1]


def test_training_lowers_the_loss_in_both_precisions(corpus: Corpus) -> None:
    for precision in ("fp32", "bf16"):
        model = sa_vae(corpus, svi_steps=2)
        update = Joint().build(at_precision(model, precision))  # type: ignore[arg-type]
        losses = [
            update.step(batch_of(corpus), Elbo().at(0.0, 1.0), generator(step, "train")).bound.strict.mean()
            for step in range(20)
        ]
        assert losses[-1] < losses[0]


@pytest.mark.parametrize("fields", [{"second_order": "finite"}, {"second_order": "kim_clip", "svi_over": "batch"}])
def test_differences_are_refused_in_bfloat16(corpus: Corpus, fields: dict[str, Any]) -> None:
    TrainConfig(precision="bf16").check(sa_vae(corpus))
    with pytest.raises(ValueError, match="differences, which vanish in bfloat16; give train.precision: fp32"):
        TrainConfig(precision="bf16").check(sa_vae(corpus, **fields))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"delta": 4.0}, "leave it 0, or give kind: lstm_vae"),
        ({"amortised": False, "encoder_loss": "kl"}, "has no encoder that encoder_loss: kl could teach"),
        ({"amortised": False, "svi_steps": 0}, "give svi_steps 1 or more"),
        ({"amortised": False, "encoder_dropout": 0.2}, "has no encoder for encoder_dropout 0.2"),
        ({"encoder_loss": "elbo", "second_order": "finite"}, "second_order: finite is about .*; leave it out"),
        ({"second_order": "kim_clip"}, "give svi_over: batch"),
        (
            {"svi_backward_clip": 1.0, "encoder_loss": "elbo"},
            "svi_backward_clip 1 is of what comes back .*; leave it out",
        ),
    ],
    ids=repr,
)
def test_fields_that_contradict_are_refused(corpus: Corpus, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        sa_vae(corpus, **fields)


def test_it_starts_from_a_language_model_as_a_vae_does(corpus: Corpus) -> None:
    trained = LmConfig(embedding_dim=6, hidden_dim=9).build(corpus.vocabulary)
    trained.initialise(generator(2, "parameters"))
    model = sa_vae(corpus)
    model.start_from(trained.state_dict())
    assert torch.equal(model.vae.encoder.embedding.weight, trained.decoder.embedding.weight)
    assert torch.equal(model.draw_prior(5, generator(0, "x")), model.vae.draw_prior(5, generator(0, "x")))
    with pytest.raises(ValueError, match="amortised: false has none; leave one of them out"):
        sa_vae(corpus, amortised=False).start_from(trained.state_dict())


def test_draws_of_training_come_from_its_generator(corpus: Corpus) -> None:
    model, tokens = sa_vae(corpus), batch_of(corpus).tokens
    source = generator(0, "x")
    first, state = model.posterior(tokens, source), source.get_state()
    second = model.posterior(tokens, source)
    assert not torch.equal(first.mean, second.mean)
    source.set_state(state)
    assert torch.equal(model.posterior(tokens, source).mean, second.mean)
