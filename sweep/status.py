"""How a sweep stands, read from the store alone; also from another shell while it runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.claims import LaunchFacts
from sweep.evaluation import EvaluationSettings
from sweep.points import searched
from sweep.record import State, SweepRecord, TrialFailure, WantedTrial
from sweep.run import MIRROR
from sweep.search_state import SearchState, searches
from sweep.store import TrialStore


@dataclass(frozen=True)
class Running:
    """A trial that a launch trains now. epoch, step: of its newest checkpoint."""

    trial: WantedTrial
    owner: LaunchFacts
    epoch: int
    step: int


@dataclass(frozen=True)
class Status:
    """mirror: what the driver, or the last one, says of MLflow; empty when it never had any.

    settings: how trials were last evaluated, None when they never were. evaluated: how many have been, so.
    """

    record: SweepRecord
    states: Mapping[str, State]
    searches: Sequence[SearchState]
    driver: LaunchFacts | None
    running: Sequence[Running]
    failures: Mapping[str, TrialFailure]
    mirror: Mapping[str, Any]
    warnings: Sequence[str]
    settings: EvaluationSettings | None
    evaluated: int


def read_status(store: TrialStore, name: str) -> Status:
    """Raises ValueError when no such sweep was run, or one of its results is damaged."""
    record = store.recorded(name)
    states = store.states(record.wanted)
    driver = store.driver(name)
    failures = {key: store.failure(key) for key, state in states.items() if state == "failed"}
    mirror = driver.news if driver else _last_mirror(store, name)
    warnings = [*_mirror_warnings(mirror, name), *_commit_warnings(store, record)]
    running = _running(store, record, states) if store.launches.names() else []
    settings = store.evaluated(name)
    evaluations = store.evaluations(settings).states(record.wanted) if settings else {}
    evaluated = sum(state == "done" for state in evaluations.values())
    return Status(
        record, states, searches(record, store), driver, running, failures, mirror, warnings, settings, evaluated
    )


def failure_groups(store: TrialStore, record: SweepRecord) -> list[list[TrialFailure]]:
    """Failures by cause, the largest group first, in each the oldest first."""
    groups: dict[str, list[TrialFailure]] = {}
    for key, state in store.states(record.wanted).items():
        if state == "failed":
            failure = store.failure(key)
            groups.setdefault(failure.fingerprint, []).append(failure)
    ordered = [sorted(group, key=lambda failure: failure.timestamp) for group in groups.values()]
    return sorted(ordered, key=lambda group: -len(group))


def _running(store: TrialStore, record: SweepRecord, states: Mapping[str, State]) -> list[Running]:
    running = []
    open = {trial.key: trial for point, trial in searched(store, record) if point.outcome is None}
    for key, trial in (open | record.wanted).items():
        owner = store.holder(key) if states.get(key) != "done" else None
        if owner is not None:
            progress = store.progress(key)
            running.append(Running(trial, owner, int(progress.get("epoch", 0)), int(progress.get("step", 0))))
    return running


def _last_mirror(store: TrialStore, name: str) -> Mapping[str, Any]:
    try:
        said = json.loads(store.sweep(name).read(MIRROR))
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _mirror_warnings(mirror: Mapping[str, Any], name: str) -> list[str]:
    if not mirror.get("problem"):
        return []
    return [
        f"MLflow at {mirror.get('mlflow')} lacks {mirror.get('unwritten')} records ({mirror['problem']}); a running "
        f"sweep writes them when it is back, 'sweep sync {name}' writes them later"
    ]


def _commit_warnings(store: TrialStore, record: SweepRecord) -> list[str]:
    """Numbers that stand in one table should come from one program."""
    results = store.results(record.wanted).values()
    warnings = []
    commits = sorted({result.environment.get("commit", "unknown") for result in results})
    if len(commits) > 1:
        warnings.append(f"trials of one table come from {len(commits)} commits: {', '.join(c[:12] for c in commits)}")
    dirty = sum(result.environment.get("dirty") == "yes" for result in results)
    if dirty:
        warnings.append(f"{dirty} trials come from code that was changed after its commit")
    return warnings
