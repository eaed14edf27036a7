"""Checkpoints: tensors as safetensors, everything else as JSON, a manifest with hashes last. Nothing is unpickled.

`epoch-00007/{weights.safetensors, …, state.json, manifest.json}` after seven epochs, `epoch-00007-step-0000123/` after
123 steps of the eighth. A checkpoint is there when its manifest is there and every file has the hash that it gives.
The one before stays, in case this one is damaged.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from data.files import Files

logger = logging.getLogger(__name__)

KEPT = 2
ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
MANIFEST, STATE, TENSORS = "manifest.json", "state.json", ".safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """epoch: that are complete. step: of the next one that are done.

    parts: part name to its tensors by name (`weights`, `best`, `update`). state: plain JSON values.
    """

    epoch: int
    step: int
    parts: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"epoch-{self.epoch:05d}" + (f"-step-{self.step:07d}" if self.step else "")


def write(files: Files, checkpoint: Checkpoint) -> None:
    """Publish a checkpoint, then remove all but it and the one before. Raises OSError when it is not taken."""
    target = files.below(checkpoint.name)
    target.remove(MANIFEST)  # of a damaged one of the same name: it must not vouch for the new files
    state = {"epoch": checkpoint.epoch, "step": checkpoint.step, **checkpoint.state}
    contents = {STATE: json.dumps(state, allow_nan=False).encode()}
    for name, tensors in checkpoint.parts.items():
        contents[name + TENSORS] = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
    for name, content in contents.items():
        target.publish(name, content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    target.publish(MANIFEST, json.dumps(hashes).encode())
    for older in _newest_first(files)[KEPT:]:
        files.remove(older)


def read_newest(files: Files) -> Checkpoint | None:
    """The newest checkpoint that is whole; a warning names a damaged one that is passed over, and what is used."""
    damaged: list[str] = []
    for name in _newest_first(files):
        try:
            found = _read(files.below(name))
        # A store that is away for a moment is no damage: that would start a trial from further back, or anew.
        except (*ABSENT, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            damaged.append(f"{name} ({error})")
            continue
        if damaged:
            logger.warning("damaged: checkpoint %s; using %s", ", ".join(damaged), name)
        return found
    if damaged:
        logger.warning("damaged: checkpoint %s; there is no other, starting from the beginning", ", ".join(damaged))
    return None


def read_state(files: Files) -> Mapping[str, Any] | None:
    """What the newest checkpoint says besides its tensors; None when none can be read."""
    for name in _newest_first(files):
        try:
            if MANIFEST in files.names(name):
                state: Mapping[str, Any] = json.loads(files.read(f"{name}/{STATE}"))
                return state
        except (*ABSENT, ValueError):
            continue
    return None


def _read(files: Files) -> Checkpoint:
    hashes = json.loads(files.read(MANIFEST))
    contents = {name: files.read(name) for name in hashes}
    for name, expected in hashes.items():
        if hashlib.sha256(contents[name]).hexdigest() != expected:
            raise ValueError(f"{name} does not have the hash of its manifest")
    state = json.loads(contents[STATE])
    parts = {name.removesuffix(TENSORS): load(content) for name, content in contents.items() if name.endswith(TENSORS)}
    return Checkpoint(state.pop("epoch"), state.pop("step"), parts, state)


def _newest_first(files: Files) -> list[str]:
    return sorted((name for name in files.names() if name.startswith("epoch-")), reverse=True)
