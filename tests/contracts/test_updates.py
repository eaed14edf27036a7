"""What every training algorithm keeps, over all files of model/updates/."""

import importlib

import pytest
import torch

from data.batch import drawn_batches, sequential_batches
from data.corpus import Corpus
from model.core import TextModel
from model.descent import DescentConfig
from model.objectives.elbo import Config as Elbo
from model.randomness import generator
from model.update import Update, UpdateConfig
from model.variants.lstm_vae import Config as VaeConfig
from sweep.config import kinds

SHORT = {"inner_steps": 5, "block": 2}
HALF, FULL = Elbo().at(0.0, 0.5), Elbo().at(0.0, 1.0)


def make_model(corpus: Corpus) -> TextModel:
    model = VaeConfig(embedding_dim=6, hidden_dim=9, latent_dim=3, samples=2).build(corpus.vocabulary)
    model.initialise(generator(1, "parameters"))
    return model


def configs() -> list[UpdateConfig]:
    """Each kind in its default form, its inner loops short, and with every optimizer where it has some."""
    found: list[UpdateConfig] = []
    for kind in kinds("update"):
        config_type = importlib.import_module(f"model.updates.{kind}").Config
        short = {name: value for name, value in SHORT.items() if name in config_type.model_fields}
        found += [config_type(**short)]
        if issubclass(config_type, DescentConfig):
            adam = {**short, "learning_rate": 0.01, "weight_decay": 0.1}
            found += [config_type(optimizer=name, **adam) for name in ("adam", "adamw")]
    return found


@pytest.fixture(params=configs(), ids=repr)
def config(request: pytest.FixtureRequest) -> UpdateConfig:
    found: UpdateConfig = request.param
    return found


def train(update: Update, model: TextModel, corpus: Corpus, epochs: range) -> list[dict[str, float]]:
    """What the update says of each epoch."""
    said = []
    for epoch in epochs:
        beside = drawn_batches(corpus.splits["train"], 4, 0, epoch)
        for number, batch in enumerate(sequential_batches(corpus.splits["train"], 4), start=1):
            update.step(batch, HALF, generator(number, f"train/{epoch}"), beside(number))
        said.append(dict(update.end_epoch(model, corpus.splits["valid"], 0)))
    return said


def test_training_lowers_the_loss(config: UpdateConfig, corpus: Corpus) -> None:
    update = config.build(make_model(corpus))
    batch = next(sequential_batches(corpus.splits["train"], 8))
    first = update.step(batch, FULL, generator(0, "train")).bound.strict.mean()
    for step in range(30):
        last = update.step(batch, FULL, generator(step, "train")).bound.strict.mean()
    assert last < first
    assert not last.requires_grad


@pytest.mark.parametrize("steps", [0, 2])
def test_a_restored_update_goes_on_bit_for_bit(config: UpdateConfig, corpus: Corpus, steps: int) -> None:
    """After whole epochs, and within one."""
    model = make_model(corpus)
    update = config.build(model)
    train(update, model, corpus, range(2))
    for batch in list(sequential_batches(corpus.splits["train"], 4))[:steps]:
        update.step(batch, HALF, generator(9, "train"))
    update.decay(0.5)
    other_model = make_model(corpus)
    other_model.load_state_dict(model.state_dict())
    other = config.build(other_model)
    assert other.state_dict().keys() == update.state_dict().keys()
    other.load_state_dict({name: tensor.clone() for name, tensor in update.state_dict().items()})
    assert other.learning_rate == update.learning_rate
    assert train(update, model, corpus, range(2, 4)) == train(other, other_model, corpus, range(2, 4))
    for mine, theirs in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in update.state_dict().items())


def test_a_restarted_update_has_forgotten_its_steps_but_not_its_rate(config: UpdateConfig, corpus: Corpus) -> None:
    model = make_model(corpus)
    update, fresh_model = config.build(model), make_model(corpus)
    train(update, model, corpus, range(1))
    update.decay(0.5)
    update.restart()
    fresh_model.load_state_dict(model.state_dict())
    fresh = config.build(fresh_model)
    fresh.decay(0.5)
    assert fresh.learning_rate == update.learning_rate
    batch = next(sequential_batches(corpus.splits["train"], 8))
    for each in (update, fresh):
        each.step(batch, FULL, generator(0, "train"))
    for mine, theirs in zip(model.parameters(), fresh_model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_end_of_an_epoch_leaves_the_model_alone(config: UpdateConfig, corpus: Corpus) -> None:
    model = make_model(corpus)
    update, before = config.build(model), [parameter.clone() for parameter in model.parameters()]
    for is_training in (True, False):
        update.end_epoch(model.train(is_training), corpus.splits["valid"], 0)
        assert model.training == is_training
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


def test_a_gradient_that_is_not_finite_touches_nothing(config: UpdateConfig, corpus: Corpus) -> None:
    model = make_model(corpus)
    update = config.build(model)
    train(update, model, corpus, range(1))
    with torch.no_grad():
        next(model.parameters())[:] = float("nan")
    parameters = [parameter.clone() for parameter in model.parameters()]
    state = {name: tensor.clone() for name, tensor in update.state_dict().items()}
    batches = list(sequential_batches(corpus.splits["train"], 8))
    step = update.step(batches[0], HALF, generator(0, "train"), batches[1:])
    assert bool(step.skipped)
    for before, after in zip(parameters, model.parameters(), strict=True):
        assert torch.equal(before.nan_to_num(), after.nan_to_num())
    assert update.state_dict().keys() == state.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in update.state_dict().items())


def test_a_good_step_is_not_skipped(config: UpdateConfig, corpus: Corpus) -> None:
    update = config.build(make_model(corpus))
    step = update.step(next(sequential_batches(corpus.splits["train"], 8)), HALF, generator(0, "train"))
    assert not bool(step.skipped)
    assert step.clipped.shape == step.skipped.shape == ()
