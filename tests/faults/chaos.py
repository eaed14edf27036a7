"""What the tests of faults share: a sweep that is run by real processes, and what it must come to."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from sweep.config import TrialConfig
from sweep.plan import make_plan
from sweep.record import SweepRecord
from sweep.run import write_tables
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.tracking import KEY, Experiment
from sweep.trial import run_trial
from sweep.verify import differences, numbers

SWEEP = Path(sys.executable).with_name("sweep")
SPEC = """
name: chaos
base:
  data: {kind: lines, name: tiny}
  model: {embedding_dim: 16, hidden_dim: 24}
  schedule: {kind: linear, epochs: 2}
  train: {epochs: EPOCHS, batch_size: 4, plateau: {patience: EPOCHS}}
axes:
  setting:
    Standard: {model: {inputs: words}}
    Inputless: {model: {inputs: none}}
  method:
    LSTM-LM: {model: lstm_lm, schedule: constant}
    LSTM-VAE-AVG (L = 2): {model: {kind: lstm_vae, latent_dim: 3, samples: 2, average: true}}
seeds: 2
retry: {backoff_seconds: 1}
"""
EPOCHS, SENTENCES = 8, 400


SMALL = {
    "data": {"kind": "lines", "name": "tiny"},
    "model": {"kind": "lstm_lm", "embedding_dim": 4, "hidden_dim": 5},
    "schedule": {"kind": "constant"},
    "update": {"kind": "joint"},
    "train": {"epochs": 2, "batch_size": 8},
    "evaluate": {},
}
"""A trial of milliseconds, without its seed."""


def write_spec(folder: Path, epochs: int) -> Path:
    path = folder / "chaos.yaml"
    path.write_text(SPEC.replace("EPOCHS", str(epochs)))
    return path


def make_corpus(folder: Path) -> Path:
    """A corpora root whose corpus 'tiny' takes less than a tenth of a second an epoch."""
    (folder / "tiny").mkdir(parents=True)
    for name, count in {"train": SENTENCES, "valid": 40, "test": 50}.items():
        lines = (" ".join(f"w{(i * j) % 23}" for j in range(1, 4 + i % 5)) for i in range(count))
        (folder / "tiny" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


@dataclass
class Sweep:
    """The sweep of SPEC in a folder, and the counts of what was done to it."""

    folder: Path
    corpora: Path
    uri: str = ""
    address: str = ""
    location: str = ""
    epochs: int = EPOCHS
    spec: str = "chaos.yaml"
    extra: dict[str, str] = field(default_factory=dict)
    launches: int = 0
    kills: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        write_spec(self.folder, self.epochs)
        self.uri = self.uri or f"sqlite:///{self.folder / 'mlflow.db'}"
        self.location = self.location or str(self.folder / "results")

    @property
    def store(self) -> TrialStore:
        return TrialStore(self.location)

    @property
    def environment(self) -> dict[str, str]:
        own = {"SWEEP_RESULTS": self.location, "SWEEP_CORPORA": str(self.corpora)}
        return {**os.environ, **own, "MLFLOW_TRACKING_URI": self.uri, **self.extra}

    def command(self, *words: str) -> list[str]:
        where = ["--address", self.address] if self.address and words[0] == "run" else []
        return [str(SWEEP), *words, *where]

    def start(self, *overrides: str) -> "subprocess.Popen[bytes]":
        self.launches += 1
        with (self.folder / f"launch{self.launches}.txt").open("wb") as output:
            return subprocess.Popen(
                self.command("run", self.spec, *overrides),
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
            )

    def said(self) -> str:
        """Output of the newest launch."""
        return (self.folder / f"launch{self.launches}.txt").read_text()

    def finish(self, process: "subprocess.Popen[bytes] | None" = None, seconds: float = 240) -> None:
        code = (process or self.start()).wait(timeout=seconds)
        assert code == 0, self.said()
        assert "Traceback" not in self.said()

    def workers(self) -> list[int]:
        """Processes that train a trial of this sweep now."""
        return workers_with("SWEEP_RESULTS", self.location)

    def progress(self) -> int:
        """Epochs that are in the store, of trials done and under way."""
        trials = self.store.files.names("trials")
        return sum(self._epochs(key) for key in trials)

    def _epochs(self, key: str) -> int:
        return self.epochs if self.store.state(key) == "done" else int(self.store.progress(key).get("epoch", 0))


def workers_with(name: str, value: str) -> list[int]:
    """Processes that train a trial now, with a variable of that value in their environment."""
    marker, found = f"{name}={value}".encode(), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            is_worker = (entry / "cmdline").read_bytes().startswith(b"ray::ImplicitFunc")
            if is_worker and marker in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def kill(process: "subprocess.Popen[Any]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def wait_for(condition: Callable[[], object], seconds: float = 120, every: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(every)


@dataclass(frozen=True)
class Undisturbed:
    """A sweep trained one by one in this process, and an MLflow that shows it."""

    record: SweepRecord
    store: TrialStore
    uri: str

    @classmethod
    def make(cls, folder: Path, corpora: Path, epochs: int = EPOCHS) -> "Undisturbed":
        made = cls.of(SweepSpec.load(str(write_spec(folder, epochs))), folder, corpora)
        Experiment(made.uri, made.record, made.store).sync(write_tables(made.record, made.store))
        return made

    @classmethod
    def of(cls, spec: SweepSpec, folder: Path, corpora: Path) -> "Undisturbed":
        """Without MLflow."""
        record = make_plan(spec, corpora).record
        store = TrialStore(folder / "results")
        for trial in record.trials:
            run_trial(TrialConfig.parse(trial.config), store, corpora)
        write_tables(record, store)
        return cls(record, store, f"sqlite:///{folder / 'mlflow.db'}")

    def check(self, sweep: Sweep) -> None:
        """The store, the tables and MLflow are what they would be had nothing happened."""
        self.check_store(sweep)
        mine, theirs = runs(self.uri, self.record.name), runs(sweep.uri, self.record.name)
        assert set(mine) == set(theirs)
        for name, run in mine.items():
            assert theirs[name] == run, name

    def check_store(self, sweep: Sweep) -> None:
        store, own, theirs = sweep.store, *(each.sweep(self.record.name) for each in (self.store, sweep.store))
        assert store.files.names("trials") == set(self.record.wanted)
        for key in self.record.wanted:
            assert list(differences(numbers(self.store.result(key)), numbers(store.result(key)))) == []
        for name in ("table.txt", "table.csv", "table.json"):
            assert theirs.read(name) == own.read(name)


TIMES = {"cost/seconds", "cost/train_tokens_per_second", "epoch_seconds", "seconds"}


def runs(uri: str, experiment: str) -> dict[str, Any]:
    """Each run of an experiment as plain values, by name, without what depends on the clock and the host."""
    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], max_results=5000)
    shown: dict[str, Any] = {}
    for run in found:
        assert run.info.run_name not in shown, "two runs of one trial"
        tags = {name: text for name, text in run.data.tags.items() if not name.startswith(("on.", "mlflow."))}
        shows = {name: value for name, value in run.data.metrics.items() if not is_time(name)}
        # Of a summary what it shows in the end: an earlier launch may have written that of fewer seeds.
        is_trial = KEY in run.data.tags
        metrics = {name: points(client, run.info.run_id, name) if is_trial else repr(shows[name]) for name in shows}
        artifacts = sorted(each.path for each in client.list_artifacts(run.info.run_id))
        shown[run.info.run_name] = (run.info.status, run.data.params, tags, metrics, artifacts)
    assert sum(KEY in run.data.tags for run in found) > 0
    return shown


def is_time(metric: str) -> bool:
    return "seconds" in metric or "per_second" in metric


def points(client: MlflowClient, run: str, metric: str) -> list[tuple[int, str]]:
    """Steps and values in order; a step that was logged twice is there twice."""
    history = client.get_metric_history(run, metric)
    return sorted((point.step, "nan" if math.isnan(point.value) else repr(point.value)) for point in history)


@contextmanager
def ended(process: "subprocess.Popen[Any]") -> Iterator["subprocess.Popen[Any]"]:
    """A process that does not outlive its test."""
    try:
        yield process
    finally:
        if process.poll() is None:
            kill(process)
