"""Aggressive training: when its inner loop ends, what each step moves, and when it is over."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from data.batch import Batch, sequential_batches
from data.corpus import Corpus, Split
from model.core import Bound, LatentModel, TextModel
from model.diagnostics import information_in_pools
from model.evaluate import EvaluateConfig
from model.objectives.elbo import Config as Elbo
from model.plateau import Plateau, PlateauConfig
from model.precision import at_precision
from model.randomness import generator
from model.schedules.linear import Config as Linear
from model.train import TrainConfig, Training, fit
from model.update import NonFiniteError, UpdateConfig
from model.updates.aggressive import Aggressive
from model.updates.aggressive import Config as AggressiveConfig
from model.updates.joint import Config as JointConfig
from model.variants.lstm_lm import Config as LmConfig
from model.variants.lstm_vae import Config as VaeConfig
from model.variants.lstm_vae import LstmVae

FULL = Elbo().at(0.0, 1.0)


def make_model(corpus: Corpus) -> LstmVae:
    model = VaeConfig(embedding_dim=6, hidden_dim=9, latent_dim=3).build(corpus.vocabulary)
    model.initialise(generator(1, "parameters"))
    return model


def of_length(corpus: Corpus, length: int, sentences: int = 2) -> Batch:
    found = (batch for batch in sequential_batches(corpus.splits["train"], sentences))
    return next(batch for batch in found if batch.tokens.shape == (sentences, length))


class Scripted:
    """A loss without gradient that is so many nats a token; it keeps the batches that it is given.

    What is not scripted is as the last.
    """

    def __init__(self, per_token: Sequence[float]):
        self.per_token = per_token
        self.seen: list[Tensor] = []

    def __call__(
        self, model: TextModel, tokens: Tensor, noise: Tensor, source: torch.Generator
    ) -> tuple[Tensor, Bound]:
        value, bound = FULL(model, tokens, noise, source)
        nats = self.per_token[min(len(self.seen), len(self.per_token) - 1)]
        self.seen.append(tokens)
        return 0.0 * value + nats * tokens.shape[1], bound


def inner_steps(corpus: Corpus, per_token: Sequence[float], others: Iterable[Batch], **fields: Any) -> int:
    """How many there are before the step of the decoder, of a batch of sentences of 2 tokens."""
    update, loss = AggressiveConfig(**fields).build(make_model(corpus)), Scripted(per_token)
    update.step(of_length(corpus, 2), loss, generator(0, "step"), others)
    return len(loss.seen) - 1


def forever(*batches: Batch) -> Iterator[Batch]:
    while True:
        yield from batches


@pytest.mark.parametrize(
    ("per_token", "expected"),
    [
        ([5.0] * 3 + [4.0] * 3 + [3.0] * 3 + [3.5], 12),  # the fourth block rose
        ([5.0] * 3 + [6.0], 6),
        ([5.0] * 3 + [4.0], 20),  # equal is no rise
        ([5.0, 5.0, 5.0, 1.0, 1.0, 12.9, 1.0, 1.0, 12.9, 99.0], 12),  # means of 5, 4.97, 4.97 and 99
        ([5.0] * 4 + [math.nan], 6),  # at the end of its block
    ],
)
def test_the_inner_loop_ends_with_the_first_block_that_rose(
    corpus: Corpus, per_token: list[float], expected: int
) -> None:
    others = forever(of_length(corpus, 2))
    assert inner_steps(corpus, per_token, others, block=3, inner_steps=20) == expected


def test_he_and_others_compare_blocks_of_15_and_go_no_further_than_99(corpus: Corpus) -> None:
    others = forever(of_length(corpus, 2))
    assert inner_steps(corpus, [5.0], others) == 99
    assert inner_steps(corpus, [5.0] * 15 + [4.0] * 15 + [4.5], others) == 45


@pytest.mark.parametrize(
    ("per_token", "expected"),
    [
        # (2 · 3 + 5 · 4) / 7 = 3.71, then (2 · 5.5 + 5 · 2.5) / 7 = 3.36 falls; by batches, 3.5 to 4 rises.
        ([3.0, 4.0, 5.5, 2.5, 1.0], 6),
        # (2 · 3 + 5 · 1) / 7 = 1.57, then (2 · 0.5 + 5 · 2.1) / 7 = 1.64 rises; by batches, 2 to 1.3 falls.
        ([3.0, 1.0, 0.5, 2.1, 1.0], 4),
    ],
)
def test_a_block_is_the_mean_over_tokens(corpus: Corpus, per_token: list[float], expected: int) -> None:
    """Of a batch of 2 tokens a sentence and one of 5."""
    others = forever(of_length(corpus, 5), of_length(corpus, 2))
    assert inner_steps(corpus, per_token, others, block=2, inner_steps=6) == expected


def test_the_first_inner_step_is_on_the_steps_own_batch_and_so_is_the_last(corpus: Corpus) -> None:
    own, others, loss = of_length(corpus, 2), [of_length(corpus, length) for length in (3, 4, 5)], Scripted([1.0])
    update = AggressiveConfig(inner_steps=3).build(make_model(corpus))
    update.step(own, loss, generator(0, "step"), iter(others))
    expected = [own, *others[:2], own]
    assert all(torch.equal(seen, batch.tokens) for seen, batch in zip(loss.seen, expected, strict=True))


def parts(model: LstmVae) -> tuple[Tensor, Tensor]:
    """All parameters of the encoder, and of the decoder, as they are now."""
    inference = {id(parameter) for parameter in model.inference_parameters()}
    assert inference == {
        id(p) for p in (*model.encoder.parameters(), model.to_mean.weight, model.to_log_variance.weight)
    }
    found = ([p for p in model.parameters() if (id(p) in inference) == each] for each in (True, False))
    encoder, decoder = (torch.cat([p.detach().flatten() for p in some]) for some in found)
    return encoder, decoder


def watched(model: LstmVae, update: Aggressive, batch: Batch, others: Sequence[Batch]) -> list[tuple[Tensor, Tensor]]:
    """The parts before each of the gradients of a step, and after the step."""
    seen: list[tuple[Tensor, Tensor]] = []

    def loss(*arguments: Any) -> tuple[Tensor, Bound]:
        seen.append(parts(model))
        return FULL(*arguments)

    update.step(batch, loss, generator(0, "step"), others)
    return [*seen, parts(model)]


@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "adam", "learning_rate": 0.01}])
def test_inner_steps_move_the_encoder_alone_and_the_outer_one_the_decoder_alone(
    corpus: Corpus, optimizer: dict[str, Any]
) -> None:
    model = make_model(corpus)
    update = AggressiveConfig(inner_steps=2, **optimizer).build(model)
    others = [of_length(corpus, 3)]
    (e0, d0), (e1, d1), (e2, d2), (e3, d3) = watched(model, update, of_length(corpus, 2), others)
    assert not torch.equal(e0, e1)
    assert not torch.equal(e1, e2)
    assert torch.equal(e2, e3)
    assert torch.equal(d0, d1)
    assert torch.equal(d1, d2)
    assert not torch.equal(d2, d3)
    update.is_aggressive = False
    (e0, d0), (e1, d1) = watched(model, update, of_length(corpus, 2), others)
    assert not torch.equal(e0, e1)
    assert not torch.equal(d0, d1)


@pytest.mark.parametrize("apart", [False, True])
def test_clipping_is_by_the_norm_of_both_unless_apart(corpus: Corpus, apart: bool) -> None:
    """Of one inner step: the gradient is that of the same draws."""
    model, batch, clip = make_model(corpus), of_length(corpus, 2), 1e-3
    source = generator(0, "step")
    value, _ = FULL(model, batch.tokens, model.draw_noise(2, 1, source), source)
    value.backward()  # type: ignore[no-untyped-call]
    inference = {id(parameter) for parameter in model.inference_parameters()}
    squares = {parameter: parameter.grad.square().sum().item() for parameter in model.parameters()}  # type: ignore[union-attr]
    of_encoder = math.sqrt(sum(square for parameter, square in squares.items() if id(parameter) in inference))
    before, _ = parts(model)
    update = AggressiveConfig(inner_steps=1, clip=clip, clip_apart=apart).build(model)
    step = update.step(batch, FULL, generator(0, "step"))
    moved = (parts(model)[0] - before).norm().item()
    assert moved == pytest.approx(clip if apart else clip * of_encoder / math.sqrt(sum(squares.values())), rel=1e-2)
    assert bool(step.clipped)


def test_a_bad_gradient_of_an_inner_step_skips_the_step(corpus: Corpus) -> None:
    model = make_model(corpus)
    update = AggressiveConfig(inner_steps=3).build(model)
    bad = Scripted([1.0, math.inf, 1.0, 1.0])
    _, decoder = parts(model)
    step = update.step(of_length(corpus, 2), bad, generator(0, "step"), forever(of_length(corpus, 3)))
    assert bool(step.skipped)
    assert len(bad.seen) == 4
    assert torch.equal(parts(model)[1], decoder)
    assert bool(parts(model)[0].isfinite().all())
    good = update.step(of_length(corpus, 2), FULL, generator(0, "step"))
    assert not bool(good.skipped)


def scripted_information(update: Aggressive, values: Iterable[float]) -> None:
    script = iter(values)
    update.information = lambda model, split, seed: next(script)


def test_it_ends_for_good_when_mutual_information_falls(corpus: Corpus) -> None:
    model, valid = make_model(corpus), corpus.splits["valid"]
    update = AggressiveConfig(inner_steps=2).build(model)
    scripted_information(update, [0.5, 0.7, 0.7, 0.6])
    was, said = [], []
    for epoch in range(6):
        update.step(of_length(corpus, 2), FULL, generator(epoch, "step"), [of_length(corpus, 3)])
        was.append(update.is_aggressive)
        said.append(dict(update.end_epoch(model, valid, 0)))
    # Equal is no fall. It is measured no more once it is over: there is no fifth value.
    assert was == [True, True, True, True, False, False]
    assert said == [{"encoder_steps": 2, "information": value} for value in (0.5, 0.7, 0.7, 0.6)] + [{}, {}]


@pytest.mark.parametrize(("first", "expected"), [(0.0, True), (-0.1, True), (math.nan, False)])
def test_the_first_epoch_is_held_against_nothing(corpus: Corpus, first: float, expected: bool) -> None:
    update = AggressiveConfig().build(make_model(corpus))
    scripted_information(update, [first])
    update.end_epoch(make_model(corpus), corpus.splits["valid"], 0)
    assert update.is_aggressive == expected


def train(
    corpus: Corpus, config: UpdateConfig, prepared: Callable[[Any], None] = lambda update: None, **fields: Any
) -> Training:
    model = make_model(corpus)
    update = config.build(at_precision(model, fields.get("precision", "fp32")))
    prepared(update)
    training = Training(model, update, Plateau(PlateauConfig(patience=9), 2.0))
    config = TrainConfig(epochs=3, batch_size=8, **fields)
    fit(training, corpus, Linear(epochs=2), Elbo(), config, EvaluateConfig(), 3, lambda record: None)
    return training


def numbers(training: Training) -> list[object]:
    return [(r.epoch, r.beta, r.lr, dict(r.train), dict(r.valid), r.improved) for r in training.history]


ADAM = {"optimizer": "adam", "learning_rate": 0.01}


@pytest.mark.parametrize("fields", [{}, {"normalisation": "token"}, ADAM, {**ADAM, "optimizer": "adamw"}])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_off_is_joint_step_for_step(corpus: Corpus, fields: dict[str, Any], precision: str) -> None:
    joint = train(corpus, JointConfig(**fields), precision=precision)
    off = train(corpus, AggressiveConfig(aggressive=False, **fields), precision=precision)
    assert numbers(off) == numbers(joint)
    for mine, theirs in zip(off.model.parameters(), joint.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_measuring_changes_nothing_but_when_it_ends(corpus: Corpus) -> None:
    def measured(update: Aggressive) -> None:
        def really(model: LatentModel, split: Split, seed: int) -> float:
            values.append(information_in_pools(model, split, seed, "any", 4))
            return float(len(values))

        update.information = really

    values: list[float] = []
    config = AggressiveConfig(inner_steps=4, block=2)
    one = train(corpus, config, measured)
    other = train(corpus, config, lambda update: scripted_information(update, [1.0, 2.0, 3.0]))
    assert numbers(one) == numbers(other)
    assert len(set(values)) == 3


def test_a_training_records_what_it_measured_until_it_is_over(corpus: Corpus) -> None:
    training = train(corpus, AggressiveConfig(inner_steps=4, block=2), precision="bf16")
    for record in training.history:
        assert {"encoder_steps", "information"} <= record.train.keys() or record.epoch > 1
    scripted = train(corpus, AggressiveConfig(inner_steps=4), lambda update: scripted_information(update, [1.0, 0.5]))
    assert [record.train.get("information") for record in scripted.history] == [1.0, 0.5, None]
    assert [record.train.get("encoder_steps") for record in scripted.history] == [40, 40, None]


def test_an_epoch_that_comes_to_no_number_ends_the_training(corpus: Corpus) -> None:
    """A measurement of the update's own; and validation, by weights that are too large although each step was sound."""

    def measures_none(update: Aggressive) -> None:
        scripted_information(update, [math.inf])

    def breaks_the_encoder(update: Aggressive) -> None:
        def information(model: LatentModel, split: Split, seed: int) -> float:
            with torch.no_grad():
                for parameter in model.inference_parameters():
                    parameter.fill_(1e30)
            return 0.5

        update.information = information

    config = AggressiveConfig(inner_steps=2)
    with pytest.raises(NonFiniteError, match="after epoch 1, train information are not finite; lower the learning"):
        train(corpus, config, measures_none)
    with pytest.raises(NonFiniteError, match="after epoch 1, valid nll, .*valid kl, .* are not finite"):
        train(corpus, config, breaks_the_encoder)


def test_a_model_without_an_encoder_is_refused(corpus: Corpus) -> None:
    model = LmConfig(embedding_dim=6, hidden_dim=9).build(corpus.vocabulary)
    for each in (model, at_precision(model, "bf16")):
        with pytest.raises(
            ValueError, match="update aggressive trains the encoder by itself, and .*; give it update: joint"
        ):
            AggressiveConfig().build(each)


@pytest.mark.parametrize("fields", [{"inner_steps": 5}, {"block": 2}, {"pool": 8}])
def test_settings_of_an_inner_loop_that_is_off_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(fields))} has nothing to decide"):
        AggressiveConfig(aggressive=False, **fields)
