"""What the searches of a store have suggested, pinned in it before any of it is trained, and what became of it."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import count, takewhile
from typing import Any, Literal

from data.files import Files
from sweep.jobs import each
from sweep.record import SweepRecord, WantedTrial, seal, unseal
from sweep.store import TrialStore


@dataclass(frozen=True)
class Outcome:
    """What became of a suggestion. value: the objective, a mean over seeds; of a pruned one, where it was pruned.

    judged: after each epoch, or each seed, as far as it was looked at.
    """

    state: Literal["complete", "pruned", "failed"]
    value: float | None
    judged: tuple[float, ...]


@dataclass(frozen=True)
class Point:
    """What a search suggested, pinned before any of its trials starts. params: by the name of a dimension.

    trials: one a search seed.
    """

    number: int
    params: Mapping[str, Any]
    trials: tuple[WantedTrial, ...]
    outcome: Outcome | None = None


def read_points(store: TrialStore, sweep: str, study: str) -> list[Point]:
    """What a search of a sweep has suggested, by number, up to the first that is not there.

    Raises ValueError when a file is damaged.
    """
    files = store.sweep(sweep).below(f"studies/{study}")
    names = files.names()
    wanted = list(takewhile(names.__contains__, (_file(number) for number in count())))
    return list(each(lambda name: _read(files, name), wanted).values())


def keep_point(store: TrialStore, sweep: str, study: str, point: Point) -> None:
    store.sweep(sweep).publish(f"studies/{study}/{_file(point.number)}", seal(asdict(point)).encode())


def searched(store: TrialStore, record: SweepRecord) -> list[tuple[Point, WantedTrial]]:
    """Every trial of what a sweep's searches have suggested, with that."""
    points = [point for study in record.studies for point in read_points(store, record.name, study.id)]
    return [(point, trial) for point in points for trial in point.trials]


def mark_of(store: TrialStore, study: str) -> str:
    """What tells a study of this store from another store's, in a storage that they share; empty before any is."""
    try:
        mark = store.files.read(_mark_file(study)).decode(errors="replace")
    except (FileNotFoundError, IsADirectoryError):
        return ""
    return mark if mark.isalnum() else ""


def new_mark(store: TrialStore, study: str) -> str:
    """Have a study begin anew in Optuna's storage; what that has of it is left alone."""
    mark = uuid.uuid4().hex[:8]
    store.files.publish(_mark_file(study), mark.encode())
    return mark


def _file(number: int) -> str:
    return f"{number:05d}.json"


def _mark_file(study: str) -> str:
    # Not among the sweeps: one that was not recorded yet must not look like one that is damaged.
    return f"studies/{study}.mark"


def _read(files: Files, name: str) -> Point:
    try:
        fields = unseal(files.read(name))
        outcome = fields["outcome"]
        return Point(
            fields["number"],
            fields["params"],
            tuple(WantedTrial(**trial) for trial in fields["trials"]),
            Outcome(**{**outcome, "judged": tuple(outcome["judged"])}) if outcome else None,
        )
    except (IsADirectoryError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{files}/{name} is damaged ({error}); remove it, and the search makes it again") from None
