"""One trial: from its config to its result, continued, failed, repeated; and alone in a process of its own."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.update import NonFiniteError
from sweep.claims import Launch
from sweep.config import TrialConfig
from sweep.outcome import TrialFailedError
from sweep.record import EpochRecord, TrialResult
from sweep.store import TrialStore
from sweep.trial import run_trial

DOCUMENT = {
    "data": {"kind": "lines", "name": "tiny"},
    "model": {"kind": "lstm_vae", "embedding_dim": 6, "hidden_dim": 9, "latent_dim": 3, "samples": 2, "average": True},
    "schedule": {"kind": "linear", "epochs": 2},
    "update": {"kind": "joint"},
    "train": {"epochs": 4, "batch_size": 4},
    "evaluate": {},
    "seed": 3,
}


def numbers(result: TrialResult) -> dict[str, object]:
    """A result without what depends on the clock."""
    fields = json.loads(result.to_json())
    for name in ("cost", "started", "finished", "environment", "sha256"):
        fields.pop(name)
    for record in fields["history"]:
        record.pop("timestamp")
        record.pop("seconds")
    return fields  # type: ignore[no-any-return]


def test_a_trial_leaves_its_record(lines_corpus: Path, tmp_path: Path) -> None:
    config, store = TrialConfig.parse(DOCUMENT), TrialStore(tmp_path / "results")
    seen: list[EpochRecord] = []
    result = run_trial(config, store, lines_corpus, on_epoch=seen.append)
    assert tuple(seen) == result.history
    assert store.result(result.key) == result
    assert result.config == config.document()
    assert result.corpus["title"] == "tiny"
    assert result.latents_per_sentence == 2
    assert result.test["nll"] == pytest.approx(result.test["rec"] + 2 * result.test["kl"])
    assert not result.is_bound
    assert dict(result.valid) == dict(result.history[result.best_epoch - 1].valid)
    folder = tmp_path / "results" / "trials" / result.key
    assert {path.name for path in folder.iterdir()} == {"config.json", "log.txt", "result.json", "weights.safetensors"}
    # The launch of its own that a trial has when none is given.
    assert store.launches.names() == set()
    assert len((folder / "log.txt").read_text().splitlines()) == len(result.history)
    assert TrialConfig.parse(json.loads((folder / "config.json").read_text())) == config


def test_a_done_trial_is_not_trained_again(lines_corpus: Path, tmp_path: Path) -> None:
    config, store = TrialConfig.parse(DOCUMENT), TrialStore(tmp_path / "results")
    first = run_trial(config, store, lines_corpus)
    seen: list[EpochRecord] = []
    assert run_trial(config, store, lines_corpus, on_epoch=seen.append) == first
    assert seen == []


@pytest.mark.parametrize("stop", [1, 3])
def test_stopped_and_continued_equals_never_stopped(lines_corpus: Path, tmp_path: Path, stop: int) -> None:
    config = TrialConfig.parse(DOCUMENT)
    whole = run_trial(config, TrialStore(tmp_path / "whole"), lines_corpus)
    store = TrialStore(tmp_path / "stopped")

    def end_after(record: EpochRecord) -> None:
        if record.epoch == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(config, store, lines_corpus, on_epoch=end_after)
    assert store.state(whole.key) == "started"
    seen: list[int] = []
    continued = run_trial(config, store, lines_corpus, on_epoch=lambda record: seen.append(record.epoch))
    assert seen == list(range(stop + 1, len(whole.history) + 1))
    assert numbers(continued) == numbers(whole)
    weights = "weights.safetensors"
    assert store.trial(whole.key).read(weights) == TrialStore(tmp_path / "whole").trial(whole.key).read(weights)


def test_a_trial_that_diverges_fails_with_its_epoch_and_batch(lines_corpus: Path, tmp_path: Path) -> None:
    diverging = {**DOCUMENT, "update": {"kind": "joint", "learning_rate": 1e30, "clip": 1e30}}
    store = TrialStore(tmp_path / "results")
    with pytest.raises(TrialFailedError, match=r"in epoch 1, \d+ of \d+ steps .* not finite, .* batch \d+;") as raised:
        run_trial(TrialConfig.parse(diverging), store, lines_corpus)
    failure = raised.value.failure
    assert failure.kind == "non-finite"
    assert (failure.epoch, failure.attempt) == (1, 1)
    assert failure.log_tail == ""
    assert store.log(failure.key) == f"failed: {failure.message}\n"
    assert NonFiniteError.__name__ in failure.traceback
    assert store.state(failure.key) == "failed"
    assert store.failure(failure.key) == failure
    assert failure.key[:12] in str(raised.value)


def test_a_failed_trial_continues_when_asked_again(lines_corpus: Path, tmp_path: Path) -> None:
    config, store = TrialConfig.parse(DOCUMENT), TrialStore(tmp_path / "results")
    whole = run_trial(config, TrialStore(tmp_path / "whole"), lines_corpus)

    def break_down(record: EpochRecord) -> None:
        if record.epoch == 2:
            raise RuntimeError("the disk went away")

    with pytest.raises(TrialFailedError, match="the disk went away"):
        run_trial(config, store, lines_corpus, on_epoch=break_down)
    failure = store.failure(whole.key)
    assert (failure.kind, failure.epoch, failure.attempt) == ("error", 3, 1)
    assert [line.split("  ")[1] for line in failure.log_tail.splitlines()] == ["epoch 1", "epoch 2"]
    assert store.log(whole.key).splitlines() == [*failure.log_tail.splitlines(), "failed: the disk went away"]
    assert numbers(run_trial(config, store, lines_corpus)) == numbers(whole)
    assert store.state(whole.key) == "done"


def test_a_store_that_is_away_is_no_failure_of_the_trial(lines_corpus: Path, tmp_path: Path) -> None:
    config, store = TrialConfig.parse(DOCUMENT), TrialStore(tmp_path / "results")
    whole = run_trial(config, TrialStore(tmp_path / "whole"), lines_corpus)

    def lose_the_network(record: EpochRecord) -> None:
        if record.epoch == 2:
            raise ConnectionError("the store went away")

    with pytest.raises(ConnectionError, match="the store went away"):
        run_trial(config, store, lines_corpus, on_epoch=lose_the_network)
    assert store.state(whole.key) == "started"
    assert store.holder(whole.key) is None
    assert numbers(run_trial(config, store, lines_corpus)) == numbers(whole)


def test_a_trial_that_is_done_when_its_turn_comes_is_left_alone(
    lines_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at its state and the claim another launch finishes it."""
    config, store = TrialConfig.parse(DOCUMENT), TrialStore(tmp_path / "results")
    result = run_trial(config, store, lines_corpus)
    states = iter(["started"])
    real = TrialStore.state
    monkeypatch.setattr(TrialStore, "state", lambda self, key: next(states, None) or real(self, key))
    seen: list[EpochRecord] = []
    assert run_trial(config, store, lines_corpus, on_epoch=seen.append) == result
    assert seen == []
    assert "attempts" not in store.trial(result.key).names()


