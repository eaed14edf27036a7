"""The driver of a search, killed: what was suggested, pruned, told and chosen is what it would have been.

`make test PYTEST="-m long tests/faults/test_search_kills.py"` kills the shipped demo's driver five times.
"""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import optuna
import pytest
from optuna.trial import FrozenTrial

from data.files import PARTIAL
from sweep.claims import Launch
from sweep.config import TrialConfig
from sweep.outcome import Right
from sweep.plan import Plan, make_plan
from sweep.points import Point, mark_of, read_points
from sweep.queue import TrialQueue
from sweep.record import EpochRecord, SweepRecord
from sweep.run import default_storage, write_tables
from sweep.search_source import Search
from sweep.search_state import searches
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.trial import run_trial
from sweep.waste import find_waste
from tests.faults.chaos import SWEEP, ended, kill, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SPEC = """
name: hunted
base:
  data: {kind: lines, name: tiny}
  model: {embedding_dim: 16, hidden_dim: 24, latent_dim: 3}
  schedule: {kind: linear, epochs: 1}
  train: {epochs: 8, batch_size: 4, plateau: {patience: 8}}
axes:
  method:
    VAE: {model: lstm_vae}
search:
  space:
    update.learning_rate: {float: [0.02, 2.0], log: true}
    model.word_dropout: {choice: [0.0, 0.5]}
    schedule:
      choice:
        constant: {kind: constant, weight: {float: [0.2, 1.0]}}
        linear: {kind: linear, epochs: {int: [1, 2]}}
  budget: 10
  sampler: {kind: tpe, startup: 4}
  pruner: halving
  grid: false
seeds: 3
"""


def in_one_process(plan: Plan, store: TrialStore) -> SweepRecord:
    """The same search without Ray and without a break, one trial after another."""
    with Launch(store.launches, plan.record.name) as this:
        search = Search(plan, store, default_storage(store.location), None, print)
        queue = TrialQueue([], store, plan.fields.retry, [], this.id, plan.bytes_needed, search)
        while not queue.is_over:
            found = queue.next()
            assert found is not None
            trial, _ = found

            def report(record: EpochRecord, key: str = trial.key) -> None:
                if not queue.epoch(key, record):
                    raise SystemExit

            queue.started(trial.key)
            with suppress(SystemExit):
                run_trial(
                    TrialConfig.parse(trial.config), store, plan.corpora.folder, on_epoch=report,
                    right=Right(this.id, this.stop), key=trial.key,
                )  # fmt: skip
            queue.ended(trial.key)
        store.record(search.record)
        write_tables(search.record, store)
        return search.record


def told(store: TrialStore) -> tuple[list[Point], list[tuple[object, ...]]]:
    """What the store and what Optuna say of the suggestions of the only cell."""
    [name] = store.files.names("sweeps")
    [study] = store.recorded(name).studies
    return read_points(store, name, study.id), [facts(trial) for trial in optuna_trials(store)]


def optuna_trials(store: TrialStore) -> list[FrozenTrial]:
    [summary] = optuna.get_all_study_summaries(default_storage(store.location))
    return optuna.load_study(study_name=summary.study_name, storage=default_storage(store.location)).trials


def facts(trial: FrozenTrial) -> tuple[object, ...]:
    return trial.number, trial.state.name, trial.value, trial.params, trial.intermediate_values


def kill_and_go_on(
    start: Callable[[], "subprocess.Popen[bytes]"], store: TrialStore, kills: int, seed: int
) -> list[int]:
    """Kill a sweep's driver again and again, then let it come to its end. Returns how many were told at each kill."""
    random, reached = Random(seed), []

    def num_told() -> int:
        names = [name for name in store.files.names("sweeps") if store.is_recorded(name)]
        return sum(each.told for name in names for each in searches(store.recorded(name), store))

    for _ in range(kills):
        with ended(start()) as process:
            enough = (reached[-1] if reached else 0) + random.randint(1, 4)
            wait_for(lambda enough=enough, process=process: num_told() >= enough or process.poll() is not None)
            time.sleep(random.uniform(0.0, 0.5))
            assert process.poll() is None, "it was faster"
            kill(process)
        reached.append(num_told())
    with ended(start()) as process:
        assert process.wait(timeout=400) == 0
    return reached


