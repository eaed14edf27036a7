"""The only importer of Ray: one fresh Tune experiment a launch, fed by the queue. Tune schedules; the store remembers.

Tune's own snapshot, restore, checkpoints and result files are not used: what a trial needs to continue is in the store.
"""

import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from sweep.claims import Launch
from sweep.ending import ended_in_good_order
from sweep.queue import TrialQueue
from sweep.ray_token import refuse_open
from sweep.record import EpochRecord, FailureKind, WantedTrial
from sweep.resources import Cluster, Resources, Share
from sweep.store import TrialStore
from sweep.work import Assignment, Work, train

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
from ray import tune  # noqa: E402
from ray.tune.execution import class_cache  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

# Tune hands a bucket's credentials to its workers in a way that Ray writes down, in a log that every user of a node can
# read. A node has its own, as `check_nodes` finds out; on this machine the workers have this process's environment.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"}
)

# What Tune has to say of a trial that failed or was lost, our queue says in one line.
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

_Answer = TypeVar("_Answer")
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
        yield Cluster(_nodes(), resources)
    finally:
        ray.shutdown()


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


def launch(
    queue: TrialQueue[Any],
    store: TrialStore,
    corpora: Path,
    where: Cluster,
    this: Launch,
    grace_seconds: float,
    work: Work = train,
    share_of: Callable[[str], Share] | None = None,
) -> None:
    """Work through a queue on the cluster; returns when nothing runs any more. What came of it is in the store.

    Ctrl-C, SIGTERM or a request to stop ends it in good order: no trial is started, and those that run have
    `grace_seconds` to leave a checkpoint. A second signal ends it at once.
    share_of: what a trial, by its key, takes of a node; that of an unmeasured one by default.
    """

    def assign(trial: WantedTrial, alone: bool) -> dict[str, Any]:
        share = share_of(trial.key) if share_of else where.unmeasured
        # Absolute paths: a worker may have another working directory.
        assignment = Assignment(
            trial.key, {}, str(store.files), str(corpora.absolute()), this.id,
            where.resources.threads, asdict(where.alone(share) if alone else share),
        )  # fmt: skip
        # A config as text: its values Tune would copy, flatten and keep, several times for each trial.
        return {**asdict(assignment), "config": json.dumps(trial.config)}

    # So many wait besides those that run, so that a node that joins finds work, however many join. A limit on all that
    # are under way would be that of the cluster as it was at first.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(3 * where.most_slots)
    with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(_on_a_worker(work), lambda assigned: assigned["share"]),
            tune_config=tune.TuneConfig(
                search_alg=_Handout(queue, this, assign),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.config["key"][:12],
                trial_dirname_creator=lambda trial: f"{trial.config['key'][:12]}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                verbose=0,
                # A lost worker is our queue's to retry, with its back-off.
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[_Relay(queue)],
                stop=_Judge(queue),
            ),
        )
        # SIGUSR1 is Tune's own way to end; its and Ray's handlers of the others lose the exit code.
        end = ended_in_good_order(this, grace_seconds, queue.say, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        with end, open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            tuner.fit()


def _on_a_worker(work: Work) -> Callable[[Mapping[str, Any]], None]:
    """Work as Tune has it done."""

    def trainable(assigned: Mapping[str, Any]) -> None:
        device = "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
        assignment = Assignment(**{**assigned, "config": json.loads(assigned["config"])})
        work(assignment, device, lambda record: tune.report({"epoch": asdict(record)}))

    return trainable


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


class _Handout(Searcher):  # type: ignore[misc]  # ray is untyped
    """The queue as Tune sees it: a search algorithm that suggests each waiting trial once."""

    def __init__(self, queue: TrialQueue[Any], this: Launch, assign: Callable[[WantedTrial, bool], Mapping[str, Any]]):
        super().__init__()
        self._queue = queue
        self._this = this
        self._assign = assign

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher for a restore that is never made; the queue's observers hold threads.
        return {}

    def suggest(self, trial_id: str) -> Any:
        if self._this.stop.is_set() or self._queue.is_over:
            return Searcher.FINISHED
        found = self._queue.next()
        return None if found is None else self._assign(*found)

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing to learn here: the queue is told by the relay."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store says what is missing."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: every launch is fresh."""


class _Judge(tune.Stopper):  # type: ignore[misc]  # ray is untyped
    """The queue as Tune asks it, at each epoch, whether a trial is to stop."""

    def __init__(self, queue: TrialQueue[Any]):
        self._queue = queue

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: Any) -> bool:
        if "epoch" not in result or result.get("done"):  # the last one comes again when the trial has ended
            return False
        return not self._queue.epoch(result["config"]["key"], EpochRecord(**result["epoch"]))

    def stop_all(self) -> bool:
        return False


class _Relay(tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Tune's events as the queue's."""

    def __init__(self, queue: TrialQueue[Any]):
        self._queue = queue

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._queue.started(trial.config["key"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._queue.ended(trial.config["key"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        cause = _error_text(trial)
        kind: FailureKind = "out-of-memory" if "OutOfMemoryError" in cause else "worker-lost"
        self._queue.lost(trial.config["key"], kind, cause, _host(trial))


def _host(trial: Any) -> str:
    """Where a trial ran last, as far as Tune knows."""
    return str((trial.last_result or {}).get("hostname", socket.gethostname()))


def _first_sentence(error: Exception) -> str:
    return str(error).split(". ")[0].splitlines()[0].rstrip(".")


def _last_sentence(error: Exception) -> str:
    """Of what happened on another machine: its traceback ends with what matters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _error_text(trial: Any) -> str:
    path = Path(trial.error_file) if trial.error_file else None
    text = path.read_text() if path and path.exists() else "its worker process was lost"
    return text.partition(" Some common causes")[0]
