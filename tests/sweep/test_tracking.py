"""The mirror: one complete run a trial whatever is repeated, killed or away, and never in a trial's way."""

import json
import math
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from sweep import mirror as mirror_module
from sweep import tracking
from sweep.evaluation import Evaluation
from sweep.mirror import Mirror, default_uri
from sweep.mlflow_ui import served
from sweep.mlflow_values import flat
from sweep.record import EpochRecord, SweepRecord, TrialFailure, TrialResult, WantedTrial
from sweep.store import TrialStore

BEGAN = 1_790_000_000.0
CORPUS = {"title": "PTB", "content_hash": "c0ffee" * 10, "vocabulary": 10, "sentences": {"train": 5}, "tokens": {}}


def wanted(method: str, seed: int) -> WantedTrial:
    config = {"model": {"kind": method, "sizes": [1, 2]}, "train": {"epochs": 3, "clip": None}, "seed": seed}
    return WantedTrial(f"{method}-{seed}".ljust(64, "0"), {"dataset": "PTB", "method": method}, seed, config)


def measured(nll: float) -> dict[str, float]:
    return {"nll": nll, "nelbo_paper": nll, "rec": nll - 1, "kl": 1.0, "ppl": nll / 2, "ppl_paper": nll / 2}


def result_of(trial: WantedTrial, num_epochs: int = 3) -> TrialResult:
    watched = {"largest_kl": 9.0, "clipped_steps": 2.0, "skipped_steps": 1.0, "information": 0.5}
    history = tuple(
        EpochRecord(n, BEGAN + n + 0.25, 1.0, n / 10, 1.0, measured(200 - n) | watched, measured(100 - n), True)
        for n in range(1, num_epochs + 1)
    )
    return TrialResult(
        version=1,
        key=trial.key,
        config=trial.config,
        corpus=CORPUS,
        parameters=7,
        latents_per_sentence=1,
        best_epoch=num_epochs,
        beta_at_best=1.0,
        valid=history[-1].valid,
        test=measured(90.0 + trial.seed**2),
        history=history,
        cost={"seconds": 3.0, "epochs": 3, "train_tokens_per_second": 1.0},
        environment={"host": "node1"},
        started=BEGAN,
        finished=BEGAN + 10,
    )


