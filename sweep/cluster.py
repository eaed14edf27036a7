"""A Ray cluster, joined or started. What Ray reads when it is imported is set here, so that this module comes first."""

import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sweep.ray_token import refuse_open
from sweep.resources import Cluster, Resources, Share

# Read by Ray when it is imported.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

_Answer = TypeVar("_Answer")
CONNECT_SECONDS = 10.0
"""That the head of a cluster has to accept a connection."""
NODE_SECONDS = 120.0
"""That the nodes of a cluster have for an answer: a first process there imports PyTorch from a shared disk."""
JOIN_SECONDS = 900.0
"""That a cluster of a head alone has for a first node: a machine of a cloud is started, and pulls an image."""


@contextlib.contextmanager
def cluster(
    resources: Resources,
    address: str | None = None,
    num_cpus: int | None = None,
    wait: Callable[[str], None] | None = None,
) -> Iterator[Cluster]:
    """Join the cluster at `address`, or start one on this machine that ends with the context.

    wait: told once that a cluster of nothing but a head has no node that trains yet, which is then waited for; by
    default nobody waits.
    Raises ValueError when a trial's resources fit nowhere in it, when the address does not answer, or when a cluster
    that other machines can reach asks nobody for a token.
    """
    if address is None:
        # Whatever address it is told, Ray listens on all of the machine's.
        if (mode := os.environ["RAY_AUTH_MODE"]).lower() != "token":
            raise ValueError(
                f"RAY_AUTH_MODE is {mode}, with which whoever reaches this machine runs code on it; unset it"
            )
        # For this process alone: nothing of it is left on disk, and nobody else on the machine can use the cluster.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    else:
        _refuse_silent(address)
    local: dict[str, Any] = {"include_dashboard": False, "num_cpus": num_cpus, "object_store_memory": 100 * 2**20}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            **({} if address else {**local, "_node_ip_address": "127.0.0.1"}),
        )
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise ValueError(
            f"no Ray cluster answers at {address}, or not to this token ({_first_sentence(error)}); check the address, "
            f"and that RAY_AUTH_TOKEN holds the cluster's token"
        ) from None
    except RuntimeError as error:
        if not str(error).startswith("Version mismatch"):
            raise
        raise ValueError(f"{' '.join(str(error).split())}; install the same here as on the cluster") from None
    try:
        if address is not None:
            refuse_open(ray.get_runtime_context().gcs_address)
            if wait is not None:
                _wait_for_a_node(wait)
        yield Cluster(_nodes(), resources, is_joined=address is not None)
    finally:
        ray.shutdown()


def _refuse_silent(address: str) -> None:
    """Raises ValueError when nothing listens at a `host:port`, which Ray takes minutes to say."""
    host, _, port = address.rpartition(":")
    if not host or "//" in host or not port.isdigit():
        return  # `auto`, or for Ray to judge
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"no Ray cluster answers at {address} ({error}); check the address") from None


def _nodes() -> list[Share]:
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Share(node.get("CPU", 0.0), node.get("GPU", 0.0), node.get("memory", 0.0)) for node in found]


def _wait_for_a_node(say: Callable[[str], None]) -> None:
    """Of one that comes later, as after a `ray up`: the head is there minutes before the others."""
    ends = time.monotonic() + JOIN_SECONDS
    is_said = False
    while not any(node.cpu for node in _nodes()) and time.monotonic() < ends:
        if not is_said:
            say(f"no node of the cluster trains yet; waiting up to {JOIN_SECONDS / 60:g} minutes for one")
            is_said = True
        time.sleep(2.0)


def on_each_node(function: Callable[..., _Answer], *arguments: object) -> dict[str, _Answer]:
    """Call a function on each node of the cluster that this process has joined, with the node's id before the
    arguments; its answers by that id. Raises ValueError when a node cannot run it, or not within a minute or two.
    """
    call, asked = ray.remote(function), {}
    for node in [node for node in ray.nodes() if node["Alive"]]:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = call.options(scheduling_strategy=there, num_cpus=0, max_retries=0)
        asked[node["NodeID"]] = node["NodeManagerHostname"], task.remote(node["NodeID"], *arguments)
    answers, ends = {}, time.monotonic() + NODE_SECONDS
    for node, (host, answer) in asked.items():
        try:
            answers[node] = ray.get(answer, timeout=max(1.0, ends - time.monotonic()))
        except ray.exceptions.RayError as error:
            raise ValueError(
                f"node {host}: nothing can be run there ({_last_sentence(error)}); install there what is installed "
                f"here, or take it out of the cluster"
            ) from None
    return answers


def _first_sentence(error: Exception) -> str:
    return str(error).split(". ")[0].splitlines()[0].rstrip(".")


def _last_sentence(error: Exception) -> str:
    """Of what happened on another machine: its traceback ends with what matters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
