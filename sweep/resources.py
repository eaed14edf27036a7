"""What a trial takes of a cluster's nodes, as the spec asks or as a probe measured, and how many fit side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    field_validator,
    model_validator,
)

from model.host import GPU_CONTEXT, STREAMS
from sweep.probe import Probe

MARGIN = 1.2
"""By which a trial may need more than its probe did: a few steps see neither every batch nor what fragments memory."""
WORKER = 384 * 2**20
"""Bytes that a worker has resident besides a trial: Ray and its imports, 170 MiB, and as much again of what earlier
trials left, since a process keeps what it once had."""
GRAIN = 256 * 2**20
"""Bytes to which a claim on a node's memory is rounded: a worker is kept for trials that claim the same."""
MOST_ON_A_GPU = 8
"""Trials of one GPU: by then its time is used up, and each more has a context of CUDA's own."""
MOST_TOGETHER = 20
"""Trials of one process. Not measured."""
SHARES = 10_000
"""Ray counts GPUs in parts of so many; a share that is rounded up to one would leave room for one trial fewer."""


class Resources(BaseModel):
    """What one trial asks of the cluster; `auto` in place of the fields is `{probe: true}`.

    cpu: cores, and threads. gpu: a share of a GPU, or `auto`: one when the cluster has any, else none; with `probe`, as
    much as its memory needs. probe: have a few steps of each shape of trial measured before the first is trained.
    together: how many trials share a process at the most. `auto`: as many as a GPU has memory for, where each was
    probed, and else one: on a CPU trials of one process would get in each other's way. graphs: have a GPU told each
    step of training as a whole, where a system allows that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: PositiveFloat = 1.0
    gpu: NonNegativeFloat | Literal["auto"] = "auto"
    probe: bool = False
    together: Annotated[int, Field(ge=1, le=STREAMS)] | Literal["auto"] = "auto"
    graphs: bool = True

    @model_validator(mode="before")
    @classmethod
    def _auto_is_measured(cls, value: object) -> object:
        if isinstance(value, str) and value != "auto":
            raise ValueError("give auto, or the fields cpu, gpu, probe, together and graphs")
        return {"probe": True} if value == "auto" else value

    @field_validator("gpu")
    @classmethod
    def _shares_one_or_takes_whole(cls, gpu: float | str) -> float | str:
        if isinstance(gpu, float) and gpu > 1 and gpu != int(gpu):
            raise ValueError("a trial takes a share of one GPU, or whole ones")
        return gpu

    @property
    def threads(self) -> int:
        """Of one trial's computation on a CPU."""
        return max(1, int(self.cpu))


@dataclass(frozen=True)
class Share:
    """What a trial takes of a node, or a node has. memory: bytes of the host's; a trial with 0 makes no claim."""

    cpu: float
    gpu: float = 0.0
    memory: float = 0.0

    def times_in(self, node: "Share") -> int:
        """How many such trials a node takes side by side."""
        # A share lies within one GPU.
        by_gpu = int(node.gpu) * int(1 / self.gpu) if 0 < self.gpu < 1 else node.gpu / (self.gpu or 1)
        limits = (node.cpu / self.cpu, by_gpu if self.gpu else None, node.memory / self.memory if self.memory else None)
        return min(int(limit) for limit in limits if limit is not None)


