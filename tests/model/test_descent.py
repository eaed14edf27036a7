"""Optimizers: against PyTorch's plain ones, and which of their fields go together."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from data.batch import sequential_batches
from data.corpus import Corpus
from model.descent import DescentConfig
from model.objectives.elbo import Config as Elbo
from model.randomness import generator
from model.updates.joint import Config as Joint
from model.variants.lstm_vae import Config as VaeConfig
from model.variants.lstm_vae import LstmVae

LOSS = Elbo().at(0.0, 1.0)


def make_model(corpus: Corpus) -> LstmVae:
    model = VaeConfig(embedding_dim=6, hidden_dim=9, latent_dim=3).build(corpus.vocabulary)
    model.initialise(generator(1, "parameters"))
    return model


def plain(config: DescentConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    betas = (config.beta1, config.beta2)
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        case "adam":
            return torch.optim.Adam(
                parameters, lr=config.learning_rate, betas=betas, eps=config.epsilon, weight_decay=config.weight_decay
            )
        case "adamw":
            return torch.optim.AdamW(
                parameters, lr=config.learning_rate, betas=betas, eps=config.epsilon, weight_decay=config.weight_decay
            )


@pytest.mark.parametrize(
    "fields",
    [
        {"weight_decay": 0.02},
        {"optimizer": "adam", "learning_rate": 0.01},
        {"optimizer": "adam", "learning_rate": 0.01, "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-4, "weight_decay": 0.1},
        {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
    ],
)
def test_steps_are_those_of_the_plain_optimizer(corpus: Corpus, fields: dict[str, Any]) -> None:
    """With a norm that is clipped, a learning rate that falls, and a step that is skipped."""
    config = Joint(clip=0.5, **fields)
    ours, theirs = make_model(corpus), make_model(corpus)
    update, optimizer = config.build(ours), plain(config, theirs.parameters())
    for number, batch in enumerate(sequential_batches(corpus.splits["train"], 8)):
        if number == 3:
            update.decay(0.5)
            optimizer.param_groups[0]["lr"] *= 0.5
        step = update.step(batch, lambda *a: bad(LOSS(*a)) if number == 2 else LOSS(*a), generator(number, "step"))  # noqa: B023
        assert bool(step.skipped) == (number == 2)
        if number == 2:
            continue
        source = generator(number, "step")
        value, _ = LOSS(theirs, batch.tokens, theirs.draw_noise(len(batch.tokens), 1, source), source)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimizer.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)


def bad(found: tuple[Any, Any]) -> tuple[Any, Any]:
    value, bound = found
    return value * float("nan"), bound


def test_adam_needs_a_learning_rate_of_its_own() -> None:
    with pytest.raises(ValueError, match="optimizer adam moves each parameter .*; give a learning_rate too"):
        Joint(optimizer="adam")
    assert Joint(optimizer="adam", learning_rate=1.0).learning_rate == 1.0


@pytest.mark.parametrize("fields", [{"beta1": 0.5}, {"beta2": 0.9}, {"epsilon": 1e-3}])
def test_what_is_of_adam_is_refused_for_sgd(fields: dict[str, float]) -> None:
    [name] = fields
    with pytest.raises(ValueError, match=f"{name} is of Adam, and optimizer sgd has none; leave it out"):
        Joint(**fields)


def test_a_state_of_before_there_were_optimizers_will_do(corpus: Corpus) -> None:
    update = Joint().build(make_model(corpus))
    update.load_state_dict({"learning_rate": torch.tensor(0.25, dtype=torch.float64)})
    assert update.learning_rate == 0.25
