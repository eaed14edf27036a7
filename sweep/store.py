"""TrialStore: the trials of a folder or bucket, and the only truth. State is derived from the files that are there.

<root>/trials/<key>/config.json       what the trial is
                    attempts/         who may write here: the newest attempt; see claims.py
                    checkpoint/       see model/checkpoint.py
                    weights.safetensors  the best epoch's, beside the result
                    log.txt           one line an epoch, and warnings
                    failure.json      why it stopped, or
                    result.json       what it found; written last, its existence means done
<root>/sweeps/<name>/sweep.json       the sweep as last launched
                     drivers/         who may launch it: the newest driver
                     studies/         what its searches have suggested; see points.py
                     table.*          its tables
                     figures/         its figures
<root>/studies/                       how Optuna's storage knows those searches
<root>/launches/                      processes that train here, while they live
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import save
from torch import Tensor

from data.files import Files
from model.checkpoint import read_state
from sweep import claims
from sweep.claims import Claim, Launch, LaunchFacts
from sweep.places import files_at
from sweep.record import State, SweepRecord, TrialFailure, TrialResult

CONFIG, RESULT, FAILURE, WEIGHTS, LOG = "config.json", "result.json", "failure.json", "weights.safetensors", "log.txt"
CHECKPOINT, ATTEMPTS, FIGURES = "checkpoint", "attempts", "figures"
AT_ONCE = 16
"""Requests that are under way at a time: an object store answers each in tens of milliseconds."""

_Value = TypeVar("_Value")


class SupersededError(RuntimeError):
    """Another attempt at this trial has begun; this one must stop and leave its files alone."""


@dataclass(frozen=True)
class TrialStore:
    """location: a path, or a URI; see places.py."""

    location: str | Path

    @cached_property
    def files(self) -> Files:
        return files_at(self.location)

    @property
    def launches(self) -> Files:
        return self.files.below("launches")

    def trial(self, key: str) -> Files:
        return self.files.below(f"trials/{key}")

    def sweep(self, name: str) -> Files:
        return self.files.below(f"sweeps/{name}")

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

    def result(self, key: str) -> TrialResult:
        """The result of a done trial. Raises ValueError when its file is damaged, with the way out."""
        result = self._read_result(key)
        assert result is not None
        return result

    def results(self, keys: Iterable[str]) -> dict[str, TrialResult]:
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

    def driver(self, name: str) -> LaunchFacts | None:
        """The launch that drives a sweep now, if any."""
        return claims.holder(self.sweep(name).below("drivers"), self.launches)

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

    def forget(self, keys: Iterable[str]) -> None:
        """Have unfinished trials start from the beginning; one that a launch trains now is left alone."""
        for key in keys:
            if self.holder(key) is None:
                self.trial(key).remove(CHECKPOINT)

    def lead(self, name: str, launch: Launch) -> None:
        """Become a sweep's only driver, until the launch ends. Raises ValueError when it has one that is alive."""
        try:
            launch.lease = claims.take(self.sweep(name).below("drivers"), launch.id, self.launches)
        except claims.TakenError as error:
            raise _driven(name, error.owner) from None

    def check_free(self, name: str) -> None:
        """Raises ValueError when a sweep has a driver that is alive."""
        if owner := self.driver(name):
            raise _driven(name, owner)

    def record(self, sweep: SweepRecord) -> None:
        """Keep a sweep as launched."""
        self.sweep(sweep.name).publish("sweep.json", sweep.to_json().encode())

    def recorded(self, name: str) -> SweepRecord:
        """The sweep of that name as last launched. Raises ValueError when there is none, naming those there are."""
        known = sorted(self.files.names("sweeps"))
        if name not in known:
            there = f"known: {', '.join(known)}" if known else "there are none yet"
            raise ValueError(f"no sweep '{name}' was run in {self.location}; {there}")
        try:
            return SweepRecord.from_json(self.sweep(name).read("sweep.json"))
        except (OSError, ValueError, TypeError, KeyError) as error:
            place = f"{self.sweep(name)}/sweep.json"
            raise ValueError(f"{place} is damaged ({error}); run the sweep's spec again, no trial is lost") from None

    def figures(self, name: str) -> list[str]:
        """Names of a sweep's figures in its folder."""
        return [f"{FIGURES}/{figure}" for figure in sorted(self.sweep(name).names(FIGURES))]

    def all_recorded(self) -> list[SweepRecord]:
        return [self.recorded(name) for name in sorted(self.files.names("sweeps"))]

    def find(self, prefix: str) -> str:
        """The key that begins so. Raises ValueError when there is none, or more than one."""
        found = sorted(key for key in self.files.names("trials") if key.startswith(prefix))
        if len(found) == 1:
            return found[0]
        which = f"{len(found)} trials begin so: {', '.join(key[:12] for key in found[:5])}, …; give more of it"
        raise ValueError(f"key '{prefix}': {which if found else f'no trial of {self.location} begins so'}")

    def check_writable(self) -> None:
        """Raises ValueError when nothing can be written below the root; leaves nothing behind."""
        try:
            self.files.check_writable()
        except OSError as error:
            raise ValueError(
                f"results folder {self.location} cannot be written ({error.strerror or error}); "
                f"give another with --results"
            ) from None

    def _read_result(self, key: str) -> TrialResult | None:
        try:
            result = TrialResult.from_json(self.trial(key).read(RESULT))
            if result.key != key:
                raise ValueError(f"it is that of trial {result.key[:12]}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError, KeyError, IsADirectoryError) as error:
            place = f"{self.trial(key)}/{RESULT}"
            raise ValueError(f"{place} is damaged ({error}); remove it to train this trial again") from None
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

    def finish(self, result: TrialResult, weights: Mapping[str, Tensor]) -> None:
        """Publish weights, then the result; the checkpoints are of no use after."""
        self.check()
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

    def emit(self, record: logging.LogRecord) -> None:
        self._attempt.log(self.format(record))


def _driven(name: str, owner: LaunchFacts) -> ValueError:
    return ValueError(f"sweep '{name}' is being run by {owner}; wait for it, or end it with 'sweep stop {name}'")


def each(ask: Callable[[str], _Value], keys: Iterable[str]) -> dict[str, _Value]:
    """What is answered for each key, in their order; several are asked at a time."""
    once = list(dict.fromkeys(keys))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(once, pool.map(ask, once), strict=True))