def check(mine: TrialStore, theirs: TrialStore) -> None:
    """Two stores of one search hold the same."""
    points, trials = told(mine)
    assert (points, trials) == told(theirs)
    [name] = mine.files.names("sweeps")
    assert [point.number for point in points] == list(range(mine.recorded(name).document["search"]["budget"]))
    ours = Counter(point.outcome.state.upper() if point.outcome else "RUNNING" for point in points)
    assert ours == Counter(trial.state.name for trial in optuna_trials(mine))
    assert ours["PRUNED"] > 0
    pruned = {
        trial.key for point in points if point.outcome and point.outcome.state == "pruned" for trial in point.trials
    }
    assert any("checkpoint" in mine.trial(key).names() for key in pruned)
    # What a killed process has written by half is waste in any case.
    waste = [waste.name for waste in find_waste(mine) if not waste.name.endswith(PARTIAL)]
    assert not [name for name in waste if any(key in name for key in pruned)], "it may be promoted"
    results = mine.results(trial.key for point in points for trial in point.trials)
    assert results
    assert all(result.test == {} for result in results.values()), "a search has read the test split"
    assert mine.recorded(name).tuned == theirs.recorded(name).tuned
    assert len([trial for trial in mine.recorded(name).trials if "tuned" in trial.labels]) == 3
    for table in ("table.txt", "table.csv"):
        assert mine.sweep(name).read(table) == theirs.sweep(name).read(table)


def test_a_search_whose_driver_is_killed_comes_out_the_same(tmp_path: Path, chaos_corpora: Path) -> None:
    spec, store = tmp_path / "hunted.yaml", TrialStore(tmp_path / "results")
    spec.write_text(SPEC)

    def start() -> "subprocess.Popen[bytes]":
        with (tmp_path / "said.txt").open("ab") as output:
            command = [str(SWEEP), "run", str(spec), "--no-tracking", "--results", str(store.location)]
            environment = {**os.environ, "SWEEP_CORPORA": str(chaos_corpora)}
            return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)

    reached = kill_and_go_on(start, store, kills=1, seed=12)
    assert "Traceback" not in (tmp_path / "said.txt").read_text()
    undisturbed = TrialStore(tmp_path / "undisturbed")
    in_one_process(make_plan(SweepSpec.load(str(spec)), chaos_corpora), undisturbed)
    check(store, undisturbed)
    [study] = store.recorded("hunted").studies
    name = f"hunted: VAE [{study.id}-{mark_of(store, study.id)}]"
    assert dashboard(default_storage(store.location)) == [name]
    print(f"killed with {reached} of 10 suggestions told")


def dashboard(url: str) -> list[str]:
    """Names of the studies that Optuna's dashboard shows of a storage."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    program = SWEEP.with_name("optuna-dashboard")
    if not program.exists():
        pytest.skip("optuna-dashboard is not installed (pip install 'text-vae-sweep[dev]')")
    command = [str(program), url, "--port", str(port), "--server", "wsgiref", "--quiet"]
    with ended(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)):
        found: list[dict[str, str]] = []

        def answers() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies") as answer:
                    found.extend(json.load(answer)["study_summaries"])
            except OSError:
                return False
            return True

        wait_for(answers, every=0.3)
    return [study["study_name"] for study in found]


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_the_demos_driver_is_killed_five_times(tmp_path: Path) -> None:
    store, undisturbed = TrialStore(tmp_path / "results"), TrialStore(tmp_path / "undisturbed")

    def start(where: TrialStore = store) -> "subprocess.Popen[bytes]":
        with (tmp_path / "said.txt").open("ab") as output:
            command = [str(SWEEP), "run", "tune-demo", "--results", str(where.location)]
            environment = {**os.environ, "SWEEP_CORPORA": str(tmp_path / "corpora")}
            return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)

    reached = kill_and_go_on(start, store, kills=5, seed=7)
    with ended(start(undisturbed)) as process:
        assert process.wait(timeout=900) == 0
    assert "Traceback" not in (tmp_path / "said.txt").read_text()
    check(store, undisturbed)
    print(f"killed with {reached} of 24 suggestions told")