def test_seeds_differ_and_metrics_are_finite(lines_corpus: Path, tmp_path: Path) -> None:
    store = TrialStore(tmp_path / "results")
    results = [run_trial(TrialConfig.parse({**DOCUMENT, "seed": seed}), store, lines_corpus) for seed in (0, 1)]
    assert results[0].key != results[1].key
    assert results[0].test != results[1].test
    assert all(math.isfinite(value) for result in results for value in result.test.values())


def test_one_trial_alone_needs_neither_ray_nor_mlflow(lines_corpus: Path, tmp_path: Path) -> None:
    """`python -m sweep.trial` in a process where the big packages cannot be imported."""
    (tmp_path / "config.json").write_text(json.dumps(DOCUMENT))
    program = (
        "import sys, runpy\n"
        "for name in ('ray', 'mlflow', 'optuna', 'typer', 'yaml', 'rich'): sys.modules[name] = None\n"
        f"sys.argv = ['trial', {str(tmp_path / 'config.json')!r}, '--results', {str(tmp_path / 'results')!r}, "
        f"'--corpora', {str(lines_corpus)!r}, '--seed', '5']\n"
        "runpy.run_module('sweep.trial', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    result = TrialResult.from_json(printed[printed.index("{") :])
    assert result.config["seed"] == 5
    store = TrialStore(tmp_path / "results")
    assert numbers(store.result(result.key)) == numbers(result)
    here = run_trial(TrialConfig.parse({**DOCUMENT, "seed": 5}), TrialStore(tmp_path / "here"), lines_corpus)
    assert numbers(here) == numbers(result)


def alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweep.trial", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_mistake_is_one_sentence_without_ray_too(lines_corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    wheres = ["--results", str(tmp_path / "results"), "--corpora", str(lines_corpus)]
    for text, expected in {
        "{": "is no config that can be read (",
        "[]": "holds no groups of settings",
        json.dumps({**DOCUMENT, "seeed": 1}): "unknown group 'seeed'; did you mean 'seed'?",
        json.dumps({**DOCUMENT, "data": {"kind": "lines", "name": "absent"}}): "corpus 'absent' needs train.txt",
    }.items():
        path.write_text(text)
        done = alone(str(path), *wheres)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert done.stderr.startswith("error: ")
        assert expected in done.stderr


def test_a_trial_that_somebody_trains_is_left_to_them(lines_corpus: Path, tmp_path: Path) -> None:
    config, store = TrialConfig.parse(DOCUMENT), TrialStore(tmp_path / "results")
    key = run_trial(config, TrialStore(tmp_path / "whole"), lines_corpus).key
    (tmp_path / "config.json").write_text(json.dumps(DOCUMENT))
    with Launch(store.launches, "") as launch:
        store.begin(key, config.document(), launch.id)
        done = alone(str(tmp_path / "config.json"), "--results", str(store.location), "--corpora", str(lines_corpus))
        assert (done.returncode, len(done.stderr.splitlines())) == (3, 1), done.stderr
        assert done.stderr.startswith("stopped: it is being trained by process ")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "model",
    [
        {"kind": "lstm_lm", "input_dropout": 0.0, "output_dropout": 0.0},
        DOCUMENT["model"],
        {"kind": "sa_vae", "embedding_dim": 6, "hidden_dim": 8, "latent_dim": 3, "svi_steps": 2},
        {"kind": "vmf_vae", "embedding_dim": 6, "hidden_dim": 8, "latent_dim": 3},
        {"kind": "cnn_vae", "embedding_dim": 6, "hidden_dim": 8, "latent_dim": 3, "size": "S"},
    ],
)
def test_a_gpu_trains_the_same_trial(lines_corpus: Path, tmp_path: Path, model: dict[str, object]) -> None:
    """From the same weights; without any draw, to the same numbers but for rounding; with draws, to finite ones."""
    config = TrialConfig.parse({**DOCUMENT, "model": model})
    on_cpu = run_trial(config, TrialStore(tmp_path / "cpu"), lines_corpus, device="cpu")
    on_gpu = run_trial(config, TrialStore(tmp_path / "gpu"), lines_corpus, device="cuda")
    assert on_gpu.key == on_cpu.key
    assert all(math.isfinite(value) for value in on_gpu.test.values())
    if model["kind"] == "lstm_lm":
        assert on_gpu.test["nll"] == pytest.approx(on_cpu.test["nll"], rel=1e-3)
