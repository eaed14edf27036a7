"""Checkpoints: tensors as safetensors, everything else as JSON, a manifest with hashes last. Nothing is unpickled.

`epoch-00007/{weights.safetensors, …, state.json, manifest.json}` after seven epochs, `epoch-00007-step-0000123/` after
123 steps of the eighth. A checkpoint is there when its manifest is there and every file has the hash that it gives.
The one before stays, in case this one is damaged.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from data.files import Files

logger = logging.getLogger(__name__)

KEPT = 2
DAMAGE = (
    FileNotFoundError, IsADirectoryError, NotADirectoryError,
    ValueError, KeyError, TypeError, AttributeError, SafetensorError,
)  # fmt: skip
"""What a damaged checkpoint raises. A store that is away is none: that would start a trial from further back."""
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
    """Publish a checkpoint, then remove all but it and the one before. Raises OSError when it is not taken.

    What calls itself newer goes too: training came from what was whole, so that cannot have been.
    """
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
    names = _newest_first(files)
    newest = names.index(checkpoint.name)
    for name in (*names[:newest], *names[newest + KEPT :]):
        files.remove(name)


def read_newest(files: Files) -> Checkpoint | None:
    """The newest checkpoint that is whole; a warning names a damaged one that is passed over, and what is used."""
    damaged: list[str] = []
    for name in _newest_first(files):
        try:
            found = _read(files.below(name))
        except DAMAGE as error:
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
        with suppress(*DAMAGE):
            hashes = json.loads(files.read(f"{name}/{MANIFEST}"))
            state: Mapping[str, Any] = json.loads(_checked(files.read(f"{name}/{STATE}"), STATE, hashes))
            return state
    return None


def _read(files: Files) -> Checkpoint:
    hashes = json.loads(files.read(MANIFEST))
    contents = {name: _checked(files.read(name), name, hashes) for name in hashes}
    state = json.loads(contents[STATE])
    parts = {name.removesuffix(TENSORS): load(content) for name, content in contents.items() if name.endswith(TENSORS)}
    return Checkpoint(state.pop("epoch"), state.pop("step"), parts, state)


def _checked(content: bytes, name: str, hashes: Mapping[str, str]) -> bytes:
    if hashlib.sha256(content).hexdigest() != hashes[name]:
        raise ValueError(f"{name} does not have the hash of its manifest")
    return content


def _newest_first(files: Files) -> list[str]:
    return sorted((name for name in files.names() if name.startswith("epoch-")), reverse=True)
