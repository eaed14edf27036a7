"""What a sweep will take: hours and memory of its trials as far as they were probed, time on its slots, and disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from sweep.plan import COPIES, Plan
from sweep.record import WantedTrial
from sweep.resources import host_memory
from sweep.store import TrialStore

HISTORY_BYTES = 2000
"""Of one epoch in a result."""


@dataclass(frozen=True)
class CellForecast:
    """The missing trials of a cell. What nobody has measured is None.

    seconds: of one trial, run to its last epoch. host_bytes: of a node's memory that one claims. gpu_bytes: that one
    reserves of a GPU; 0 on a CPU. measured_on: the processor or GPU, and the host.
    """

    cell: str
    trials: int
    seconds: float | None
    host_bytes: int | None
    gpu_bytes: int | None
    measured_on: str | None


@dataclass(frozen=True)
class Forecast:
    """Of the missing trials on so many slots. makespan: seconds, None where some was not measured. disk: bytes."""

    cells: Sequence[CellForecast]
    slots: int
    makespan: float | None
    disk: int


def forecast(plan: Plan, store: TrialStore, slots: int) -> Forecast:
    """By what a plan knows of probes; trials that a search will suggest are not in it."""
    missing = plan.missing(store.states(plan.record.wanted))
    left = {trial.key for trial in missing}
    cells: dict[str, list[str]] = {}
    for key, trial in plan.record.wanted.items():
        if key in left:
            cells.setdefault(trial.cell, []).append(key)
    seconds = {key: known for key in left if (known := plan.costs.seconds(key)) is not None}
    return Forecast(
        [_of_cell(plan, cell, keys) for cell, keys in cells.items()],
        slots,
        makespan(missing, seconds, slots) if len(seconds) == len(left) else None,
        bytes_to_come(plan, missing, slots),
    )


def _of_cell(plan: Plan, cell: str, keys: Sequence[str]) -> CellForecast:
    probe, seconds = plan.costs.probe(keys[0]), plan.costs.seconds(keys[0])
    if probe is None:
        return CellForecast(cell, len(keys), None, None, None, None)
    where = f"{probe.environment['device']}, {probe.environment['host']}"
    return CellForecast(cell, len(keys), seconds, host_memory(probe.host_bytes), probe.gpu_bytes, where)


def makespan(trials: Sequence[WantedTrial], seconds: Mapping[str, float], slots: int) -> float:
    """Seconds until all are done when each slot that is free takes the first trial that has what it starts from.

    seconds: of each, by key.
    """
    wanted = {trial.key for trial in trials}
    ready = [number for number, trial in enumerate(trials) if trial.after not in wanted]
    behind: dict[str, list[int]] = {}
    for number, trial in enumerate(trials):
        behind.setdefault(trial.after, []).append(number)
    running, now = list[tuple[float, str]](), 0.0
    while ready or running:
        if ready and len(running) < slots:
            trial = trials[heappop(ready)]
            heappush(running, (now + seconds[trial.key], trial.key))
        else:
            now, key = heappop(running)
            for number in behind.get(key, ()):
                heappush(ready, number)
    return now


def bytes_to_come(plan: Plan, missing: Sequence[WantedTrial], slots: int) -> int:
    """Of the store, for trials that are not done: each leaves weights and history, and needs more while it runs."""
    needs = [plan.bytes_needed(trial.key) for trial in missing]
    history = sum(HISTORY_BYTES * int(trial.config["train"]["epochs"]) for trial in missing)
    return sum(sorted(needs)[-slots:]) + history + sum(needs) // COPIES
