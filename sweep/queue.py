"""Which trial next: what is missing, each once, and again what failed in a way that the spec's policy retries."""

import socket
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Generic

from sweep.jobs import Jobs, Record
from sweep.record import EpochRecord, FailureKind, TrialFailure, WantedTrial
from sweep.roles import Nothing, Observer, Source
from sweep.spec import RetryPolicy
from sweep.turns import Turn, Waiting, turns_of

PAUSE = 2.0
"""Seconds before a trial is looked at again that another launch trains, or for which there was no room."""
LONGEST_BACKOFF = 600.0
MIN_FREE = 16 * 2**20
"""Bytes that must be free for a trial to start, besides what it will need itself."""


class TrialQueue(Generic[Record]):
    """Trials in the order in which they should start. Everything it knows of them it reads from the store.

    launch: on whose behalf. needs: bytes that a trial, by its key, takes of the store while it runs. source: of further
    trials. A store that cannot be reached for a while delays a trial, and loses none.
    """

    def __init__(
        self,
        trials: Iterable[WantedTrial],
        store: Jobs[Record],
        policy: RetryPolicy,
        observers: Iterable[Observer[Record]],
        launch: str,
        needs: Callable[[str], int],
        source: Source[Record] | None = None,
    ):
        self._waiting = Waiting()
        self._waiting.put_first(turns_of(trials, store))
        self._source: Source[Record] = source or Nothing()
        self._under_way: dict[str, Turn] = {}
        self._store = store
        self._policy = policy
        self._observers = list(observers)
        self._launch = launch
        self._needs = needs
        self._without_room: set[str] = set()

    @property
    def is_over(self) -> bool:
        return not self._waiting and not self._under_way and self._source.is_over

    @property
    def num_waiting(self) -> int:
        """Trials that are still to be handed out, some of them perhaps again."""
        return len(self._waiting)

    def next(self) -> tuple[WantedTrial, bool] | None:
        """The next trial to start, and whether it is to be alone on its device; None when none is to start now."""
        self._take_more()
        turn = self._next_free()
        return None if turn is None else (turn.trial, turn.alone)

    def next_beside(self, first: WantedTrial, fits: Callable[[WantedTrial], bool]) -> WantedTrial | None:
        """The next trial, to share a process with one that was just handed out; None where that is not to be."""
        if not self._under_way[first.key].may_share:
            return None
        turn = self._next_free(lambda turn: turn.may_share and fits(turn.trial))
        return None if turn is None else turn.trial

    def _next_free(self, suits: Callable[[Turn], bool] = lambda turn: True) -> Turn | None:
        """The first that can start, if it suits; it is then under way."""
        for _ in range(len(self._waiting)):
            turn = self._waiting.take()
            if turn.not_before > time.monotonic():
                self._waiting.put(turn)
                continue
            if not suits(turn):
                self._waiting.put_first([turn])
                return None
            if self._is_free(turn):
                self._under_way[turn.trial.key] = turn
                return turn
        return None

    def started(self, key: str) -> None:
        """A worker has begun with a trial."""
        self._tell(lambda observer: observer.started(self._under_way[key].trial))

    def epoch(self, key: str, record: EpochRecord) -> bool:
        """A worker has come to the end of an epoch, and kept it; whether it is to go on."""
        trial = self._under_way[key].trial
        self._tell(lambda observer: observer.epoch(trial, record))
        return self._source.epoch(trial, record)

    def say(self, sentence: str) -> None:
        """Have everybody know."""
        self._tell(lambda observer: observer.said(sentence))

    def ended(self, key: str) -> None:
        """A worker has left a trial; the store says how."""
        turn = self._under_way.pop(key)
        self._tell(lambda observer: observer.returned(turn.trial))
        try:
            state = self._store.state(key)
            failure = self._store.failure(key) if state == "failed" else None
            if state == "done":
                self._finish(turn)
            elif failure is not None and failure != turn.known:
                self._fail(turn, failure)
            elif not self._source.wants(turn.trial):
                self._tell(lambda observer: observer.pruned(turn.trial))
            else:
                self._delay(turn, PAUSE)  # trained by another launch, stopped, or no room
        except OSError as error:
            self._say_away(error)
            self._delay(turn, PAUSE)

    def lost(self, key: str, kind: FailureKind, cause: str, host: str) -> None:
        """A trial's worker did not come back. cause: all that is known of it, its last line what matters most."""
        turn = self._under_way.pop(key)
        self._tell(lambda observer: observer.returned(turn.trial))
        try:
            if self._store.state(key) == "done":  # it was lost after its last word
                self._finish(turn)
                return
        except OSError as error:
            self._say_away(error)
            self._delay(turn, PAUSE)
            return
        self._record_failure(turn, kind, cause, host)

    def _record_failure(self, turn: Turn, kind: FailureKind, cause: str, host: str) -> None:
        """Have the store know of a failure that no worker could tell it, and act on it."""
        key = turn.trial.key
        try:
            attempt = self._store.begin(key, turn.trial.config, self._launch)
            at = self._store.progress(key)
            failure = TrialFailure(
                key=key,
                kind=kind,
                message=_last_line(cause),
                traceback=cause,
                epoch=int(at.get("epoch", 0)) + 1,
                host=host,
                timestamp=time.time(),
                attempt=attempt.number,
                log_tail="\n".join(attempt.lines[-20:]),
            )
            attempt.fail(failure)
        except (OSError, RuntimeError) as error:  # the store is away, or another launch has the trial already
            self._say_away(error)
            self._delay(turn, PAUSE)
            return
        self._fail(turn, failure)

    def _take_more(self) -> None:
        try:
            self._waiting.put_first(turns_of(self._source.more(), self._store, are_suggested=True))
        except OSError as error:
            self._say_away(error)

    def _is_free(self, turn: Turn) -> bool:
        """Whether a trial is to be trained now; what has ended elsewhere is told and forgotten."""
        key = turn.trial.key
        # The same is trained for somebody else; or what it starts from is not, and the store need not be asked of that.
        if key in self._under_way or self._is_to_come(turn.trial.after):
            self._delay(turn, PAUSE)
            return False
        try:
            if not self._has_room(turn):
                self._delay(turn, PAUSE)
                return False
            state = self._store.state(key)
            if state == "done":
                self._finish(turn)
                return False
            if state == "failed" and (failure := self._store.failure(key)) != turn.known:
                self._give_up(turn, failure)
                return False
            if not self._source.wants(turn.trial):
                self._tell(lambda observer: observer.pruned(turn.trial))
                return False
            if turn.trial.after and not self._has_start(turn):
                return False
            owner = self._store.holder(key)
        except OSError as error:
            self._say_away(error)
            self._delay(turn, PAUSE)
            return False
        if owner is not None and owner.id != self._launch:
            self._delay(turn, PAUSE)
            return False
        return True

    def _is_to_come(self, key: str) -> bool:
        return key in self._under_way or key in self._waiting

    def _has_start(self, turn: Turn) -> bool:
        """Whether what a trial starts from is done; it waits for that, and fails with it."""
        start = turn.trial.after
        state = self._store.state(start)
        if state == "done":
            return True
        if self._store.holder(start) is not None:
            self._delay(turn, PAUSE)
            return False
        why = self._store.failure(start).message if state == "failed" else "nobody trains it"
        cause = f"it starts from the weights of trial {start[:12]}, which is {state}: {why}"
        self._record_failure(turn, "prerequisite", cause, socket.gethostname())
        return False

    def _has_room(self, turn: Turn) -> bool:
        files, key = self._store.files, turn.trial.key
        free = files.free_bytes()
        if free is not None:
            need = MIN_FREE + max(0, self._needs(key) - sum(self._store.trial(key).sizes().values()))
            if free < need:
                self._pause(
                    key,
                    f"results folder {files} has {free // 2**20} MiB free of the {need // 2**20} that a trial needs: "
                    f"none is started until there is room; 'sweep gc' removes what is of no use",
                )
                return False
        try:
            if self._without_room or turn.not_before:
                files.check_writable()
        except OSError as error:
            self._pause(
                key, f"results folder {files} cannot be written ({error.strerror}): no trial is started until it can"
            )
            return False
        if key in self._without_room:
            self._without_room.discard(key)
            if not self._without_room:
                self.say(f"results folder {files} has room again")
        return True

    def _pause(self, key: str, sentence: str) -> None:
        """Said of the first trial alone: there may be hundreds that wait for the same room."""
        if not self._without_room:
            self.say(sentence)
        self._without_room.add(key)

    def _finish(self, turn: Turn) -> None:
        try:
            result = self._store.result(turn.trial.key)
        except ValueError as error:
            self.say(str(error))
            self._source.failed(turn.trial)
            return
        self._source.finished(turn.trial, result)
        self._tell(lambda observer: observer.finished(turn.trial, result))

    def _give_up(self, turn: Turn, failure: TrialFailure) -> None:
        self._source.failed(turn.trial)
        self._tell(lambda observer: observer.failed(turn.trial, failure))

    def _fail(self, turn: Turn, failure: TrialFailure) -> None:
        wait = self._retry_after(turn, failure)
        if wait is None:
            self._give_up(turn, failure)
            return
        turn.known = failure
        self._delay(turn, wait)
        how = "alone " if turn.alone else ""
        when = f"in {wait:.0f} s" if wait else "now"
        self.say(f"{turn.trial.name}: {failure.kind}: {failure.message}; tried again {how}{when}")

    def _retry_after(self, turn: Turn, failure: TrialFailure) -> float | None:
        """Seconds to wait before a failed trial is tried again; None when it is not."""
        policy = self._policy
        if failure.kind == "out-of-memory":
            turn.shortages += 1
            return 0.0 if turn.shortages <= policy.out_of_memory else None
        if failure.kind != "worker-lost":
            return None
        at = (failure.epoch, 0)
        with suppress(OSError):
            progress = self._store.progress(turn.trial.key)
            at = (int(progress.get("epoch", 0)), int(progress.get("step", 0)))
        turn.losses = turn.losses + 1 if at <= turn.at else 1
        turn.at = max(at, turn.at)
        if policy.worker_lost != "unlimited" and turn.losses > policy.worker_lost:
            return None
        return 0.0 if turn.losses == 1 else min(policy.backoff_seconds * 2 ** (turn.losses - 2), LONGEST_BACKOFF)

    def _delay(self, turn: Turn, seconds: float) -> None:
        turn.not_before = time.monotonic() + seconds
        self._waiting.put(turn)

    def _say_away(self, error: Exception) -> None:
        self.say(
            f"the store could not be used ({_last_line(''.join(traceback.format_exception_only(error)))}); trying on"
        )

    def _tell(self, event: Callable[[Observer[Record]], None]) -> None:
        for observer in self._observers:
            event(observer)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no more is known"
