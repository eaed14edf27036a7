"""What every training algorithm keeps, over all files of model/updates/."""

import importlib

import pytest
import torch

from data.batch import sequential_batches
from data.corpus import Corpus
from model.core import TextModel
from model.objectives.elbo import Config as Elbo
from model.randomness import generator
from model.update import Update, UpdateConfig
from model.variants.lstm_vae import Config as VaeConfig
from sweep.config import kinds

HALF, FULL = Elbo().at(0.0, 0.5), Elbo().at(0.0, 1.0)


def make_model(corpus: Corpus) -> TextModel:
    model = VaeConfig(embedding_dim=6, hidden_dim=9, latent_dim=3, samples=2).build(corpus.vocabulary)
    model.initialise(generator(1, "parameters"))
    return model


@pytest.fixture(params=kinds("update"))
def config(request: pytest.FixtureRequest) -> UpdateConfig:
    config: UpdateConfig = importlib.import_module(f"model.updates.{request.param}").Config()
    return config


def train(update: Update, corpus: Corpus, epochs: range) -> None:
    for epoch in epochs:
        for batch in sequential_batches(corpus.splits["train"], 4):
            update.step(batch, HALF, generator(epoch, "train"))


def test_training_lowers_the_loss(config: UpdateConfig, corpus: Corpus) -> None:
    update = config.build(make_model(corpus))
    batch = next(sequential_batches(corpus.splits["train"], 8))
    first = update.step(batch, FULL, generator(0, "train")).bound.strict.mean()
    for step in range(30):
        last = update.step(batch, FULL, generator(step, "train")).bound.strict.mean()
    assert last < first
    assert not last.requires_grad


def test_a_restored_update_goes_on_bit_for_bit(config: UpdateConfig, corpus: Corpus) -> None:
    model = make_model(corpus)
    update = config.build(model)
    train(update, corpus, range(2))
    update.decay(0.5)
    other_model = make_model(corpus)
    other_model.load_state_dict(model.state_dict())
    other = config.build(other_model)
    other.load_state_dict(update.state_dict())
    assert other.learning_rate == update.learning_rate
    train(update, corpus, range(2, 4))
    train(other, corpus, range(2, 4))
    for mine, theirs in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_gradient_that_is_not_finite_touches_nothing(config: UpdateConfig, corpus: Corpus) -> None:
    model = make_model(corpus)
    update = config.build(model)
    with torch.no_grad():
        next(model.parameters())[:] = float("nan")
    parameters = [parameter.clone() for parameter in model.parameters()]
    state = {name: tensor.clone() for name, tensor in update.state_dict().items()}
    step = update.step(next(sequential_batches(corpus.splits["train"], 8)), HALF, generator(0, "train"))
    assert bool(step.skipped)
    for before, after in zip(parameters, model.parameters(), strict=True):
        assert torch.equal(before.nan_to_num(), after.nan_to_num())
    assert all(torch.equal(state[name], tensor) for name, tensor in update.state_dict().items())


def test_a_good_step_is_not_skipped(config: UpdateConfig, corpus: Corpus) -> None:
    update = config.build(make_model(corpus))
    step = update.step(next(sequential_batches(corpus.splits["train"], 8)), HALF, generator(0, "train"))
    assert not bool(step.skipped)
    assert step.clipped.shape == step.skipped.shape == ()
