"""How a sweep that was submitted has ended where it ran: an exit code and a sentence, kept in the store.

Schedulers have codes of their own for how a job ended, and most pass on only whether it failed.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import typer

from data.files import Files
from sweep.exits import INTERRUPTED, USAGE
from sweep.record import seal, unseal
from sweep.store import TrialStore

ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
STOPPED = "stopped"
"""There once somebody has stopped the sweep, until it is submitted again."""


@dataclass(frozen=True)
class Ending:
    """code: as in `exits`. sentence: what was wrong with what was asked for; '' if nothing was."""

    code: int
    sentence: str = ""


@contextmanager
def ending_kept(store: TrialStore, sweep: str, id: str | None) -> Iterator[None]:
    """Keep how what is done in it ends, under a submission's id, if it has one. Raises ValueError for what is no id.

    And typer.Exit where the sweep was stopped: a cluster that tries a job again knows nothing of that.
    """
    if id is None:
        yield
        return
    files = _submissions(store, sweep, id)
    try:
        if STOPPED in files.names():
            raise typer.Exit(INTERRUPTED)
        yield
    except typer.Exit as ended:
        _keep(files, id, Ending(ended.exit_code))
        raise
    except ValueError as error:
        _keep(files, id, Ending(USAGE, str(error)))
        raise


def ending(store: TrialStore, sweep: str, id: str) -> Ending | None:
    """How the newest try at a submission ended; None when none has, or what it said is damaged."""
    files = _submissions(store, sweep, id)
    try:
        return Ending(**unseal(files.read(f"{id}.json")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def forbid_submissions(store: TrialStore, sweep: str) -> None:
    """Have no job go on that a sweep was sent as until now, nor begin."""
    _folder(store, sweep).publish(STOPPED, b"")


def allow_submissions(store: TrialStore, sweep: str) -> None:
    _folder(store, sweep).remove(STOPPED)


def _folder(store: TrialStore, sweep: str) -> Files:
    return store.sweep(sweep).below("submissions")


def _submissions(store: TrialStore, sweep: str, id: str) -> Files:
    if not ID.fullmatch(id):
        raise ValueError(
            f"a submission's id is of lower-case letters, digits and hyphens, not {id!r}; 'sweep submit' makes it"
        )
    return _folder(store, sweep)


def _keep(files: Files, id: str, found: Ending) -> None:
    files.publish(f"{id}.json", seal(asdict(found)).encode())