@dataclass(frozen=True)
class Cluster:
    """The nodes that a launch may use, and what its trials ask of them. Raises ValueError when none takes a trial.

    is_joined: whether they were there before, so that they may be other machines than this one.
    """

    nodes: Sequence[Share]
    resources: Resources
    is_joined: bool = False

    def __post_init__(self) -> None:
        if not self.slots:
            most = {kind: max((getattr(node, kind) for node in self.nodes), default=0.0) for kind in ("cpu", "gpu")}
            raise ValueError(
                f"resources: a trial asks for {self.unmeasured.cpu:g} CPUs and {self.unmeasured.gpu:g} GPUs, but the "
                f"largest node has {most['cpu']:g} and {most['gpu']:g}; ask for less with resources.cpu=… or "
                f"resources.gpu=…"
            )

    @property
    def device(self) -> str:
        """Where its trials run: `cuda` or `cpu`."""
        return "cuda" if self.unmeasured.gpu else "cpu"

    @property
    def unmeasured(self) -> Share:
        """Of a trial whose needs nobody has measured."""
        gpu = self.resources.gpu
        return Share(self.resources.cpu, float(any(node.gpu for node in self.nodes)) if gpu == "auto" else gpu)

    @property
    def devices(self) -> int:
        """Among which all trials are shared out: GPUs, or on a CPU the places of trials."""
        return int(sum(node.gpu for node in self.nodes)) if self.unmeasured.gpu else self.slots

    @property
    def slots(self) -> int:
        """Unmeasured trials that run at once."""
        return self.num_at_once(self.unmeasured)

    @property
    def most_slots(self) -> int:
        """Trials that run at once, however little each needs."""
        share = self.unmeasured
        packs = self.resources.probe and self.resources.gpu == "auto" and share.gpu
        return self.num_at_once(Share(share.cpu, 1 / MOST_ON_A_GPU)) if packs else self.slots

    def num_at_once(self, share: Share) -> int:
        return sum(share.times_in(node) for node in self.nodes)

    def share_of(self, probe: Probe | None) -> Share:
        """Of a trial of a shape that was probed, if it was. The memory of a node is claimed, so that none has too many.

        What a probe needed was there, so no claim is larger than the largest node.
        """
        share = self.unmeasured
        if probe is None:
            return share
        gpu = share.gpu
        if self.resources.gpu == "auto" and probe.gpu_bytes:
            gpu = gpu_share(probe.gpu_bytes, probe.gpu_total)
        return Share(share.cpu, gpu, min(host_memory(probe.host_bytes), self._most_memory))

    def share_together(self, probes: Sequence[Probe | None]) -> Share | None:
        """Of trials that share a process; None where they are not to. probes: as above, of each.

        They take the same cores in turn, and one GPU.
        """
        if len(probes) == 1:
            return self.share_of(probes[0])
        each, known = self.unmeasured, [probe for probe in probes if probe is not None and probe.gpu_bytes]
        is_known = len(known) == len(probes) and self.resources.gpu == "auto"
        most = self.resources.together if self.resources.together != "auto" else MOST_TOGETHER if is_known else 1
        if len(probes) > most or each.gpu > 1:
            return None
        gpu = min(1.0, len(probes) * each.gpu)
        if is_known:
            needed, total = sum(probe.gpu_bytes for probe in known), min(probe.gpu_total for probe in known)
            if MARGIN * needed + GPU_CONTEXT > total:
                return None
            gpu = gpu_share(needed, total)
        memory = sum(host_memory(probe.host_bytes) for probe in probes if probe is not None)
        return Share(each.cpu, gpu, float(memory)) if memory <= self._most_memory else None

    @property
    def _most_memory(self) -> float:
        """Of a node that takes a trial."""
        return max(node.memory for node in self.nodes if self.unmeasured.times_in(node))

    def alone(self, share: Share) -> Share:
        """As much as keeps all other trials away from its device; on a CPU, from the node with the most memory."""
        if share.gpu:
            return Share(share.cpu, max(1.0, share.gpu), share.memory)
        roomy = max((node for node in self.nodes if share.times_in(node)), key=lambda node: (node.memory, node.cpu))
        return Share(roomy.cpu, 0.0, roomy.memory)


def gpu_share(needed: int, total: int) -> float:
    """Of a GPU of `total` bytes, for a trial whose probe reserved `needed` there: one over how many fit."""
    number = max(1, min(MOST_ON_A_GPU, int(total // (MARGIN * needed + GPU_CONTEXT))))
    return int(SHARES / number) / SHARES


def host_memory(needed: int) -> int:
    """Bytes to claim of a node for a trial whose probe had `needed` resident."""
    return ceil((MARGIN * needed + WORKER) / GRAIN) * GRAIN
