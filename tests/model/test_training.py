"""The epoch loop: what it records, that it continues exactly, and that evaluation is accounted as defined."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data.batch import num_batches, sequential_batches
from data.corpus import Corpus
from data.files import LocalFiles
from model import checkpoint
from model.core import Bound, TextModel
from model.evaluate import EvaluateConfig, evaluate, metrics
from model.objectives.elbo import Config as Elbo
from model.plateau import Plateau, PlateauConfig
from model.precision import at_precision
from model.randomness import generator
from model.schedules.linear import Config as Linear
from model.train import EpochRecord, TrainConfig, Training, fit
from model.update import NonFiniteError, Step
from model.updates.joint import Config as Joint
from model.variants.lstm_vae import Config as VaeConfig

TRAIN = TrainConfig(epochs=4, batch_size=8)


def make(corpus: Corpus, seed: int = 3) -> Training:
    model = VaeConfig(embedding_dim=6, hidden_dim=9, latent_dim=3, samples=2, average=True).build(corpus.vocabulary)
    model.initialise(generator(seed, "parameters"))
    return Training(model, Joint().build(model), Plateau(PlateauConfig(), 2.0))


def run(
    training: Training, corpus: Corpus, evaluation: EvaluateConfig, epochs: int = 4, config: TrainConfig = TRAIN
) -> list[EpochRecord]:
    records: list[EpochRecord] = []

    def keep(record: EpochRecord | None) -> None:
        assert record is not None, "nobody asked for a checkpoint within an epoch"
        records.append(record)

    fit(training, corpus, Linear(epochs=2), Elbo(), config.model_copy(update={"epochs": epochs}), evaluation, 3, keep)
    return records


def numbers(records: list[EpochRecord]) -> list[object]:
    return [(r.epoch, r.beta, r.lr, dict(r.train), dict(r.valid), r.improved) for r in records]


def test_training_learns_and_keeps_the_best(corpus: Corpus) -> None:
    training = make(corpus)
    records = run(training, corpus, EvaluateConfig(), epochs=8)
    values = [record.valid["nelbo_paper"] for record in records]
    assert records[-1].train["rec"] < records[0].train["rec"]
    assert training.best_epoch == 1 + values.index(min(values))
    training.model.load_state_dict(training.best)
    again = evaluate(training.model, corpus.splits["valid"], EvaluateConfig(), 3, "valid")
    assert again == dict(records[training.best_epoch - 1].valid)
    assert [record.beta for record in records[:3]] == [0.5, 1.0, 1.0]


def test_stopped_and_continued_equals_never_stopped(corpus: Corpus, tmp_path: Path) -> None:
    whole, first = make(corpus), make(corpus)
    uninterrupted = run(whole, corpus, EvaluateConfig())
    run(first, corpus, EvaluateConfig(), epochs=2)
    files = LocalFiles(tmp_path)
    checkpoint.write(files, first.checkpoint())
    second = make(corpus, seed=4)
    saved = checkpoint.read_newest(files)
    assert saved is not None
    second.restore(saved)
    run(second, corpus, EvaluateConfig())
    assert numbers(second.history) == numbers(uninterrupted)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name])


def test_evaluating_more_never_changes_training(corpus: Corpus) -> None:
    little, much = make(corpus), make(corpus)
    run(little, corpus, EvaluateConfig(samples=1), epochs=2)
    run(much, corpus, EvaluateConfig(samples=5), epochs=2)
    assert [r.train for r in little.history] == [r.train for r in much.history]
    assert little.history[-1].valid != much.history[-1].valid


def poisoned(training: Training, bad: set[int]) -> Training:
    """Training whose loss is not a number in the steps of these numbers."""
    model, step = training.model, iter(range(1, 10**6))
    plain_bound = model.bound

    def bound(tokens: Tensor, noise: Tensor, source: torch.Generator) -> Bound:
        found = plain_bound(tokens, noise, source)
        is_bad = model.training and next(step) in bad
        return Bound(found.rec * math.nan, found.kl_terms, found.latents, found.charged_terms) if is_bad else found

    model.bound = bound  # type: ignore[method-assign]
    return training


def test_steps_that_are_not_finite_end_the_epoch_and_nothing_is_recorded(corpus: Corpus) -> None:
    training = poisoned(make(corpus), {2, 3})
    with pytest.raises(
        NonFiniteError, match=r"in epoch 1, 2 of \d+ steps .* the first in batch 2; .*max_skipped_steps"
    ):
        run(training, corpus, EvaluateConfig(), epochs=1)
    assert training.history == []
    assert all(bool(parameter.isfinite().all()) for parameter in training.model.parameters())


def test_allowed_steps_that_are_not_finite_are_skipped_and_counted(corpus: Corpus) -> None:
    allowing = TRAIN.model_copy(update={"max_skipped_steps": 2})
    records = run(poisoned(make(corpus), {2, 3}), corpus, EvaluateConfig(), 2, allowing)
    assert [record.train["skipped_steps"] for record in records] == [2, 0]
    for record in records:
        assert all(math.isfinite(value) for value in record.train.values())
        # What the skipped ones measured is in no mean.
        assert record.train["nll"] == pytest.approx(record.train["rec"] + 2 * record.train["kl"], rel=1e-6)


def test_an_epoch_of_which_nothing_is_left_fails_whatever_is_allowed(corpus: Corpus) -> None:
    allowing = TRAIN.model_copy(update={"max_skipped_steps": 10**6})
    with pytest.raises(NonFiniteError, match="in epoch 1, 10 of 10 steps"):
        run(poisoned(make(corpus), set(range(1, 11))), corpus, EvaluateConfig(), config=allowing)


def test_clipped_steps_and_the_largest_kl_are_recorded(corpus: Corpus) -> None:
    for clip, expected in ((1e-6, num_batches(corpus.splits["train"], 8)), (1e6, 0)):
        training = make(corpus)
        training.update = Joint(clip=clip).build(training.model)
        kls: list[float] = []
        step = training.update.step

        def watched(*arguments: Any, step: Callable[..., Step] = step, kls: list[float] = kls) -> Step:
            done = step(*arguments)
            kls.append(float(done.bound.kl.mean()))
            return done

        training.update.step = watched  # type: ignore[method-assign]
        (record,) = run(training, corpus, EvaluateConfig(), epochs=1)
        assert record.train["clipped_steps"] == expected
        assert record.train["largest_kl"] == pytest.approx(max(kls))
        assert record.train["skipped_steps"] == 0


def test_bf16_learns_and_continues_bit_for_bit(corpus: Corpus, tmp_path: Path) -> None:
    def make_bf16(seed: int = 3) -> Training:
        training = make(corpus, seed)
        training.update = Joint().build(at_precision(training.model, "bf16"))
        return training

    whole, first, second = make_bf16(), make_bf16(), make_bf16(4)
    run(whole, corpus, EvaluateConfig(), epochs=3)
    run(first, corpus, EvaluateConfig(), epochs=2)
    files = LocalFiles(tmp_path)
    checkpoint.write(files, first.checkpoint())
    saved = checkpoint.read_newest(files)
    assert saved is not None
    second.restore(saved)
    run(second, corpus, EvaluateConfig(), epochs=3)
    assert numbers(second.history) == numbers(whole.history)
    assert whole.history[-1].train["rec"] < whole.history[0].train["rec"]
    assert all(parameter.dtype == torch.float32 for parameter in whole.model.parameters())
    single = make(corpus)
    run(single, corpus, EvaluateConfig(), epochs=3)
    assert whole.history[-1].valid["nll"] == pytest.approx(single.history[-1].valid["nll"], rel=0.02)
    assert whole.history[-1].valid != single.history[-1].valid


def test_metrics_are_totals_divided_once() -> None:
    values = metrics([300.0, 200.0, 180.0, 20.0], sentences=10, tokens=100)
    assert values["nll"] == 30.0
    assert values["nelbo_paper"] == 20.0
    assert values["rec"] == 18.0
    assert values["kl"] == 2.0
    assert values["ppl"] == pytest.approx(math.exp(3.0))
    assert values["ppl_paper"] == pytest.approx(math.exp(2.0))


def test_evaluation_sums_what_the_model_says(corpus: Corpus) -> None:
    model: TextModel = make(corpus).model
    split = corpus.splits["test"]
    measured = evaluate(model, split, EvaluateConfig(tokens_at_once=40), 3, "test")
    model.eval()
    source = generator(3, "evaluate/test")
    noise = model.draw_noise(split.num_sentences, 1, source)
    strict = 0.0
    for start, batch in enumerate(sequential_batches(split, 1)):
        strict += float(model.bound(batch.tokens, noise[:, :, start : start + 1], source).strict.detach())
    assert measured["nll"] == pytest.approx(strict / split.num_sentences, rel=1e-6)
    assert measured["nll"] == pytest.approx(measured["rec"] + 2 * measured["kl"], rel=1e-6)
    assert measured["nelbo_paper"] == pytest.approx(measured["rec"] + measured["kl"], rel=1e-6)
    assert measured["ppl"] == pytest.approx(math.exp(measured["nll"] * split.num_sentences / split.num_tokens))


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "no manifest"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    corpus: Corpus, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    training, files = make(corpus), LocalFiles(tmp_path)
    training.keep_best()
    checkpoint.write(files, training.checkpoint())
    run(training, corpus, EvaluateConfig(), epochs=1)
    checkpoint.write(files, training.checkpoint())
    newest = tmp_path / "epoch-00001"
    weights = newest / "weights.safetensors"
    content = weights.read_bytes()
    match damage:
        case "truncate":
            weights.write_bytes(content[:-7])
        case "flip":
            weights.write_bytes(content[:-7] + bytes([content[-7] ^ 1]) + content[-6:])
        case "remove":
            weights.unlink()
        case "no manifest":
            (newest / "manifest.json").unlink()
    found = checkpoint.read_newest(files)
    assert found is not None
    assert (found.epoch, found.step) == (0, 0)
    assert re.search(r"damaged: checkpoint epoch-00001 \(.+\); using epoch-00000", caplog.text)


def test_when_all_are_damaged_training_starts_anew_and_says_so(
    corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.write(LocalFiles(tmp_path), make(corpus).checkpoint())
    (tmp_path / "epoch-00000" / "weights.safetensors").unlink()
    assert checkpoint.read_newest(LocalFiles(tmp_path)) is None
    assert re.search(r"damaged: checkpoint epoch-00000 \(.+\); .* starting from the beginning", caplog.text)


def test_a_new_checkpoint_replaces_all_but_the_one_before(corpus: Corpus, tmp_path: Path) -> None:
    training = make(corpus)
    fit(
        training,
        corpus,
        Linear(epochs=2),
        Elbo(),
        TRAIN,
        EvaluateConfig(),
        3,
        lambda record: checkpoint.write(LocalFiles(tmp_path), training.checkpoint()),
    )
    assert {path.name for path in tmp_path.iterdir()} == {"epoch-00003", "epoch-00004"}


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.read_newest(LocalFiles(tmp_path / "nothing")) is None
    assert checkpoint.read_state(LocalFiles(tmp_path / "nothing")) is None
