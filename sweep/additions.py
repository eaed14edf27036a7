"""What commands add to a sweep in MLflow when no launch is under way: figures, reports, texts."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sweep.claims import Launch
from sweep.mirror import in_one_line, redacted
from sweep.record import SweepRecord
from sweep.store import TrialStore

if TYPE_CHECKING:
    from sweep.tracking import Experiment


def add(
    uri: str, record: SweepRecord, store: TrialStore, write: Callable[["Experiment"], None], what: str
) -> str | None:  # fmt: skip
    """Write to the sweep's experiment; one sentence of warning when that did not work. what: it then lacks."""
    # MLflow takes seconds to import, which commands that add nothing need not pay.
    from sweep.tracking import Experiment

    try:
        with Launch(store.launches, record.name) as this:
            store.lead(record.name, this)  # MLflow has one writer
            write(Experiment(uri, record, store))
    # There is no common class of what MLflow passes on. What is added is in the store whatever it is.
    except Exception as error:
        why = in_one_line(error, uri).removeprefix("ValueError: ")
        return f"MLflow at {redacted(uri)} lacks {what} ({why}); 'sweep sync {record.name}' adds it"
    return None
