"""What a trial of one shape takes: measured once in a few steps, and kept in the store for all trials of that shape.

A shape is all of a trial that memory and the time of a step depend on: the text, and of a config what is not marked
where it is declared. `in_shape: False` is of a field that changes neither, as seeds, schedules, learning rates and the
number of epochs do not; `in_shape: "whether"` of one that does by being more than 0, as rates of dropout do.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel

from sweep.config import GROUPS, TrialConfig
from sweep.record import seal, unseal

PROBE_VERSION = 1
"""Part of every shape: raised when a probe measures something else."""
NOT_IN_SHAPE = ("data", "schedule", "start")
"""Groups of a config: the text is in it by its content, and what a training starts from takes no room of its own."""


@dataclass(frozen=True)
class Probe:
    """What a few steps of a shape took, on one thread or several of one machine, or on its GPU.

    key: of the shape and of what it ran on. config: of the trial whose shape was probed. host_bytes: resident memory of
    the process at its peak, a checkpoint and an evaluation included. gpu_bytes, gpu_total: what PyTorch reserved of the
    GPU at its peak, and all that it has; 0 on a CPU. steps: how many were timed, after one that was not.
    step_seconds: of one. train_rate, evaluate_rate: seconds a predicted token. finished: Unix seconds.
    """

    key: str
    config: Mapping[str, Any]
    host_bytes: int
    gpu_bytes: int
    gpu_total: int
    steps: int
    step_seconds: float
    train_rate: float
    evaluate_rate: float
    environment: Mapping[str, str]
    finished: float

    def to_json(self) -> str:
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Probe":
        """Raises ValueError when the text is not what was written."""
        return cls(**unseal(text))


def shape_of(config: TrialConfig, content_hash: str) -> str:
    """The shape of a trial on a corpus with that content, as hexadecimal."""
    groups = {name: _shaping(config, name) for name in GROUPS if name not in NOT_IN_SHAPE}
    canonical = json.dumps([PROBE_VERSION, content_hash, groups], sort_keys=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def probe_key(shape: str, device: str, threads: int, graphs: bool = True) -> str:
    """Of the probe of a shape. device: `cpu` or `cuda`. graphs: as `Resources` has it, which a CPU does not feel."""
    return f"{shape}-{device}-{threads}" + ("-graphs" if graphs and device == "cuda" else "")


def _shaping(config: TrialConfig, name: str) -> dict[str, Any]:
    group: BaseModel = getattr(config, name)
    document = group.model_dump(mode="json")
    for field, info in type(group).model_fields.items():
        marked = info.json_schema_extra.get("in_shape") if isinstance(info.json_schema_extra, dict) else None
        if marked is False:
            del document[field]
        elif marked == "whether":
            document[field] = document[field] > 0
    return {"class": type(group).__module__, **document}
