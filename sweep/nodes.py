"""The nodes of a Ray cluster, each examined before it is trusted with trials: its store, its software, its clock."""

import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from data.files import Files
from sweep.environment import UNKNOWN, environment
from sweep.store import TrialStore

MAX_SKEW = 5.0
"""Seconds by which the clocks of two machines may differ: a launch is given up for dead after 60 without a sign."""
SEEN_WITHIN = 30.0
"""Seconds until what a node has written is seen here: NFS keeps what it knows of a folder for as long."""
ALIKE = ("python", "torch", "ray", "text-vae-sweep", "commit")
"""Facts of its environment in which a node must equal the driver."""


@dataclass(frozen=True)
class NodeReport:
    """What was found of one node. problems: a sentence each; none of a node that can be used."""

    host: str
    facts: Mapping[str, str]
    gpus: int
    problems: tuple[str, ...]


def check_nodes(store: TrialStore) -> None:
    """Raises ValueError with the first thing that is wrong with a node of the cluster that this process has joined."""
    for report in examine_nodes(store):
        for problem in report.problems:
            raise ValueError(f"node {report.host}: {problem}")


def examine_nodes(store: TrialStore) -> Sequence[NodeReport]:
    """A report on each node of the cluster that this process has joined; leaves nothing in the store.

    Raises ValueError when a node cannot run what is asked of it.
    """
    # Ray takes seconds to import, which whoever has joined a cluster has paid.
    from sweep.cluster import on_each_node

    here, name, before = store.launches, f"probe-{secrets.token_hex(8)}", time.time()
    nonce = secrets.token_bytes(16)
    here.publish(name, nonce)
    try:
        visits = on_each_node(_visit, str(store.files), name)
        left = _left(here, {node: f"{name}-{node}" for node, visit in visits.items() if not visit.problem})
    finally:
        for each in [each for each in here.names() if each.startswith(name)]:
            here.remove(each)
    ours, after = environment(torch.device("cpu")), time.time()
    reports = []
    for node, visit in visits.items():
        shares = visit.read == nonce and left.get(node) == visit.wrote
        problems = [visit.problem] if visit.problem else [] if shares else [_not_shared(store)]
        problems += _differences(ours, visit.facts)
        skew = max(before - visit.time, visit.time - after)
        if skew > MAX_SKEW:
            problems.append(f"its clock is {skew:.0f} s off; run a time service on all nodes")
        reports.append(NodeReport(visit.host, visit.facts, visit.gpus, tuple(problems)))
    return reports


def _left(here: Files, names: Mapping[str, str]) -> dict[str, bytes]:
    """What nodes have written, by node, as far as it comes to be seen here. names: of their files."""
    ends = time.monotonic() + SEEN_WITHIN
    while True:
        there = here.names()
        found = {node: here.read(name) for node, name in names.items() if name in there}
        if len(found) == len(names) or time.monotonic() > ends:
            return found
        time.sleep(1.0)


def _not_shared(store: TrialStore) -> str:
    return f"what it writes to {store.files} is not seen here, or the other way round; use a place that all nodes share"


def _differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    # Builds of one release for different hardware differ after the plus sign.
    facts = {name: tuple(of.get(name, UNKNOWN).partition("+")[0] for of in (ours, theirs)) for name in ALIKE}
    return [
        f"its {name} is {there} and the driver's is {here}; install the same on every node"
        for name, (here, there) in facts.items()
        # An installed package does not know its commit.
        if here != there and not (name == "commit" and UNKNOWN in (here, there))
    ]


@dataclass(frozen=True)
class _Visit:
    """What a node says of itself. time: its clock, Unix seconds. problem: with the store; '' if none.

    read: what the driver's file holds there. wrote: what this node has put beside it.
    """

    host: str
    time: float
    facts: Mapping[str, str]
    gpus: int
    read: bytes
    wrote: bytes
    problem: str


def _visit(node: str, location: str, name: str) -> _Visit:
    """On a node: read a file of the store that the driver wrote, and write one for it to see."""
    now, found, nonce, problem, store = time.time(), b"", secrets.token_bytes(16), "", TrialStore(location)
    try:
        found = store.launches.read(name)
        store.launches.publish(f"{name}-{node}", nonce)
    except OSError as error:
        problem = f"it cannot use {location} ({error}); results need a place that all nodes share"
    facts = environment(torch.device("cpu"))
    return _Visit(socket.gethostname(), now, facts, torch.cuda.device_count(), found, nonce, problem)
