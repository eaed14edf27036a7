"""MLflow as a mirror of a launch: an observer that only takes notes, and one thread that writes them.

It never blocks a trial and never raises. What it could not write is not lost: the store has it, and the next launch
writes it.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sweep.evaluation import Evaluation
from sweep.mlflow_values import measured_metrics, metrics_of_test
from sweep.places import local_folder
from sweep.record import EpochRecord, SweepRecord, TrialFailure, TrialResult, WantedTrial
from sweep.store import TrialStore

if TYPE_CHECKING:
    from sweep.tracking import Experiment

MAX_FAILURES = 3
PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""After so many failures in a row, MLflow is left alone for so many seconds: each time for twice as long, up to the
longest, until something is written again. A server that restarts is back in seconds, and one that is gone in hours."""
PATIENCE = 30.0
"""Seconds without any progress after which `close` gives up."""
SERVER_SECONDS = 5.0
DATABASE_SECONDS = 60.0
"""How long `open` waits for an answer. A database may have to be created first."""


def default_uri(results: str | Path) -> str:
    """The database beside the trials. Raises ValueError when those are where no database can be."""
    folder = local_folder(results)
    if folder is None:
        raise ValueError(
            f"results at {results} leave no place for MLflow's database; say where MLflow is with --tracking-uri, or "
            f"--no-tracking"
        )
    return f"sqlite:///{folder / 'mlflow.db'}"


def redacted(uri: str) -> str:
    """The address without user and password."""
    return uri.replace(_credentials(uri), "***")


@dataclass(frozen=True)
class _Note:
    """Something to write. subject: a later note of it makes this one superfluous. can_wait: for all the others."""

    subject: str
    write: Callable[["Experiment"], None]
    can_wait: bool = False


