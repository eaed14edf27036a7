"""The store: states from files, whole or not at all, and one writer a trial."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.files import LocalFiles
from sweep.claims import Launch, TakenError
from sweep.jobs import SupersededError
from sweep.mirror import default_uri
from sweep.places import files_at, local_folder
from sweep.record import EpochRecord, SweepRecord, TrialFailure, TrialResult, WantedTrial, seal, unseal
from sweep.store import TrialStore

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
    return TrialFailure(KEY, "error", "it broke", "trace", 2, "here", 1000.0, attempt=3, log_tail="epoch 1\nfailed")


@pytest.fixture
def store(tmp_path: Path) -> TrialStore:
    return TrialStore(tmp_path)


@pytest.fixture
def launch(store: TrialStore) -> Iterator[Launch]:
    with Launch(store.launches, "toy") as launch:
        yield launch


def test_state_follows_from_the_files(store: TrialStore, launch: Launch) -> None:
    assert store.state(KEY) == "missing"
    attempt = store.begin(KEY, {"seed": 0}, launch.id)
    assert store.state(KEY) == "missing"
    attempt.checkpoints.publish("epoch-00001/state.json", b"{}")
    assert store.state(KEY) == "started"
    attempt.fail(make_failure())
    assert store.state(KEY) == "failed"
    assert store.failure(KEY) == make_failure()
    again = store.begin(KEY, {"seed": 0}, launch.id)
    assert store.state(KEY) == "started"
    again.finish(make_result(), {"w": torch.ones(2)})
    assert store.state(KEY) == "done"
    assert store.result(KEY) == make_result()
    assert store.states([KEY, "b" * 64, KEY]) == {KEY: "done", "b" * 64: "missing"}
    # Neither checkpoints nor attempts outlive the result.
    assert store.trial(KEY).names() == {"config.json", "result.json", "weights.safetensors"}


def test_records_go_through_json() -> None:
    assert TrialResult.from_json(make_result().to_json()) == make_result()
    assert TrialFailure.from_json(make_failure().to_json()) == make_failure()
    trial = WantedTrial(KEY, {"method": "LM"}, 0, {"seed": 0})
    sweep = SweepRecord("toy", {"name": "toy"}, (trial,), {"across": None})
    assert SweepRecord.from_json(sweep.to_json()) == sweep


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
)


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_a_sealed_text_is_laid_out_as_json_does(fields: dict[str, Any]) -> None:
    text = seal(fields)
    assert text == json.dumps(json.loads(text), indent=1)
    assert unseal(text) == json.loads(json.dumps(fields))


def test_an_older_attempt_may_not_write(store: TrialStore, launch: Launch) -> None:
    old = store.begin(KEY, {"seed": 0}, launch.id)
    new = store.begin(KEY, {"seed": 0}, launch.id)
    for write in (
        old.check,
        lambda: old.log("a line"),
        lambda: old.fail(make_failure()),
        lambda: old.finish(make_result(), {"w": torch.ones(2)}),
    ):
        with pytest.raises(SupersededError, match="taken over"):
            write()
    assert store.state(KEY) == "missing"
    assert store.log(KEY) == ""
    new.finish(make_result(), {"w": torch.ones(2)})
    assert store.state(KEY) == "done"
    with pytest.raises(SupersededError, match="taken over"):
        old.fail(make_failure())
    assert store.state(KEY) == "done"


def test_a_living_launch_keeps_its_trial_and_a_dead_one_does_not(store: TrialStore, launch: Launch) -> None:
    with Launch(store.launches, "other") as other:
        theirs = store.begin(KEY, {"seed": 0}, other.id)
        with pytest.raises(TakenError, match=r"taken by process \d+ on "):
            store.begin(KEY, {"seed": 0}, launch.id)
        theirs.check()
        assert store.holder(KEY) is not None
    assert store.holder(KEY) is None
    ours = store.begin(KEY, {"seed": 0}, launch.id)
    assert ours.number > theirs.number
    with pytest.raises(SupersededError, match="taken over"):
        theirs.check()


def test_a_log_goes_on_where_the_attempt_before_left_it(store: TrialStore, launch: Launch) -> None:
    store.begin(KEY, {"seed": 0}, launch.id).log("one")
    store.begin(KEY, {"seed": 0}, launch.id).log("two")
    assert store.log(KEY) == "one\ntwo\n"


def test_publishing_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    files.publish("file.json", b"one")
    files.publish("file.json", b"two")
    assert files.read("file.json") == b"two"
    with pytest.raises(TypeError):
        files.publish("file.json", 3)  # type: ignore[arg-type]
    assert files.read("file.json") == b"two"
    assert [each.name for each in tmp_path.iterdir()] == ["file.json"]


def test_a_damaged_result_is_one_sentence(store: TrialStore, launch: Launch, tmp_path: Path) -> None:
    store.begin(KEY, {"seed": 0}, launch.id).finish(make_result(), {"w": torch.ones(2)})
    path = tmp_path / "trials" / KEY / "result.json"
    whole = path.read_text()
    damaged = ["", "{", "[]", "[" * 100_000, json.dumps({"version": 1}), seal({"version": 1})]
    # A digit that a disk flipped, and a file that was copied from another trial.
    damaged += [whole.replace("2.5", "2.4"), make_result("b" * 64).to_json()]
    for text in damaged:
        path.write_text(text)
        for read in (lambda: store.result(KEY), lambda: store.results([KEY])):
            with pytest.raises(ValueError, match=r"result\.json is damaged .*; remove it to have it made again"):
                read()
    path.write_text(whole)
    assert store.result(KEY) == make_result()


def test_a_damaged_failure_is_still_a_failure(store: TrialStore, launch: Launch, tmp_path: Path) -> None:
    store.begin(KEY, {"seed": 0}, launch.id).fail(make_failure())
    (tmp_path / "trials" / KEY / "failure.json").write_text("{")
    assert store.state(KEY) == "failed"
    failure = store.failure(KEY)
    assert failure.kind == "error"
    assert "failure.json is damaged" in failure.message


def test_recorded_sweeps(store: TrialStore) -> None:
    with pytest.raises(ValueError, match="no sweep 'toy' was run in .*; there are none yet"):
        store.recorded("toy")
    sweep = SweepRecord("toy", {}, (), {})
    store.record(sweep)
    assert store.recorded("toy") == sweep
    for name in ("../toy", "/etc", "", "."):
        with pytest.raises(ValueError, match="known: toy"):
            store.recorded(name)


def test_places(tmp_path: Path) -> None:
    for location in (tmp_path / "a b", str(tmp_path / "a b"), (tmp_path / "a b").as_uri()):
        assert files_at(location) == LocalFiles(tmp_path / "a b")
        assert local_folder(location) == tmp_path / "a b"
        assert default_uri(location) == f"sqlite:///{tmp_path}/a b/mlflow.db"
    assert local_folder("s3://bucket/results") is None
    with pytest.raises(ValueError, match="say where MLflow is with --tracking-uri"):
        default_uri("s3://bucket/results")
