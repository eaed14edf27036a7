"""What a person sees while a sweep runs: one live view on a terminal, a few lines in a log otherwise."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.record import EpochRecord, TrialFailure, TrialResult, WantedTrial
from sweep.roles import Found

MAX_RUNNING_SHOWN = 16
SUMMARY_SECONDS = 60.0


@dataclass
class _Running:
    trial: WantedTrial
    epochs: int
    record: EpochRecord | None = None

    @property
    def fraction(self) -> float:
        return self.record.epoch / self.epochs if self.record else 0.0


class Tally:
    """Counts of a launch and the time that it still needs. costs: expected work by key, in any one unit.

    more: trials that a search will suggest. A pruned one counts as done.
    """

    def __init__(self, trials: Sequence[WantedTrial], costs: Mapping[str, float], more: int = 0):
        self.trials, self.costs, self.more = trials, costs, more
        self.began = time.monotonic()
        self.running: dict[str, _Running] = {}
        self.done: set[str] = set()
        self.failed: set[str] = set()
        # Sums that are kept, as the end of each trial asks for them.
        self._known: set[str] = set()
        self._known_work = self._ended_work = 0.0
        for trial in trials:
            self._know(trial.key)

    def start(self, trial: WantedTrial) -> _Running:
        """It runs, if it did not already."""
        self._know(trial.key)
        return self.running.setdefault(trial.key, _Running(trial, _epochs(trial)))

    def leave(self, key: str) -> None:
        """It does not run any more."""
        self.running.pop(key, None)

    def end(self, key: str, ended: set[str]) -> None:
        """It came to its end. ended: `done` or `failed`."""
        self.leave(key)
        self._know(key)
        if key not in self.done and key not in self.failed:
            self._ended_work += self.costs[key]
        ended.add(key)

    def _know(self, key: str) -> None:
        if key not in self._known:
            self._known.add(key)
            self._known_work += self.costs[key]

    @property
    def total(self) -> int:
        return len(self.trials) + self.more

    @property
    def to_go(self) -> int:
        return max(0, self.total - len(self.done) - len(self.failed) - len(self.running))

    def eta(self) -> float | None:
        """Seconds to the end of the launch at the pace so far; None before any work is done."""
        under_way = sum(self.costs[key] * running.fraction for key, running in self.running.items())
        # What is not suggested yet will cost as much as the others, as far as anybody can tell.
        total = self._known_work * max(1.0, self.total / len(self._known)) if self._known else 0.0
        finished = self._ended_work + under_way
        return (time.monotonic() - self.began) * (total - finished) / finished if finished else None

    def __str__(self) -> str:
        eta = self.eta()
        parts = [f"{len(self.done)}/{self.total} done", f"{len(self.running)} running", f"{self.to_go} to go"]
        if self.failed:
            parts.insert(1, f"{len(self.failed)} failed")
        return "  ".join([*parts, f"ETA {duration(eta)}" if eta is not None else "ETA unknown"])


class Progress(Generic[Found]):
    """An observer of a launch; a context while it is shown. Does nothing but remember and print.

    describe: what a trial came to, in a few words. costs, more: as in `Tally`. room: of the store, with their folders.
    """

    def __init__(
        self,
        trials: Sequence[WantedTrial],
        costs: Mapping[str, float],
        console: Console,
        describe: Callable[[Found], str],
        more: int = 0,
        room: str = "trials",
    ):
        self._describe = describe
        self._room = room
        self._tally = Tally(trials, costs, more)
        self._console = console
        self._lock = threading.RLock()
        self._live = Live(get_renderable=self._view, console=console, refresh_per_second=2, transient=True)
        self._ended = threading.Event()
        self._summaries = threading.Thread(target=self._summarise, daemon=True)

    def __enter__(self) -> "Progress[Found]":
        if self._console.is_terminal:
            self._live.start()
        else:
            self._summaries.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        if self._console.is_terminal:
            self._live.stop()

    def started(self, trial: WantedTrial) -> None:
        with self._lock:
            self._tally.start(trial)

    def epoch(self, trial: WantedTrial, record: EpochRecord) -> None:
        with self._lock:
            self._tally.start(trial).record = record

    def finished(self, trial: WantedTrial, result: Found) -> None:
        with self._lock:
            self._tally.end(trial.key, self._tally.done)
            tally = str(self._tally)
        if not self._console.is_terminal:
            self._say(f"{trial.name}: {self._describe(result)}  [{tally}]")

    def failed(self, trial: WantedTrial, failure: TrialFailure) -> None:
        with self._lock:
            self._tally.end(trial.key, self._tally.failed)
            tally = str(self._tally)
        where = f"{self._room}/{trial.key}/failure.json"
        self._say(f"FAILED {trial.name} ({failure.kind}): {failure.message}; see {where}  [{tally}]")

    def returned(self, trial: WantedTrial) -> None:
        with self._lock:
            self._tally.leave(trial.key)

    def pruned(self, trial: WantedTrial) -> None:
        with self._lock:
            self._tally.end(trial.key, self._tally.done)
            tally = str(self._tally)
        if not self._console.is_terminal:
            self._say(f"{trial.name}: pruned  [{tally}]")

    def said(self, sentence: str) -> None:
        self._say(sentence)

    def _summarise(self) -> None:
        while not self._ended.wait(SUMMARY_SECONDS):
            with self._lock:
                tally = str(self._tally)
            self._say(tally)

    def _say(self, message: str) -> None:
        """Print a line, the lock not held: the live view draws under a lock of its own, and then asks for this one."""
        # A log that can no longer be written, as of a terminal that was closed, must not end the sweep.
        with suppress(OSError):
            self._console.print(Text(f"{time.strftime('%H:%M:%S')}  {message}"), soft_wrap=True)

    def _view(self) -> Group:
        with self._lock:
            ended = len(self._tally.done) + len(self._tally.failed)
            table = Table(box=None, pad_edge=False)
            for heading in ("running", "epoch", "valid nats", "ppl"):
                table.add_column(heading, justify="left" if heading == "running" else "right")
            for running in list(self._tally.running.values())[:MAX_RUNNING_SHOWN]:
                table.add_row(running.trial.name, *_columns(running))
            bar = Table.grid()  # a bar alone does not end its line
            bar.add_row(ProgressBar(total=self._tally.total, completed=ended, width=60))
            return Group(Text(str(self._tally)), bar, table)


def of_training(result: TrialResult) -> str:
    valid, seconds = result.valid["nelbo_paper"], duration(result.cost["seconds"])
    return f"valid {valid:.2f} nats in {len(result.history)} epochs, {seconds}"


def _epochs(trial: WantedTrial) -> int:
    """That it will be trained; 0 where its work does not come in epochs."""
    train = trial.config.get("train")
    return int(train["epochs"]) if train else 0


def _columns(running: _Running) -> tuple[str, str, str]:
    record = running.record
    if record is None:
        return f"0/{running.epochs}" if running.epochs else "–", "–", "–"
    valid = record.valid
    return f"{record.epoch}/{running.epochs}", f"{valid['nelbo_paper']:.2f}", f"{valid['ppl_paper']:.1f}"


def duration(seconds: float) -> str:
    """A length of time for people: 42s, 7m05s, 3h12m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
