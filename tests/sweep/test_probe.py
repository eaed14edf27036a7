"""A probe: which trials share one, what it measures in its own process, and what plans and forecasts make of it."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from data.cache import load
from sweep import probing
from sweep.claims import Launch
from sweep.config import TrialConfig, merge
from sweep.document import Document, parse
from sweep.forecast import forecast, makespan
from sweep.outcome import Right, StoppedError, TrialFailedError
from sweep.packing import learn, probe_shapes
from sweep.plan import Plan, make_plan
from sweep.probe import Probe, probe_key, shape_of
from sweep.probing import measure, run_probe
from sweep.progress import duration
from sweep.record import StudyPlan, WantedTrial
from sweep.resources import Cluster, Resources, Share
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.trial import run_trial
from tests.faults.chaos import wait_for
from tests.sweep.test_trial import DOCUMENT

SPEC = """
name: toy
base:
  data: {kind: lines, name: tiny}
  model: {embedding_dim: 5, hidden_dim: 7}
  train: {epochs: 2, batch_size: 4}
axes:
  method:
    LM: {model: lstm_lm, schedule: constant}
    VAE: {model: {kind: lstm_vae, samples: 5}}
    VAE, faster: {model: {kind: lstm_vae, samples: 5}, update: {learning_rate: 2.0}}
seeds: 2
resources: auto
"""


def config_of(**changes: object) -> TrialConfig:
    return TrialConfig.parse(merge(DOCUMENT, changes))


def scripted(key: str = "key", train_rate: float = 1.0, evaluate_rate: float = 0.0) -> Probe:
    where = {"device": "a processor", "host": "here"}
    return Probe(key, {}, 2**30, 0, 0, 3, 0.1, train_rate, evaluate_rate, where, 1000.0)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"schedule": {"kind": "linear", "epochs": 5}},
        {"schedule": {"kind": "constant"}},
        {"update": {"learning_rate": 0.5, "clip": 1.0}},
        {"train": {"epochs": 9, "select": "nll", "plateau": {"patience": 7}, "checkpoint_minutes": 1.0}},
        {"evaluate": {"test": False}},
        {"model": {"input_dropout": 0.2, "output_dropout": 0.7, "init_range": 0.01, "embedding_init_range": 0.1}},
        {"train": {"reshuffle": True}, "update": {"normalisation": "token"}},
    ],
)
def test_trials_share_a_shape_whatever_changes_neither_memory_nor_a_steps_time(change: dict[str, object]) -> None:
    assert shape_of(config_of(**change), "text") == shape_of(config_of(), "text")


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"hidden_dim": 10}},
        {"model": {"samples": 3}},
        {"model": {"average": False}},
        {"model": {"kind": "lstm_lm", "embedding_dim": 6, "hidden_dim": 9}},
        {"train": {"batch_size": 5}},
        {"train": {"precision": "bf16"}},
        {"update": {"optimizer": "adam", "learning_rate": 0.001}},
        {"update": {"kind": "aggressive"}},
        {"objective": {"kind": "iwae"}},
        {"evaluate": {"samples": 2}},
        {"model": {"word_dropout": 0.3}},
        {"model": {"input_dropout": 0.0}},
        {"model": {"delta": 0.5}},
    ],
)
def test_what_changes_memory_or_a_steps_time_is_another_shape(change: dict[str, object]) -> None:
    assert shape_of(config_of(**change), "text") != shape_of(config_of(), "text")


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("vmf_vae", {"kappa": 15.0, "norm_penalty": 0.1}, {"kappa": 80.0, "norm_penalty": 2.0}),
        ("sa_vae", {"svi_learning_rate": 0.1, "svi_clip": 1.0}, {"svi_momentum": 0.0, "svi_batch": 8}),
        ("cnn_vae", {"init_range": 0.1, "layer_dropout": 0.2}, {"encoder_dropout": 0.1}),
    ],
)
def test_systems_share_shapes_by_what_a_step_does(kind: str, one: dict[str, object], other: dict[str, object]) -> None:
    first, second = (shape_of(config_of(model={"kind": kind, **fields}), "text") for fields in (one, other))
    assert first == second


def test_another_text_device_or_number_of_threads_is_another_probe() -> None:
    shape = shape_of(config_of(), "text")
    assert shape_of(config_of(), "other text") != shape
    places = [("cpu", 1), ("cpu", 2), ("cuda", 1), ("cuda", 1, False)]
    assert len({probe_key(shape, *where) for where in places}) == len(places)
    assert probe_key(shape, "cpu", 1, graphs=False) == probe_key(shape, "cpu", 1)


def test_a_damaged_record_is_no_probe() -> None:
    text = scripted().to_json()
    assert Probe.from_json(text) == scripted()
    with pytest.raises(ValueError, match="hash of its content"):
        Probe.from_json(text.replace('"train_rate": 1.0', '"train_rate": 2.0'))


def test_it_measures_a_step_an_evaluation_and_memory(lines_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "SECONDS", 0.0)
    config = config_of()
    found = measure(config, load(config.data, lines_corpus), "cpu")
    assert found["steps"] == probing.LEAST_STEPS
    assert 0 < found["step_seconds"] < 5
    assert found["train_rate"] == pytest.approx(found["step_seconds"] / 10, rel=0.5)  # some ten words a batch
    assert found["evaluate_rate"] > 0
    assert found["host_bytes"] > 50 * 2**20
    assert (found["gpu_bytes"], found["gpu_total"]) == (0, 0)
    assert found["environment"]["threads"] == "1"


def test_an_aggressive_step_is_measured_with_its_passes(lines_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the number of multiplications knows nothing of."""
    monkeypatch.setattr(probing, "SECONDS", 0.0)

    def seconds(update: dict[str, object]) -> float:
        config = config_of(update=update)
        return float(measure(config, load(config.data, lines_corpus), "cpu")["step_seconds"])

    joint, aggressive = seconds({"kind": "joint"}), seconds({"kind": "aggressive", "inner_steps": 40, "block": 40})
    assert aggressive > 8 * joint


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    with Launch(TrialStore(tmp_path / "results").launches, "toy") as ours:
        yield ours


