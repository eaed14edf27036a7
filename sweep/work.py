"""What a worker does with what it was assigned: train a trial, evaluate one, or probe a shape. No Ray."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model import host
from sweep.claims import TakenError, watched_stop
from sweep.config import TrialConfig
from sweep.evaluation import EvaluationSettings
from sweep.jobs import SupersededError
from sweep.measuring import run_evaluation
from sweep.outcome import NoRoomError, Right, StoppedError, TrialFailedError
from sweep.probing import run_probe
from sweep.record import EpochRecord
from sweep.resources import Share
from sweep.store import TrialStore
from sweep.trial import run_trial


@dataclass(frozen=True)
class Assignment:
    """One job of a launch, for the worker that it fell to.

    key, config: of what is to be done. results, corpora: where they are for the worker too. threads: of computation on
    a CPU. share: what it may take of its node, as fields of `Share`. graphs: as `Resources` has it.
    """

    key: str
    config: dict[str, Any]
    results: str
    corpora: str
    launch: str
    threads: int
    share: dict[str, float]
    graphs: bool = True


Report = Callable[[EpochRecord], None]
"""Tells the driver of an epoch. Ends by SystemExit when the job is not wanted any more."""
Work = Callable[[Assignment, str, Report], None]
"""What is done with an assignment on a device, `cuda` or `cpu`."""
_Job = Callable[[TrialStore, Right], object]


def train(assignment: Assignment, device: str, report: Report) -> None:
    """Train a trial: its config is the document of one."""

    def work(store: TrialStore, right: Right) -> None:
        run_trial(
            TrialConfig.parse(assignment.config), store, Path(assignment.corpora), device=device,
            threads=assignment.threads, graphs=assignment.graphs, on_epoch=report, right=right, key=assignment.key,
        )  # fmt: skip

    _as_asked(assignment, device, work)


def evaluate(assignment: Assignment, device: str, report: Report) -> None:
    """Evaluate a done trial: its config are the settings of that."""

    def work(store: TrialStore, right: Right) -> None:
        run_evaluation(
            EvaluationSettings.model_validate(assignment.config), store, assignment.key, Path(assignment.corpora),
            device=device, threads=assignment.threads, right=right,
        )  # fmt: skip

    _as_asked(assignment, device, work)


def probe(assignment: Assignment, device: str, report: Report) -> None:
    """Probe the shape of a trial: its config is the document of that."""

    def work(store: TrialStore, right: Right) -> None:
        run_probe(
            TrialConfig.parse(assignment.config), store, assignment.key, Path(assignment.corpora),
            device=device, threads=assignment.threads, graphs=assignment.graphs, right=right,
        )  # fmt: skip

    _as_asked(assignment, device, work)


def _as_asked(assignment: Assignment, device: str, work: _Job) -> None:
    """Work until it is done or its launch is to stop. What the store or its other launches know of is not raised."""
    store = TrialStore(assignment.results)
    if device == "cuda":
        host.limit_gpu_memory(Share(**assignment.share).gpu)
    with watched_stop(store.launches, assignment.launch) as stop:
        if stop.is_set():
            return
        with contextlib.suppress(TrialFailedError, SupersededError, TakenError, StoppedError, NoRoomError):
            work(store, Right(assignment.launch, stop))
