"""How the searches of a sweep stand, from the store alone."""

from dataclasses import dataclass

from sweep.points import Point, read_points
from sweep.record import StudyPlan, SweepRecord
from sweep.store import TrialStore


@dataclass(frozen=True)
class SearchState:
    """One cell's search. told: suggestions that were judged to their end; under_way: those that were made besides.

    best: the number of the best suggestion, and its value; None before any is complete. failed: of those that are told.
    """

    cell: str
    study: str
    budget: int
    complete: int
    pruned: int
    failed: int
    under_way: int
    best: int | None
    value: float | None

    @property
    def told(self) -> int:
        return self.complete + self.pruned + self.failed


def searches(record: SweepRecord, store: TrialStore) -> list[SearchState]:
    """In the order of the cells. Raises ValueError when a file of the store is damaged."""
    budget = int(record.document["search"]["budget"]) if record.studies else 0
    return [_state(study.cell, study.id, budget, read_points(store, record.name, study.id)) for study in record.studies]


def _state(cell: str, study: str, budget: int, points: list[Point]) -> SearchState:
    states = [point.outcome.state if point.outcome else "under way" for point in points]
    values = [
        (point.outcome.value, point.number)
        for point in points
        if point.outcome and point.outcome.state == "complete" and point.outcome.value is not None
    ]
    value, best = min(values) if values else (None, None)
    counts = {state: states.count(state) for state in ("complete", "pruned", "failed", "under way")}
    return SearchState(
        cell, study, max(budget, len(points)), counts["complete"], counts["pruned"], counts["failed"],
        counts["under way"], best, value,
    )  # fmt: skip


def training_seconds(study: StudyPlan, record: SweepRecord, store: TrialStore) -> float:
    """What training a cell's suggestions took: of a trial that is done as its result says, else of its checkpoint.

    Wall-clock of the trainings themselves, without waiting; by whichever sweep or launch each was trained, and once
    where several suggestions share it. Optuna's own durations also count the time in the queue.
    """
    keys = {trial.key for point in read_points(store, record.name, study.id) for trial in point.trials}
    results = store.results(keys)
    seconds = sum(result.cost["seconds"] for result in results.values())
    for key in keys - results.keys():
        seconds += sum(float(epoch["seconds"]) for epoch in store.progress(key).get("history", ()))
    return seconds