def probe_here(store: TrialStore, key: str, corpora: Path, right: Right, **changes: object) -> Probe:
    return run_probe(config_of(**changes), store, key, corpora, device="cpu", threads=1, graphs=True, right=right)


def test_it_is_made_once_in_a_process_of_its_own_and_kept(lines_corpus: Path, tmp_path: Path, launch: Launch) -> None:
    store, right = TrialStore(tmp_path / "results"), Right(launch.id, launch.stop)
    found = probe_here(store, "shape-cpu-1", lines_corpus, right)
    assert store.probes.result("shape-cpu-1") == found
    assert found.config == config_of().document()
    assert found.environment["torch"]
    assert found.environment["host"]
    assert found.finished == pytest.approx(time.time(), abs=60)
    again = probe_here(store, "shape-cpu-1", lines_corpus / "nowhere", right)
    assert again == found
    assert store.files.names("probes/shape-cpu-1") == {"config.json", "result.json"}


def test_one_that_cannot_be_made_says_why(lines_corpus: Path, tmp_path: Path, launch: Launch) -> None:
    store, right = TrialStore(tmp_path / "results"), Right(launch.id, launch.stop)
    with pytest.raises(TrialFailedError, match="DefaultCPUAllocator: can't allocate memory"):
        probe_here(store, "large", lines_corpus, right, model={"hidden_dim": 10_000_000})
    assert store.probes.state("large") == "failed"
    assert store.probes.failure("large").kind == "out-of-memory"


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("kill -KILL $$", "out-of-memory", "its process was killed, as the system does where memory runs out"),
        ("kill -SEGV $$", "error", "it ended with code -11"),
        ("echo 'torch.OutOfMemoryError: CUDA out of memory.' >&2; exit 1", "out-of-memory", "CUDA out of memory"),
        ("echo Traceback >&2; echo 'ValueError: of its own' >&2; exit 1", "error", "ValueError: of its own"),
    ],
)
def test_how_its_process_ends_is_told_apart(
    script: str, kind: str, message: str, lines_corpus: Path, tmp_path: Path, launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "python").write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    store = TrialStore(tmp_path / "results")
    with pytest.raises(TrialFailedError, match=message):
        probe_here(store, "key", lines_corpus, Right(launch.id, launch.stop))
    assert store.probes.failure("key").kind == kind


