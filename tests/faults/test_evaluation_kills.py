"""`sweep evaluate` by real processes: killed half-way it continues, and twice it does nothing the second time."""

import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from sweep.claims import Launch
from sweep.evaluation import Evaluation, EvaluationSettings
from sweep.measuring import run_evaluation
from sweep.outcome import Right
from sweep.plan import evaluations_of
from sweep.run import write_tables
from sweep.store import TrialStore
from sweep.tracking import KEY, Experiment
from tests.faults.chaos import SWEEP, Undisturbed, ended, kill, runs, wait_for
from tests.here import sweep_here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
DRAWS = 2000


def command(store: TrialStore, corpora: Path, *words: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "SWEEP_RESULTS": str(store.location), "SWEEP_CORPORA": str(corpora)}
    with (Path(store.location) / "said.txt").open("wb") as output:
        return subprocess.Popen(
            [str(SWEEP), "evaluate", "chaos", *words], env=environment, stdout=output, stderr=output
        )  # fmt: skip


def said(store: TrialStore) -> str:
    return (Path(store.location) / "said.txt").read_text()


def measured(evaluation: Evaluation) -> object:
    return evaluation.valid, evaluation.test, evaluation.correlation, evaluation.kl_by_dimension


def test_killed_half_way_it_continues_and_twice_it_does_nothing(
    tmp_path: Path, undisturbed: Undisturbed, chaos_corpora: Path
) -> None:
    shutil.copytree(undisturbed.store.location, tmp_path / "results")
    store, settings = TrialStore(tmp_path / "results"), EvaluationSettings(samples=2, draws=DRAWS)
    store.record(undisturbed.record)
    keys, reached = list(undisturbed.record.wanted), []
    evaluations = store.evaluations(settings)

    def done() -> int:
        return sum(state == "done" for state in evaluations.states(keys).values())

    for goal in (1, 4):
        with ended(command(store, chaos_corpora, "--iw", str(DRAWS), "--samples", "2")) as process:
            wait_for(lambda goal=goal: done() >= goal)
            assert process.poll() is None, said(store)
            kill(process)
        reached.append(done())
    assert reached[-1] < len(keys), "it was faster"
    # The settings are those of the last time.
    assert command(store, chaos_corpora).wait(timeout=240) == 0, said(store)
    # Workers live on for a moment, and may have come to the end of what they were at.
    found_done = re.search(rf"{len(keys)} trials to evaluate, (\d) evaluated \(S = 2, K = {DRAWS}\)", said(store))
    assert found_done is not None, said(store)
    assert reached[-1] <= int(found_done[1]) < len(keys)
    print(f"killed with {reached} of {len(keys)} evaluated")

    found = evaluations_of(undisturbed.record, store)
    assert set(found) == set(keys)
    _check_against_one_process(undisturbed, settings, chaos_corpora, found)
    _check_mlflow(undisturbed, store, tmp_path)

    before = {key: evaluations.trial(key).read("result.json") for key in keys}
    tables = store.sweep("chaos").read("table.json")
    own = {"SWEEP_RESULTS": str(store.location), "SWEEP_CORPORA": str(chaos_corpora)}
    again = sweep_here("evaluate", "chaos", folder=tmp_path, environment=own)
    assert f"{len(keys)} evaluated" in again.stderr
    assert {key: evaluations.trial(key).read("result.json") for key in keys} == before
    assert store.sweep("chaos").read("table.json") == tables
    assert "IW ≤" in again.stdout
    assert store.launches.names() == set()


def _check_against_one_process(
    undisturbed: Undisturbed, settings: EvaluationSettings, corpora: Path, found: dict[str, Evaluation]
) -> None:
    """For two systems; the store of the undisturbed sweep is as before."""
    store = undisturbed.store
    with Launch(store.launches, "") as launch:
        for key in list(found)[:3:2]:
            right = Right(launch.id, threading.Event())
            alone = run_evaluation(settings, store, key, corpora, device="cpu", threads=1, right=right)
            assert measured(alone) == measured(found[key])
            store.trial(key).remove("evaluations")


def _check_mlflow(undisturbed: Undisturbed, store: TrialStore, folder: Path) -> None:
    """One run a trial, with what was measured; the same as an MLflow that is made from the store alone."""
    mirrored, synced = f"sqlite:///{folder / 'results' / 'mlflow.db'}", f"sqlite:///{folder / 'synced.db'}"
    Experiment(synced, undisturbed.record, store).sync(write_tables(undisturbed.record, store))
    mine, theirs = runs(mirrored, "chaos"), runs(synced, "chaos")
    assert mine == theirs
    trials = [run for run in mine.values() if KEY in run[2]]
    assert len(trials) == len(undisturbed.record.wanted)
    for status, _, tags, metrics, _ in trials:
        assert status == "FINISHED"
        assert [step for step, _ in metrics["measured/iw_strict"]] == [0]
        assert tags["evaluation.draws"] == str(DRAWS)
    summaries = [run for run in mine.values() if run[2].get("sweep.summary") == "cell"]
    assert all({"measured/iw_strict_mean", "measured/iw_strict_std", "n"} <= run[3].keys() for run in summaries)
    assert json.loads(store.sweep("chaos").read("evaluation.json"))["draws"] == DRAWS