TRIALS = tuple(wanted(method, seed) for method in ("vae", "vmf") for seed in (1, 2, 3))
FIRST, SECOND = TRIALS[0], TRIALS[1]
RECORD = SweepRecord("paper", {}, TRIALS, {})


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that MLflow made: seconds of work, needed once."""
    folder = tmp_path_factory.mktemp("database")
    MlflowClient(default_uri(folder))
    return folder / "mlflow.db"


@pytest.fixture
def store(tmp_path: Path, empty_database: Path) -> Path:
    """The folder of a store, with that database in it."""
    shutil.copy(empty_database, tmp_path)
    return tmp_path


def folder_of(store: Path, trial: WantedTrial) -> Path:
    folder = store / "trials" / trial.key
    folder.mkdir(parents=True)
    return folder


def opened(store: Path, uri: str | None = None) -> Mirror:
    mirror = Mirror(uri or default_uri(store), RECORD, TrialStore(store))
    assert mirror.open() is None
    return mirror


def play(mirror: Mirror, trial: WantedTrial) -> None:
    """A trial from its start to its end, as a launch reports it."""
    mirror.started(trial)
    for record in result_of(trial).history:
        mirror.epoch(trial, record)
    mirror.finished(trial, result_of(trial))


def runs_of(store: Path, uri: str | None = None) -> dict[str, Any]:
    """All runs of the experiment by name; fails when two have the same."""
    client = MlflowClient(uri or default_uri(store))
    found = client.search_runs([client.get_experiment_by_name("paper").experiment_id])
    runs = {run.info.run_name: run for run in found}
    assert len(runs) == len(found)
    return runs


def points(store: Path, trial: WantedTrial, metric: str) -> list[tuple[int, float, int]]:
    history = MlflowClient(default_uri(store)).get_metric_history(runs_of(store)[trial.name].info.run_id, metric)
    return [(point.step, point.value, point.timestamp) for point in history]


def artifacts_of(uri: str, run: Any) -> set[str]:
    return {file.path for file in MlflowClient(uri).list_artifacts(run.info.run_id)}


def test_a_run_shows_the_whole_trial(store: Path) -> None:
    folder = folder_of(store, FIRST)
    for name in ("config.json", "result.json", "weights.safetensors", "log.txt"):
        (folder / name).write_text(name)
    mirror = opened(store)
    play(mirror, FIRST)
    assert mirror.close() is None

    run = runs_of(store)[FIRST.name]
    assert run.info.status == "FINISHED"
    assert run.info.end_time == round((BEGAN + 10) * 1000)
    assert run.data.params == {
        "model.kind": "vae",
        "model.sizes": "[1, 2]",
        "train.epochs": "3",
        "train.clip": "null",
        "seed": "1",
    }
    expected = {"dataset": "PTB", "method": "vae", "cell": "PTB / vae", "seed": "1", "best_epoch": "3"}
    expected |= {"sweep.trial_key": FIRST.key, "sweep.name": "paper", "on.host": "node1"}
    assert expected.items() <= run.data.tags.items()
    assert "mlflow.parentRunId" not in run.data.tags
    assert points(store, FIRST, "valid/nll") == [(n, 100.0 - n, round((BEGAN + n + 0.25) * 1000)) for n in (1, 2, 3)]
    assert points(store, FIRST, "test/nll") == [(3, 91.0, round((BEGAN + 10) * 1000))]
    assert run.data.metrics["best/nll"] == 97.0
    watched = {"largest_kl": 9.0, "clipped_steps": 2.0, "skipped_steps": 1.0, "information": 0.5}  # an update's, too
    assert {name: run.data.metrics[f"train/{name}"] for name in watched} == watched
    assert "valid/largest_kl" not in run.data.metrics
    [input_] = run.inputs.dataset_inputs
    assert (input_.dataset.name, input_.dataset.digest) == ("PTB", CORPUS["content_hash"][:36])  # type: ignore[index]
    assert json.loads(input_.dataset.profile)["vocabulary"] == 10
    assert artifacts_of(default_uri(store), run) == {"config.json", "result.json", "weights.safetensors"}


def test_repeats_and_later_launches_add_nothing(store: Path) -> None:
    mirror = opened(store)
    for _ in range(2):
        play(mirror, FIRST)
    assert mirror.close() is None
    before = runs_of(store), points(store, FIRST, "train/kl")
    again = opened(store)
    again.finished(FIRST, result_of(FIRST))
    assert again.close() is None
    after = runs_of(store), points(store, FIRST, "train/kl")
    assert [run.to_dictionary() for run in before[0].values()] == [run.to_dictionary() for run in after[0].values()]
    assert before[1] == after[1]
    assert len(after[1]) == 3


def test_an_interrupted_trial_is_killed_and_goes_on_in_the_same_run(store: Path) -> None:
    result = result_of(FIRST)
    mirror = opened(store)
    mirror.started(FIRST)
    mirror.epoch(FIRST, result.history[0])
    assert mirror.close() is None
    killed = runs_of(store)[FIRST.name]
    assert killed.info.status == "KILLED"

    mirror = opened(store)
    mirror.started(FIRST)
    # An epoch that was lost with a checkpoint is trained again: same step, other time.
    mirror.epoch(FIRST, replace(result.history[0], timestamp=BEGAN + 500))
    mirror.finished(FIRST, result)
    assert mirror.close() is None
    finished = runs_of(store)[FIRST.name]
    assert (finished.info.run_id, finished.info.status) == (killed.info.run_id, "FINISHED")
    assert [step for step, _, _ in points(store, FIRST, "beta")] == [1, 2, 3]


def test_a_run_left_by_a_killed_driver_is_completed(store: Path) -> None:
    # What `kill -9` leaves: a run that says RUNNING for ever, and not even its params.
    experiment = tracking.Experiment(default_uri(store), RECORD, TrialStore(store))
    left = experiment._client.create_run(
        experiment._id, tags={"sweep.trial_key": FIRST.key}, run_name=FIRST.name
    ).info.run_id
    mirror = opened(store)
    mirror.finished(FIRST, result_of(FIRST))
    assert mirror.close() is None
    run = runs_of(store)[FIRST.name]
    assert (run.info.run_id, run.info.status) == (left, "FINISHED")
    assert run.data.params == flat(FIRST.config)


def test_a_failure_is_told_and_forgotten_when_the_trial_succeeds(store: Path) -> None:
    failure = TrialFailure(FIRST.key, "non-finite", "loss is nan", "Traceback", 2, "node1", BEGAN + 5)
    mirror = opened(store)
    mirror.started(FIRST)
    mirror.failed(FIRST, failure)
    assert mirror.close() is None
    run = runs_of(store)[FIRST.name]
    assert (run.info.status, run.data.tags["failure"]) == ("FAILED", "non-finite: loss is nan")

    mirror = opened(store)
    play(mirror, FIRST)
    assert mirror.close() is None
    run = runs_of(store)[FIRST.name]
    assert run.info.status == "FINISHED"
    assert "failure" not in run.data.tags


def test_summaries_follow_the_seeds(store: Path) -> None:
    tables = ["table.md", "table.csv"]
    for name in tables:
        TrialStore(store).sweep("paper").publish(name, b"numbers")
    for num_seeds in (1, 2, 3, 1):
        mirror = opened(store)
        for trial in TRIALS[:num_seeds]:
            mirror.finished(trial, result_of(trial))
        assert mirror.close(tables) is None
        runs = runs_of(store)
        summary = runs["summary: PTB / vae"]
        column = [91.0, 94.0, 99.0][:num_seeds]
        assert summary.data.metrics["n"] == num_seeds
        assert summary.data.metrics["test/nll_mean"] == fmean(column)
        if num_seeds > 1:
            assert summary.data.metrics["test/nll_std"] == stdev(column)
        else:
            assert summary.data.metrics.get("test/nll_std") in (None, pytest.approx(float("nan"), nan_ok=True))
        assert "cell" not in summary.data.tags
        assert summary.data.tags["sweep.summary_of"] == "PTB / vae"
        assert "summary: PTB / vmf" not in runs
    assert artifacts_of(default_uri(store), runs["tables: paper"]) == {"table.md", "table.csv"}


def evaluation_of(trial: WantedTrial, draws: int, **test: float) -> Evaluation:
    settings = {"samples": 10, "draws": draws, "fit": "train", "mi_batch": 32}
    return Evaluation(trial.key, settings, 1, (), (), {"nelbo_strict": 1.5}, test, {"seconds": 1.0}, {}, 2000.0)


def test_what_was_measured_later_is_on_the_run_and_in_the_summary(store: Path) -> None:
    """Also when it is no number, and when other settings no longer give it; the same once more adds nothing."""
    trials = [wanted("VAE", seed) for seed in range(2)]

    def mirror(*evaluations: Evaluation) -> None:
        mirror = opened(store)
        for trial in trials:
            mirror.finished(trial, result_of(trial))
        for trial, evaluation in zip(trials, evaluations, strict=True):
            mirror.evaluated(trial, evaluation)
        assert mirror.close(trials=trials) is None

    weighed = [evaluation_of(trial, 500, iw_strict=9.0 + trial.seed, mi=math.inf) for trial in trials]
    mirror(*weighed)
    mirror(*weighed)
    runs = runs_of(store)
    run, summary = runs[trials[0].name], runs["summary: PTB / VAE"]
    assert run.data.metrics["measured/iw_strict"] == 9.0
    assert run.data.metrics["measured/valid_nelbo_strict"] == 1.5
    assert math.isnan(run.data.metrics["measured/mi"])
    assert run.data.tags["evaluation.draws"] == "500"
    assert len(points(store, trials[0], "measured/mi")) == 1
    assert (summary.data.metrics["measured/iw_strict_mean"], summary.data.metrics["n"]) == (9.5, 2.0)
    assert math.isnan(summary.data.metrics["measured/mi_std"])
    mirror(*(evaluation_of(trial, 0, mi=0.5) for trial in trials))
    runs = runs_of(store)
    run, summary = runs[trials[0].name], runs["summary: PTB / VAE"]
    assert math.isnan(run.data.metrics["measured/iw_strict"])
    assert run.data.metrics["measured/mi"] == 0.5
    assert run.data.tags["evaluation.draws"] == "0"
    assert math.isnan(summary.data.metrics["measured/iw_strict_mean"])
    assert len([each for each in runs.values() if "sweep.trial_key" in each.data.tags]) == 2


def test_of_what_was_done_before_the_history_is_read_when_it_is_written(store: Path) -> None:
    """Those of thousands would be most of what a launch holds."""
    (folder_of(store, FIRST) / "result.json").write_text(result_of(FIRST).to_json())
    mirror = opened(store)
    mirror.finished(FIRST, replace(result_of(FIRST), history=()), can_wait=True)
    assert mirror.close() is None
    assert [step for step, _, _ in points(store, FIRST, "valid/nll")] == [1, 2, 3]


def test_long_histories_and_large_configs_take_several_calls(store: Path) -> None:
    config = {"model": {f"field{n}": n for n in range(150)}}
    mirror = opened(store)
    mirror.finished(replace(FIRST, config=config), result_of(FIRST, num_epochs=100))
    assert mirror.close() is None
    assert len(runs_of(store)[FIRST.name].data.params) == 150
    assert [step for step, _, _ in points(store, FIRST, "valid/ppl")] == list(range(1, 101))


def test_a_search_for_runs_reads_every_page() -> None:
    class Page(list[int]):
        token: str | None = None

    def search_runs(experiments: list[str], max_results: int, order_by: list[str], page_token: str | None) -> Page:
        page = Page([1, 2] if page_token is None else [3])
        page.token = "more" if page_token is None else None
        return page

    assert list(tracking._all_runs(SimpleNamespace(search_runs=search_runs), "1")) == [1, 2, 3]


def test_a_deleted_experiment_comes_back(store: Path) -> None:
    assert opened(store).close() is None
    client = MlflowClient(default_uri(store))
    client.delete_experiment(client.get_experiment_by_name("paper").experiment_id)
    mirror = opened(store)
    play(mirror, FIRST)
    assert mirror.close() is None
    assert FIRST.name in runs_of(store)


@pytest.mark.timeout(300)
def test_a_server_that_is_down_costs_a_warning_and_no_time(store: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    check_away(store, f"http://someone:secret@127.0.0.1:{port}")


@pytest.mark.timeout(300)
def test_a_server_that_never_answers_costs_a_warning_and_no_time(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "8")
    monkeypatch.setattr(mirror_module, "PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        check_away(store, f"http://someone:secret@127.0.0.1:{silent.getsockname()[1]}")


def check_away(store: Path, uri: str) -> None:
    """Nothing waits for MLflow: its own client would hold each of these calls for four minutes."""
    mirror = Mirror(uri, RECORD, TrialStore(store))
    began = time.monotonic()
    warning = mirror.open()
    assert time.monotonic() - began < 60
    assert warning is not None
    assert "training goes on" in warning
    began = time.monotonic()
    for trial in TRIALS:
        play(mirror, trial)
    assert time.monotonic() - began < 5
    began = time.monotonic()
    at_end = mirror.close()
    assert time.monotonic() - began < 90
    assert at_end is not None
    assert "'sweep sync paper' writes them when it is back" in at_end
    assert "secret" not in warning + at_end


def test_what_was_missed_while_mlflow_was_away_is_caught_up(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "PAUSE", 0.5)
    away = True

    def reachable(method: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            if away:
                raise ConnectionError("refused")
            method(*arguments)

        return call

    for name in ("start", "epoch", "finish"):
        monkeypatch.setattr(tracking.Experiment, name, reachable(getattr(tracking.Experiment, name)))
    mirror = opened(store)
    for trial in TRIALS:
        play(mirror, trial)
    wait_until(lambda: mirror._notes.empty())
    away = False
    assert mirror.close() is None
    runs = runs_of(store)
    assert all(runs[trial.name].info.status == "FINISHED" for trial in TRIALS)
    assert all(len(points(store, trial, "valid/kl")) == 3 for trial in TRIALS)


def test_what_fails_once_at_the_end_is_tried_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, num_calls = tracking.Experiment.finish, 0

    def finish(self: tracking.Experiment, trial: WantedTrial, result: TrialResult) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 1:
            raise ConnectionError("reset")
        whole(self, trial, result)

    mirror = opened(store)
    mirror._paused_until = math.inf  # so that it is all written at the end
    monkeypatch.setattr(tracking.Experiment, "finish", finish)
    for trial in TRIALS:
        play(mirror, trial)
    assert mirror.close() is None
    assert num_calls == len(TRIALS) + 1
    assert all(runs_of(store)[trial.name].info.status == "FINISHED" for trial in TRIALS)


def test_away_for_longer_it_is_asked_less_often(store: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        mirror = Mirror(f"http://127.0.0.1:{probe.getsockname()[1]}", RECORD, TrialStore(store))
        pauses = []
        mirror._unwritten = {trial.key: mirror_module._Note(trial.key, lambda experiment: None) for trial in TRIALS}
        for _ in range(9):
            began = time.monotonic()
            assert mirror._write_waiting() == 0
            pauses.append(round(mirror._paused_until - began))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_record_that_is_refused_holds_up_no_other(store: Path) -> None:
    # What is to be its artifact cannot be read: a folder of that name.
    (folder_of(store, FIRST) / "result.json").mkdir()
    mirror = opened(store)
    for trial in TRIALS:
        play(mirror, trial)
    warning = mirror.close()
    assert warning is not None
    assert "lacks 1 record" in warning
    assert "Is a directory" in warning
    statuses = {name: run.info.status for name, run in runs_of(store).items()}
    assert statuses.pop(FIRST.name) == "KILLED"
    assert set(statuses.values()) == {"FINISHED"}


@pytest.mark.slow
def test_a_server_is_mirrored_to_as_a_database_is(store: Path, free_port: int) -> None:
    with served(default_uri(store), store / "served", free_port) as uri:
        (folder_of(store, FIRST) / "result.json").write_text("{}")
        for _ in range(2):
            mirror = opened(store, uri)
            play(mirror, FIRST)
            mirror.started(SECOND)
            assert mirror.close() is None
        runs = runs_of(store, uri)
        assert runs[FIRST.name].info.status == "FINISHED"
        assert runs[SECOND.name].info.status == "KILLED"
        assert artifacts_of(uri, runs[FIRST.name]) == {"result.json"}
        found = tracking.find_runs(uri, "paper")
    assert list((store / "served").rglob("result.json"))
    assert found is not None
    assert found[1] == {trial.key: runs[trial.name].info.run_id for trial in (FIRST, SECOND)}
    assert points(store, FIRST, "valid/nll") == [(n, 100.0 - n, round((BEGAN + n + 0.25) * 1000)) for n in (1, 2, 3)]


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