def test_its_process_does_not_outlive_a_worker_that_is_lost() -> None:
    """It would go on to hold a core, or a GPU's memory, beside the one that is made again."""
    program = (
        "import os, subprocess, sys; words = '--corpora . --device cpu --threads 1 --parent'.split();"
        "subprocess.run([sys.executable, '-m', 'sweep.probing', *words, str(os.getpid())])"
    )
    # What it waits for on its standard input never comes.
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as worker:
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
        try:
            wait_for(lambda: children.read_text().split(), seconds=60)
            probe = Path("/proc", children.read_text().strip())
        finally:
            worker.kill()
        wait_for(lambda: not probe.exists() or " Z " in (probe / "stat").read_text(), seconds=30)


def test_it_stops_when_it_is_asked_to(lines_corpus: Path, tmp_path: Path, launch: Launch) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        probe_here(TrialStore(tmp_path / "results"), "key", lines_corpus, Right(launch.id, stop))
    assert TrialStore(tmp_path / "results").probes.holder("key") is None


@pytest.fixture
def plan(lines_corpus: Path) -> Plan:
    return make_plan(SweepSpec.of(Document("toy.yaml", parse(SPEC))), lines_corpus)


def shapes_of(plan: Plan) -> dict[str, str]:
    """Shape by cell."""
    return {trial.cell: plan.costs.weights[key].shape for key, trial in plan.record.wanted.items()}


def test_measured_times_decide_the_order_and_count_the_rest(plan: Plan) -> None:
    shapes = shapes_of(plan)
    assert shapes["VAE"] == shapes["VAE, faster"] != shapes["LM"]
    states = dict.fromkeys(plan.record.wanted, "missing")
    assert [trial.cell for trial in plan.missing(states)] == ["VAE"] * 2 + ["VAE, faster"] * 2 + ["LM"] * 2
    by_work = dict(plan.costs)
    plan.costs.learn({shapes["LM"]: scripted(train_rate=1000.0, evaluate_rate=10.0)})
    first, vae = plan.record.trials[0], plan.record.trials[2]
    tokens = {name: split.num_tokens for name, split in plan.corpora(plan_config(first).data).splits.items()}
    expected = 2 * 1000.0 * tokens["train"] + 10.0 * (2 * tokens["valid"] + tokens["test"])
    assert plan.costs[first.key] == plan.costs.seconds(first.key) == pytest.approx(expected)
    # What was not probed is converted at the pace of what was.
    assert plan.costs.seconds(vae.key) is None
    assert plan.costs[vae.key] == pytest.approx(by_work[vae.key] / by_work[first.key] * expected)
    plan.costs.learn({shapes["VAE"]: scripted(train_rate=1.0)})
    assert [trial.cell for trial in plan.missing(states)] == ["LM"] * 2 + ["VAE"] * 2 + ["VAE, faster"] * 2


def plan_config(trial: WantedTrial) -> TrialConfig:
    return TrialConfig.parse(trial.config)


def test_a_forecast_is_unknown_until_all_is_measured(plan: Plan, tmp_path: Path, lines_corpus: Path) -> None:
    store, shapes = TrialStore(tmp_path / "results"), shapes_of(plan)
    nothing = forecast(plan, store, 2)
    assert [(cell.cell, cell.trials) for cell in nothing.cells] == [("LM", 2), ("VAE", 2), ("VAE, faster", 2)]
    assert {cell.seconds for cell in nothing.cells} == {cell.host_bytes for cell in nothing.cells} == {None}
    assert nothing.makespan is plan.expected_seconds(store) is None
    assert nothing.disk > 0
    plan.costs.learn({shapes["LM"]: scripted()})
    some = forecast(plan, store, 2)
    assert [cell.seconds is None for cell in some.cells] == [False, True, True]
    assert some.makespan is plan.expected_seconds(store) is None
    plan.costs.learn({shapes["VAE"]: scripted(train_rate=3.0)})
    everything = forecast(plan, store, 2)
    each = {cell.cell: cell.seconds for cell in everything.cells}
    assert each["VAE"] == pytest.approx(3 * each["LM"])
    assert everything.makespan == pytest.approx(2 * each["VAE"] + each["LM"])
    assert plan.expected_seconds(store) == pytest.approx(4 * each["VAE"] + 2 * each["LM"])
    assert everything.cells[0].measured_on == "a processor, here"
    # What is done is left out, and from then on its real time counts.
    done = run_trial(plan_config(plan.record.trials[0]), store, lines_corpus)
    assert forecast(plan, store, 2).cells[0].trials == 1
    pace = done.cost["seconds"] / each["LM"]
    assert plan.expected_seconds(store) == pytest.approx(pace * (4 * each["VAE"] + each["LM"]))


