"""A sweep sent to a cluster: checked and recorded here, run there, and waited for by looking into the store.

What is sent is `sweep resume NAME`: the spec goes by the store, which the cluster shares, and a job that is started
twice or again does what is left.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sweep.claims import Launch
from sweep.exits import DONE, INTERRUPTED
from sweep.places import local_folder
from sweep.plan import count_states
from sweep.record import SweepRecord
from sweep.run import exit_code
from sweep.search_state import searches
from sweep.store import TrialStore
from sweep.submission import allow_submissions, ending
from sweep.target import Job, Target

FIRST_ASKED, ASKED, LOOKED = 0.5, 5.0, 30.0
"""Seconds between two questions to the target, at first and as time goes on, and between two looks into the store."""


@dataclass(frozen=True)
class Request:
    """What is to be run. tracking, search_storage: addresses there; the cluster's own environment says, by default."""

    record: SweepRecord
    store: TrialStore
    corpora: Path
    tracking: str | None = None
    search_storage: str | None = None
    is_mirrored: bool = True

    def command(self, id: str) -> Sequence[str]:
        """What the cluster runs. Raises ValueError when it would have a password in it, which job lists show."""
        folder = local_folder(self.store.location)
        words = ["sweep", "resume", self.record.name, "--address", "auto", "--submission", id]
        words += ["--results", str(folder or self.store.location), "--corpora", str(self.corpora.absolute())]
        if not self.is_mirrored:
            words.append("--no-tracking")
        elif self.tracking is not None:
            words += ["--tracking-uri", _without_password(self.tracking, "MLFLOW_TRACKING_URI")]
        if self.search_storage is not None:
            words += ["--search-storage", _without_password(self.search_storage, "SWEEP_SEARCH_STORAGE")]
        return words


def _without_password(uri: str, variable: str) -> str:
    parts = urlsplit(uri)
    if "@" in parts.netloc or "password" in parts.query.lower():
        raise ValueError(
            f"a password in {variable} would stand in the job's command for everybody to see; set that variable in the "
            f"cluster's own environment, and leave it out here"
        )
    return uri


def submit(request: Request, job: Job, target: Target) -> str:
    """Record the sweep and send it; returns how the target calls the job.

    Raises ValueError when the store cannot be written, when somebody runs the sweep, or when the target refuses.
    """
    store, record = request.store, request.record
    store.check_writable()
    with Launch(store.launches, record.name) as this:
        store.lead(record.name, this)
        store.record(record)
        allow_submissions(store, record.name)
    return target.send(job)


def wait(request: Request, job: Job, handle: str, target: Target, say: Callable[[str], None]) -> tuple[int, str]:
    """Wait for the end of a job: the exit code of its sweep, and a sentence on what was wrong, '' if nothing was.

    A target or a store that cannot be reached is asked again, for as long as it takes.
    """
    store, last, looked, pause = request.store, "", -math.inf, min(FIRST_ASKED, ASKED)
    while True:
        line = last
        try:
            if target.is_over(handle):
                break
            if time.monotonic() - looked > LOOKED:
                looked, line = time.monotonic(), _progress(request)
        except OSError as error:
            line = f"how it stands cannot be asked ({error}); trying on"
        if line != last:
            say(line)
            last = line
        time.sleep(pause)
        pause = min(1.1 * pause, ASKED)
    found = ending(store, request.record.name, job.id)
    if found is not None:
        return found.code, found.sentence
    code = exit_code(store.recorded(request.record.name), store)
    if code == DONE and all(each.told >= each.budget for each in searches(request.record, store)):
        return DONE, ""
    return INTERRUPTED, (
        f"job {handle} is over and has left no word in {store.location}; if it was ended from outside, submit again, "
        f"and if not, see its log there: the cluster may have another place under that name"
    )


def _progress(request: Request) -> str:
    counts = count_states(request.store.states(request.record.wanted))
    return f"{counts['done']}/{sum(counts.values())} done, {counts['started']} begun, {counts['failed']} failed"
