"""Work that is done once for a trial, in a folder that is the only truth: state is derived from the files in it.

<folder>/config.json  what is to be done
         attempts/    who may write here: the newest attempt; see claims.py
         checkpoint/  how far it has come; see model/checkpoint.py
         log.txt      what happened, line by line
         failure.json   why it stopped, or
         result.json    what it found; written last, its existence means done
"""

import json
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

from safetensors.torch import save
from torch import Tensor

from data.files import Files
from model.checkpoint import read_state
from sweep import claims
from sweep.claims import Claim, LaunchFacts
from sweep.record import State, TrialFailure

CONFIG, RESULT, FAILURE, WEIGHTS, LOG = "config.json", "result.json", "failure.json", "weights.safetensors", "log.txt"
CHECKPOINT, ATTEMPTS = "checkpoint", "attempts"
AT_ONCE = 16
"""Requests that are under way at a time: an object store answers each in tens of milliseconds."""

_Value = TypeVar("_Value")


class Keyed(Protocol):
    """A record that knows whose it is."""

    @property
    def key(self) -> str: ...
    def to_json(self) -> str: ...


Record = TypeVar("Record", bound=Keyed)


class SupersededError(RuntimeError):
    """Another attempt at this has begun; this one must stop and leave its files alone."""


class Jobs(ABC, Generic[Record]):
    """One kind of work on trials, by their keys, and what has come of it."""

    @property
    @abstractmethod
    def files(self) -> Files:
        """Of the whole store."""

    @abstractmethod
    def trial(self, key: str) -> Files:
        """The folder of the work on one trial."""

    @abstractmethod
    def parse(self, text: bytes) -> Record:
        """A result. Raises ValueError, TypeError or KeyError when the text is none."""

    @property
    def launches(self) -> Files:
        return self.files.below("launches")

    def state(self, key: str) -> State:
        names = self.trial(key).names()
        if RESULT in names:
            return "done"
        if FAILURE in names:
            return "failed"
        return "started" if CHECKPOINT in names else "missing"

    def states(self, keys: Iterable[str]) -> dict[str, State]:
        """State of each trial: one request a trial, whatever else is in the store."""
        return each(self.state, keys)

    def result(self, key: str) -> Record:
        """The result of a done trial. Raises ValueError when its file is damaged, with the way out."""
        result = self._read_result(key)
        assert result is not None
        return result

    def results(self, keys: Iterable[str]) -> dict[str, Record]:
        """Results of those of `keys` that are done. Raises ValueError when one is damaged, with the way out."""
        found = each(self._read_result, keys)
        return {key: result for key, result in found.items() if result is not None}

    def failure(self, key: str) -> TrialFailure:
        """Why a failed trial failed; of kind `error` when that file is damaged."""
        try:
            return TrialFailure.from_json(self.trial(key).read(FAILURE))
        except (FileNotFoundError, IsADirectoryError, ValueError, TypeError) as error:
            place = f"{self.trial(key)}/{FAILURE}"
            return TrialFailure(key, "error", f"{place} is damaged ({error}); the trial can be retried", "", 0, "", 0.0)

    def log(self, key: str) -> str:
        """The log of a trial; empty before it has any."""
        try:
            return self.trial(key).read(LOG).decode(errors="replace")
        except (FileNotFoundError, IsADirectoryError):
            return ""

    def progress(self, key: str) -> Mapping[str, Any]:
        """What the newest checkpoint says besides its tensors: `epoch`, `step` and `history`; empty without one."""
        return read_state(self.trial(key).below(CHECKPOINT)) or {}

    def holder(self, key: str) -> LaunchFacts | None:
        """The launch that trains a trial now, if any."""
        return claims.holder(self.trial(key).below(ATTEMPTS), self.launches)

    def begin(self, key: str, config: Mapping[str, Any], launch: str) -> "Attempt":
        """Start writing a trial, and forget an earlier failure. Raises TakenError when another launch trains it."""
        files = self.trial(key)
        claim = claims.take(files.below(ATTEMPTS), launch, self.launches)
        names = files.names()
        if CONFIG not in names:
            files.publish(CONFIG, json.dumps(config, indent=1, sort_keys=True).encode())
        if FAILURE in names:
            files.remove(FAILURE)
        return Attempt(key, files, claim, self.log(key).splitlines())

    def begin_missing(self, key: str, config: Mapping[str, Any], launch: str) -> "Attempt | None":
        """The same, unless it is done: None then. Raises TakenError."""
        if self.state(key) == "done":
            return None
        attempt = self.begin(key, config, launch)
        if self.state(key) == "done":  # since it was looked at: whoever had it gave it up by finishing
            attempt.withdraw()
            return None
        return attempt

    def forget(self, keys: Iterable[str]) -> None:
        """Have unfinished trials start from the beginning; one that a launch trains now is left alone."""
        for key in keys:
            if self.holder(key) is None:
                self.trial(key).remove(CHECKPOINT)

    def _read_result(self, key: str) -> Record | None:
        try:
            result = self.parse(self.trial(key).read(RESULT))
            if result.key != key:
                raise ValueError(f"it is that of trial {result.key[:12]}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError, KeyError, IsADirectoryError) as error:
            place = f"{self.trial(key)}/{RESULT}"
            raise ValueError(f"{place} is damaged ({error}); remove it to have it made again") from None
        return result


@dataclass(frozen=True)
class Attempt:
    """The right to write one trial's files, for as long as no newer attempt has taken it. lines: of its log."""

    key: str
    files: Files
    claim: Claim
    lines: list[str] = field(default_factory=list)

    @property
    def number(self) -> int:
        return self.claim.number

    @property
    def checkpoints(self) -> Files:
        return self.files.below(CHECKPOINT)

    def check(self) -> None:
        """Raises SupersededError when another attempt has begun: a lost worker can live on for seconds."""
        if not self.claim.holds():
            raise SupersededError(f"trial {self.key[:12]} was taken over by a newer attempt")

    def log(self, line: str) -> None:
        """Whole each time, since an object store cannot append."""
        self.check()
        self.lines.append(line)
        self.files.publish(LOG, "".join(f"{each}\n" for each in self.lines).encode())

    def finish(self, result: Keyed, weights: Mapping[str, Tensor] | None = None) -> None:
        """Publish weights, if there are any, then the result; the checkpoints are of no use after."""
        self.check()
        if weights is not None:
            self.files.publish(WEIGHTS, save({name: tensor.cpu().contiguous() for name, tensor in weights.items()}))
        self.files.publish(RESULT, result.to_json().encode())
        self.files.remove(CHECKPOINT)
        self.withdraw()

    def fail(self, failure: TrialFailure) -> None:
        self.check()
        self.files.publish(FAILURE, failure.to_json().encode())
        self.claim.give_up()

    def withdraw(self) -> None:
        """Leave a trial that turned out to be done."""
        self.files.remove(ATTEMPTS)

    def give_up(self) -> None:
        """Leave the trial to whoever wants it, as it is."""
        if self.claim.holds():
            self.claim.give_up()


class AttemptLog(logging.Handler):
    """Log records as lines of a trial's log."""

    def __init__(self, attempt: Attempt):
        super().__init__()
        self._attempt = attempt
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:  # in another one, another trial runs
            self._attempt.log(self.format(record))


def each(ask: Callable[[str], _Value], keys: Iterable[str]) -> dict[str, _Value]:
    """What is answered for each key, in their order; several are asked at a time."""
    once = list(dict.fromkeys(keys))
    # To hand a thread one of thousands of keys takes longer than a folder takes to answer.
    size = max(1, len(once) // (8 * AT_ONCE))
    parts = [once[first : first + size] for first in range(0, len(once), size)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(lambda part: [ask(key) for key in part], parts)
        return dict(zip(once, chain.from_iterable(answers), strict=True))
