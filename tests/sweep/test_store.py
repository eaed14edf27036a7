"""The store: states from files, whole or not at all, and one writer a trial."""

import json
from pathlib import Path

import pytest
import torch

from sweep.record import EpochRecord, SweepRecord, TrialFailure, TrialResult, WantedTrial
from sweep.store import SupersededError, TrialStore, publish

KEY = "a" * 64


def make_result(key: str = KEY) -> TrialResult:
    record = EpochRecord(1, 1000.5, 2.0, 0.1, 1.0, {"nll": 3.0}, {"nll": 2.0}, True)
    return TrialResult(
        version=1,
        key=key,
        config={"seed": 0},
        corpus={"title": "toy"},
        parameters=7,
        latents_per_sentence=1,
        best_epoch=1,
        beta_at_best=0.1,
        valid={"nll": 2.0},
        test={"nll": 2.5},
        history=(record,),
        cost={"seconds": 2.0},
        environment={"host": "here"},
        started=998.5,
        finished=1001.0,
    )


def make_failure() -> TrialFailure:
    return TrialFailure(KEY, "error", "it broke", "trace", 2, "here", 1000.0)


def test_state_follows_from_the_files(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    assert store.state(KEY) == "missing"
    attempt = store.begin(KEY, {"seed": 0})
    assert store.state(KEY) == "missing"
    attempt.checkpoints.mkdir()
    assert store.state(KEY) == "started"
    attempt.fail(make_failure())
    assert store.state(KEY) == "failed"
    assert store.failure(KEY) == make_failure()
    again = store.begin(KEY, {"seed": 0})
    assert store.state(KEY) == "started"
    again.finish(make_result(), {"w": torch.ones(2)})
    assert store.state(KEY) == "done"
    assert store.result(KEY) == make_result()
    assert not again.checkpoints.exists()


def test_records_go_through_json() -> None:
    assert TrialResult.from_json(make_result().to_json()) == make_result()
    trial = WantedTrial(KEY, {"method": "LM"}, 0, {"seed": 0})
    sweep = SweepRecord("toy", {"name": "toy"}, (trial,), {"across": None})
    assert SweepRecord.from_json(sweep.to_json()) == sweep


def test_an_older_attempt_may_not_write(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    old = store.begin(KEY, {"seed": 0})
    new = store.begin(KEY, {"seed": 0})
    for write in (
        old.check,
        lambda: old.fail(make_failure()),
        lambda: old.finish(make_result(), {"w": torch.ones(2)}),
    ):
        with pytest.raises(SupersededError, match="taken over"):
            write()
    assert store.state(KEY) == "missing"
    new.finish(make_result(), {"w": torch.ones(2)})
    assert store.state(KEY) == "done"


def test_publishing_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    publish(path, "one")
    publish(path, "two")
    assert path.read_text() == "two"
    with pytest.raises(TypeError):
        publish(path, 3)  # type: ignore[arg-type]
    assert path.read_text() == "two"
    assert [each.name for each in tmp_path.iterdir()] == ["file.json"]


def test_a_damaged_result_is_one_sentence(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    store.begin(KEY, {"seed": 0}).finish(make_result(), {"w": torch.ones(2)})
    path = store.folder(KEY) / "result.json"
    for text in ("", "{", "[]", json.dumps({"version": 1})):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"result\.json is damaged .*; remove it to train this trial again"):
            store.result(KEY)


def test_recorded_sweeps(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    with pytest.raises(ValueError, match="no sweep 'toy' was run in .*; there are none yet"):
        store.recorded("toy")
    sweep = SweepRecord("toy", {}, (), {})
    store.record(sweep)
    assert store.recorded("toy") == sweep
    for name in ("../toy", "/etc", "", "."):
        with pytest.raises(ValueError, match="known: toy"):
            store.recorded(name)
