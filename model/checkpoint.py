"""Checkpoints on a local folder: tensors as safetensors, everything else as JSON, a manifest with hashes last.

`<folder>/epoch-00007/{weights.safetensors, …, state.json, manifest.json}`. A checkpoint is there when its manifest is
there and every file has the hash that the manifest gives; the one before is removed only after that.
Nothing is ever unpickled.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """parts: part name to its tensors by name (`weights`, `best`, `update`). state: plain JSON values."""

    epoch: int
    parts: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Publish a checkpoint, then remove the older ones. Raises OSError when the disk does not take it."""
    target = folder / f"epoch-{checkpoint.epoch:05d}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, tensors in checkpoint.parts.items():
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, target / f"{name}.safetensors")
    _write_json(target / "state.json", {"epoch": checkpoint.epoch, **checkpoint.state})
    hashes = {path.name: _sha256(path, sync=True) for path in sorted(target.iterdir())}
    _write_json(target / "manifest.json", hashes)
    for older in _newest_first(folder):
        if older != target:
            shutil.rmtree(older)


def read_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; a damaged one is passed over with a warning that names it."""
    for candidate in _newest_first(folder):
        try:
            return _read(candidate)
        except (OSError, ValueError, SafetensorError) as error:
            logger.warning("checkpoint %s is damaged (%s); using the one before it", candidate, error)
    return None


def _read(folder: Path) -> Checkpoint:
    hashes = json.loads((folder / "manifest.json").read_text())
    for name, expected in hashes.items():
        if _sha256(folder / name) != expected:
            raise ValueError(f"{name} does not have the hash of its manifest")
    state = json.loads((folder / "state.json").read_text())
    parts = {Path(name).stem: load_file(folder / name) for name in hashes if name.endswith(".safetensors")}
    return Checkpoint(state.pop("epoch"), parts, state)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*"), reverse=True)


def _sha256(path: Path, sync: bool = False) -> str:
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, value: object) -> None:
    with path.open("w") as file:
        json.dump(value, file, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