class Mirror:
    """An observer of a launch, between `open` and `close`. Arguments: see `tracking.Experiment`."""

    def __init__(self, uri: str, record: SweepRecord, store: TrialStore):
        self._uri = uri
        self._record = record
        self._store = store
        self._notes: SimpleQueue[_Note] = SimpleQueue()
        self._tests: dict[str, Mapping[str, float]] = {}
        self._measured: dict[str, Mapping[str, float]] = {}
        self._finished = 0.0
        self._closing = threading.Event()
        # Whatever the interpreter's end finds unfinished is abandoned, and written by the next launch.
        self._writer = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)
        self._answered = threading.Event()
        self._progress = time.monotonic()
        self._experiment: Experiment | None = None
        self._unwritten: dict[str, _Note] = {}
        self._paused_until = 0.0
        self._pause = PAUSE
        self._num_failures = 0
        self._problem = ""

    def open(self) -> str | None:
        """Make the database and the experiment, and start to write. One sentence of warning when that did not work."""
        # The import takes seconds: here, where a person waits anyway, and not when a trial first ends.
        import sweep.tracking  # noqa: F401

        self._writer.start()
        patience = SERVER_SECONDS if self._uri.startswith("http") else DATABASE_SECONDS
        self._answered.wait(patience)
        if self._experiment is not None:
            return None
        why = self._problem or f"no answer within {patience:g} s"
        return f"MLflow at {redacted(self._uri)} cannot be used ({why}); training goes on, and results are in the store"

    def started(self, trial: WantedTrial) -> None:
        self._note(trial.key, lambda experiment: experiment.start(trial))

    def epoch(self, trial: WantedTrial, record: EpochRecord) -> None:
        self._note(trial.key, lambda experiment: experiment.epoch(trial, record))

    def finished(self, trial: WantedTrial, result: TrialResult, can_wait: bool = False) -> None:
        """Also for trials that were done before, which can wait: that adds nothing to a run that is complete."""
        self._tests[trial.key] = metrics_of_test(result)
        self._finished = max(self._finished, result.finished)
        self._note(trial.key, lambda experiment: experiment.finish(trial, result), can_wait)

    def evaluated(self, trial: WantedTrial, evaluation: Evaluation) -> None:
        """What was measured after the training, of a trial that is `finished` or was."""
        self._measured[trial.key] = measured_metrics(evaluation)
        self._finished = max(self._finished, evaluation.finished)
        # After the note of its end, which makes its run.
        self._note(f"{trial.key} measured", lambda experiment: experiment.measure(trial, evaluation), can_wait=True)

    def failed(self, trial: WantedTrial, failure: TrialFailure) -> None:
        self._note(trial.key, lambda experiment: experiment.fail(trial, failure))

    def returned(self, trial: WantedTrial) -> None:
        """It is shown as running until it has ended, or the launch has."""

    def pruned(self, trial: WantedTrial) -> None:
        self._note(trial.key, lambda experiment: experiment.prune(trial))

    def said(self, sentence: str) -> None:
        """Nothing that MLflow has a place for."""

    def news(self) -> dict[str, object]:
        """How far MLflow is behind, for those who ask how the sweep stands."""
        return {"mlflow": redacted(self._uri), "unwritten": self.num_unwritten, "problem": self._problem}

    @property
    def num_unwritten(self) -> int:
        """Records that MLflow does not have yet."""
        return len(self._unwritten) + self._notes.qsize()

    def close(
        self, tables: Sequence[str] = (), within: float = math.inf, trials: Sequence[WantedTrial] | None = None
    ) -> str | None:
        """Write what is left, the summaries and the tables. One sentence of warning when something could not be.

        tables: names of files of the sweep in the store. within: seconds after which the rest is left to later.
        trials: of the sweep as it ends, if it has grown.
        """
        wanted = self._record.trials if trials is None else trials
        found = self._tests, self._measured
        self._note(" summaries", lambda experiment: experiment.summarise(wanted, *found, self._finished))
        self._note(" tables", lambda experiment: experiment.keep(tables))
        self._note(" killed", lambda experiment: experiment.kill())
        self._closing.set()
        began = self._progress = time.monotonic()
        while self._writer.is_alive() and time.monotonic() < min(self._progress + PATIENCE, began + within):
            self._writer.join(0.1)
        num_unwritten = self.num_unwritten
        if not num_unwritten:
            return None
        why = self._problem or f"not within {min(PATIENCE, within):g} s"
        records = "1 record" if num_unwritten == 1 else f"{num_unwritten} records"
        return (
            f"MLflow at {redacted(self._uri)} lacks {records} of sweep '{self._record.name}' ({why}); "
            f"'sweep sync {self._record.name}' writes them when it is back"
        )

    def _note(self, subject: str, write: Callable[["Experiment"], None], can_wait: bool = False) -> None:
        self._notes.put(_Note(subject, write, can_wait))

    def _work(self) -> None:
        self._attempt(_Note(" opened", lambda experiment: None))
        self._answered.set()
        while not (self._closing.is_set() and self._notes.empty()):
            self._take_notes()
            if time.monotonic() >= self._paused_until:
                self._write_waiting()
        # Also when paused, and again as long as that gets anything written: a server may have been back half-way only.
        while self._unwritten and self._write_waiting():
            pass

    def _take_notes(self) -> None:
        """Of the notes on a trial only the last: its end carries all its history."""
        with contextlib.suppress(Empty):
            note = self._notes.get(timeout=0.2)
            while True:
                self._unwritten.pop(note.subject, None)
                self._unwritten[note.subject] = note
                note = self._notes.get_nowait()

    def _write_waiting(self) -> int:
        """How many could be written."""
        num_written = 0
        for note in sorted(self._unwritten.values(), key=lambda note: note.can_wait):
            if note.can_wait and not self._notes.empty():
                break  # something that cannot has come meanwhile
            if self._attempt(note):
                del self._unwritten[note.subject]
                num_written, self._num_failures, self._pause = num_written + 1, 0, PAUSE
                continue
            # To the end of the line: one record that MLflow refuses must not hold up the others.
            self._unwritten[note.subject] = self._unwritten.pop(note.subject)
            self._num_failures += 1
            if self._num_failures >= MAX_FAILURES:
                self._num_failures, self._paused_until = 0, time.monotonic() + self._pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                break
        if not self._unwritten:
            self._problem = ""
        return num_written

    def _attempt(self, note: _Note) -> bool:
        from sweep.tracking import Experiment

        try:
            if self._experiment is None:
                self._experiment = Experiment(self._uri, self._record, self._store)
            note.write(self._experiment)
        # MLflow passes on what its database, network and file layers raise: there is no common class, and whatever it
        # is, a mirror must not end a sweep. It is told at the end.
        except Exception as error:
            self._problem = self._problem or in_one_line(error, self._uri)
            return False
        self._progress = time.monotonic()
        return True


@contextlib.contextmanager
def answering(uri: str) -> Iterator[None]:
    """For what cannot go on without MLflow. Raises ValueError, one sentence, in place of whatever it raises."""
    try:
        yield
    except ValueError:
        raise
    # There is no common class of what MLflow passes on.
    except Exception as error:
        raise ValueError(
            f"MLflow at {redacted(uri)} cannot be used ({in_one_line(error, uri)}); results are in the store, so mend "
            f"that, or give another with --tracking-uri, and do the same again"
        ) from None


def in_one_line(error: BaseException, uri: str) -> str:
    """What went wrong with an MLflow, for a sentence; its address's credentials are left out."""
    if getattr(error, "get_http_status_code", int)() == 401:
        return "HTTP 401; MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD must hold a user of it and the password"
    root = error
    while (below := root.__cause__ or root.__context__) is not None:
        root = below
    # Under the layers' retries and pools is what a person can act on: refused, timed out, no space left.
    told = root if isinstance(root, OSError) else error
    text = " ".join(f"{type(told).__name__}: {told}".replace(_credentials(uri), "***").split())
    return text if len(text) <= 300 else text[:299] + "…"


def _credentials(uri: str) -> str:
    """`user:password` of an address; where it has none, a text that is in no message."""
    return urlsplit(uri).netloc.rpartition("@")[0] or "\0"