def test_a_makespan_keeps_to_slots_and_to_what_trials_start_from() -> None:
    trials = [WantedTrial(key, {}, 0, {}, after) for key, after in (("a", ""), ("b", "d"), ("c", ""), ("d", ""))]
    seconds = {"a": 3.0, "b": 4.0, "c": 2.0, "d": 1.0}
    assert makespan(trials, seconds, 1) == 10.0
    # a 0–3 and c 0–2, then d 2–3, then b 3–7.
    assert makespan(trials, seconds, 2) == 7.0
    assert makespan(trials, seconds, 9) == 5.0
    assert makespan(trials[:3], seconds, 1) == 9.0  # what is not among them is done
    assert makespan([], {}, 3) == 0.0


def test_a_plan_learns_only_what_was_measured_as_it_would_run(plan: Plan, tmp_path: Path) -> None:
    store, shapes = TrialStore(tmp_path / "results"), set(shapes_of(plan).values())
    lm = shapes_of(plan)["LM"]
    for device, threads in (("cuda", 1), ("cpu", 2)):
        other = scripted(probe_key(lm, device, threads))
        store.probes.trial(other.key).publish("result.json", other.to_json().encode())
    learn(plan, store, "cpu", shapes)
    assert not plan.costs.probes
    own = scripted(probe_key(lm, "cpu", 1))
    store.probes.trial(own.key).publish("result.json", own.to_json().encode())
    learn(plan, store, "cpu", shapes)
    assert plan.costs.probes == {lm: own}


def test_what_is_probed_already_starts_no_probe(plan: Plan, tmp_path: Path, launch: Launch) -> None:
    """Nor Ray, which is not running here."""
    store, where = TrialStore(tmp_path / "results"), Cluster([Share(2, 0, 2**34)], Resources(probe=True))
    for shape in set(shapes_of(plan).values()):
        found = replace(scripted(), key=probe_key(shape, "cpu", 1))
        store.probes.trial(found.key).publish("result.json", found.to_json().encode())
    missing = plan.missing(dict.fromkeys(plan.record.wanted, "missing"))
    document = {name: value for name, value in missing[0].config.items() if name != "seed"}
    study = StudyPlan("id", missing[0].labels, document | {"evaluate": {"test": False}}, {}, "", 1, 2)
    probe_shapes(plan, missing, [study], store, where, launch, Console(quiet=True))
    assert len(plan.costs.probes) == 2
    assert where.share_of(plan.costs.probe(missing[0].key)).memory == 1.75 * 2**30


def test_plan_prints_what_is_known(lines_corpus: Path, tmp_path: Path, plan: Plan) -> None:
    from tests.here import sweep_here

    (tmp_path / "toy.yaml").write_text(SPEC)
    environment = {"SWEEP_RESULTS": str(tmp_path / "results"), "SWEEP_CORPORA": str(lines_corpus)}

    def said(*arguments: str) -> str:
        return sweep_here(
            "plan", "toy.yaml", "--slots", "2", *arguments, folder=tmp_path, environment=environment
        ).stdout

    before = said()
    assert "work left: unknown before any trial is done or probed" in before
    assert "time on 2 slots: unknown" in before
    assert [line.split()[-2:] for line in before.splitlines()[-3:]] == [["unknown", "unknown"]] * 3
    store, shapes = TrialStore(tmp_path / "results"), shapes_of(plan)
    for cell, rate in (("LM", 10.0), ("VAE", 30.0)):
        found = scripted(probe_key(shapes[cell], "cpu", 1), train_rate=rate)
        store.probes.trial(found.key).publish("result.json", found.to_json().encode())
    after = said()
    assert "measured on a processor, here, in the first steps; to the last epoch of each trial" in after
    lm, vae, faster = (line.split() for line in after.splitlines()[-4:-1])
    assert lm[-1] == "1792"
    told = json.loads(said("--json"))["forecast"]
    assert [duration(cell["seconds"]) for cell in told["cells"]] == [lm[-2], vae[-2], faster[-2]]
    assert told["makespan"] == pytest.approx(told["cells"][0]["seconds"] * 7)
    assert f"time on 2 slots: {round(told['makespan']) // 3600}h" in after
