"""TrialStore: the folder of trials, and the only truth. State is derived from the files that are there.

    <root>/trials/<key>/config.json       what the trial is
                        attempt.json      who may write here: the token of the newest attempt
                        checkpoint/       see model/checkpoint.py
                        weights.safetensors  the best epoch's, beside the result
                        log.txt           one line an epoch, and warnings
                        failure.json      why it stopped, or
                        result.json       what it found; written last, its existence means done
    <root>/sweeps/<name>/sweep.json       the sweep as last launched

Every file is published whole: written beside its place, flushed to disk and renamed.
"""

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from sweep.record import State, SweepRecord, TrialFailure, TrialResult


class SupersededError(RuntimeError):
    """Another attempt at this trial has begun; this one must stop and leave its files alone."""


@dataclass(frozen=True)
class TrialStore:
    root: Path

    def folder(self, key: str) -> Path:
        return self.root / "trials" / key

    def state(self, key: str) -> State:
        folder = self.folder(key)
        if (folder / "result.json").exists():
            return "done"
        if (folder / "failure.json").exists():
            return "failed"
        if (folder / "checkpoint").exists():
            return "started"
        return "missing"

    def result(self, key: str) -> TrialResult:
        """The result of a done trial. Raises ValueError when its file is damaged, with the way out."""
        path = self.folder(key) / "result.json"
        try:
            return TrialResult.from_json(path.read_text())
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is damaged ({error}); remove it to train this trial again") from None

    def results(self, keys: Iterable[str]) -> dict[str, TrialResult]:
        """Results of those of `keys` that are done."""
        return {key: self.result(key) for key in dict.fromkeys(keys) if self.state(key) == "done"}

    def failure(self, key: str) -> TrialFailure:
        return TrialFailure.from_json((self.folder(key) / "failure.json").read_text())

    def begin(self, key: str, config: Mapping[str, Any]) -> "Attempt":
        """Start writing a trial: takes a new token, and forgets an earlier failure."""
        folder = self.folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        attempt = Attempt(key, folder, uuid.uuid4().hex)
        publish(folder / "attempt.json", json.dumps({"token": attempt.token}))
        if not (folder / "config.json").exists():
            publish(folder / "config.json", json.dumps(config, indent=1, sort_keys=True))
        (folder / "failure.json").unlink(missing_ok=True)
        return attempt

    def record(self, sweep: SweepRecord) -> None:
        """Keep a sweep as launched. Raises ValueError when the store cannot be written."""
        folder = self.sweep_folder(sweep.name)
        folder.mkdir(parents=True, exist_ok=True)
        publish(folder / "sweep.json", sweep.to_json())

    def recorded(self, name: str) -> SweepRecord:
        """The sweep of that name as last launched. Raises ValueError when there is none, naming those there are."""
        path = self.root / "sweeps" / name / "sweep.json"
        known = sorted(each.parent.name for each in self.root.glob("sweeps/*/sweep.json"))
        if name not in known:
            there = f"known: {', '.join(known)}" if known else "there are none yet"
            raise ValueError(f"no sweep '{name}' was run in {self.root}; {there}")
        return SweepRecord.from_json(path.read_text())

    def sweep_folder(self, name: str) -> Path:
        return self.root / "sweeps" / name

    def check_writable(self) -> None:
        """Raises ValueError when nothing can be written below the root; leaves nothing behind."""
        existing = next(path for path in (self.root, *self.root.absolute().parents) if path.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            raise ValueError(
                f"results folder {self.root} cannot be written ({error.strerror}); give another with --results"
            ) from None


@dataclass(frozen=True)
class Attempt:
    """The right to write one trial's folder, for as long as no newer attempt has taken it."""

    key: str
    folder: Path
    token: str

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoint"

    def check(self) -> None:
        """Raises SupersededError when another attempt has begun: a lost worker can live on for seconds."""
        if json.loads((self.folder / "attempt.json").read_text())["token"] != self.token:
            raise SupersededError(f"trial {self.key[:12]} was taken over by a newer attempt")

    def log(self, line: str) -> None:
        with (self.folder / "log.txt").open("a") as file:
            file.write(line + "\n")

    def finish(self, result: TrialResult, weights: Mapping[str, Tensor]) -> None:
        """Publish weights, then the result; the checkpoints are of no use after."""
        self.check()
        partial = self.folder / f"weights.{self.token}.partial"
        save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, partial)
        os.replace(partial, self.folder / "weights.safetensors")
        publish(self.folder / "result.json", result.to_json())
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def fail(self, failure: TrialFailure) -> None:
        self.check()
        publish(self.folder / "failure.json", failure.to_json())


def publish(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
