"""The only importer of Ray: one fresh Tune experiment a launch, fed by the queue. Tune schedules; the store remembers.

Tune's own snapshot, restore, checkpoints and result files are not used: what a trial needs to continue is in the store.
"""

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from sweep.config import TrialConfig
from sweep.queue import TrialQueue
from sweep.record import EpochRecord, TrialFailure, TrialResult, WantedTrial
from sweep.spec import Resources
from sweep.store import SupersededError, TrialStore
from sweep.trial import TrialFailedError, run_trial

# Read by Ray when it is imported.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

WORKER_RETRIES = 3
"""How often a trial whose worker was lost starts again, from its checkpoint, within one launch."""


class Observer(Protocol):
    """Whoever watches a launch. Called from Tune's loop: it must neither block nor raise."""

    def started(self, trial: WantedTrial) -> None: ...
    def epoch(self, trial: WantedTrial, record: EpochRecord) -> None: ...
    def finished(self, trial: WantedTrial, result: TrialResult) -> None: ...
    def failed(self, trial: WantedTrial, failure: TrialFailure) -> None: ...


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process has joined, with the share of it that one trial takes."""

    cpu: float
    gpu: float
    slots: int


@contextlib.contextmanager
def cluster(resources: Resources, address: str | None = None, num_cpus: int | None = None) -> Iterator[Cluster]:
    """Join the cluster at `address`, or start one on this machine's loopback that ends with the context.

    Raises ValueError when a trial's resources fit nowhere in it, or when the address does not answer.
    """
    if address is None:
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
    try:
        yield _fit_resources(resources)
    finally:
        ray.shutdown()


def _fit_resources(resources: Resources) -> Cluster:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_gpu = any(node.get("GPU", 0) > 0 for node in nodes)
    gpu = float(has_gpu) if resources.gpu == "auto" else resources.gpu
    slots = 0
    for node in nodes:
        by_cpu = node.get("CPU", 0.0) / resources.cpu
        by_gpu = node.get("GPU", 0.0) / gpu if gpu else by_cpu
        slots += int(min(by_cpu, by_gpu))
    if slots == 0:
        most = {kind: max((node.get(kind, 0.0) for node in nodes), default=0.0) for kind in ("CPU", "GPU")}
        raise ValueError(
            f"resources: a trial asks for {resources.cpu:g} CPUs and {gpu:g} GPUs, but the largest node has "
            f"{most['CPU']:g} and {most['GPU']:g}; ask for less with resources.cpu=… or resources.gpu=…"
        )
    return Cluster(resources.cpu, gpu, slots)


def launch(
    trials: Sequence[WantedTrial], store: TrialStore, corpora: Path, where: Cluster, observers: Sequence[Observer]
) -> None:
    """Train the trials in their order on the cluster; returns when none runs any more. Their ends are in the store."""
    scratch = store.root.absolute() / ".ray" / f"launch-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    assignment = {"results": str(store.root.absolute()), "corpora": str(corpora.absolute()), "threads": where.cpu}
    trainable = tune.with_resources(_work, {"cpu": where.cpu, "gpu": where.gpu})
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_Handout(TrialQueue(trials), assignment),
            num_samples=-1,
            # More than run at once, so that a node that joins finds work waiting.
            max_concurrent_trials=4 * where.slots,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config["key"][:12],
            trial_dirname_creator=lambda trial: f"{trial.config['key'][:12]}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
            callbacks=[_Relay({trial.key: trial for trial in trials}, store, observers)],
        ),
    )
    try:
        with _terminated_as_interrupted(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with contextlib.suppress(OSError):
            scratch.parent.rmdir()


def _work(assignment: Mapping[str, Any]) -> None:
    """What a worker does with one trial. A failure that the store has is not raised: Tune would try it again."""
    config = TrialConfig.parse(assignment["config"])
    device = "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
    with contextlib.suppress(TrialFailedError, SupersededError):
        run_trial(
            config,
            TrialStore(Path(assignment["results"])),
            Path(assignment["corpora"]),
            device=device,
            threads=max(1, int(assignment["threads"])),
            on_epoch=lambda record: tune.report({"epoch": asdict(record)}),
        )


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a launch as Ctrl-C does; Ray's own handler would abort the process and lose the exit code."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Handout(Searcher):  # type: ignore[misc]  # ray is untyped
    """The queue as Tune sees it: a search algorithm that suggests each waiting trial once."""

    def __init__(self, queue: TrialQueue, assignment: Mapping[str, Any]):
        super().__init__()
        self._queue = queue
        self._assignment = assignment

    def suggest(self, trial_id: str) -> Any:
        trial = self._queue.next()
        if trial is None:
            return Searcher.FINISHED
        return {**self._assignment, "key": trial.key, "config": dict(trial.config)}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing to learn: the grid does not depend on results."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store says what is missing."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: every launch is fresh."""


class _Relay(tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Tune's events as the observers' events; the end of a trial is read from the store."""

    def __init__(self, trials: Mapping[str, WantedTrial], store: TrialStore, observers: Sequence[Observer]):
        self._trials = trials
        self._store = store
        self._observers = observers

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for a restore that is never made; observers hold threads.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(lambda observer, wanted: observer.started(wanted), trial)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        if "epoch" in result:
            record = EpochRecord(**result["epoch"])
            self._tell(lambda observer, wanted: observer.epoch(wanted, record), trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        key = trial.config["key"]
        match self._store.state(key):
            case "done":
                result = self._store.result(key)
                self._tell(lambda observer, wanted: observer.finished(wanted, result), trial)
            case "failed":
                failure = self._store.failure(key)
                self._tell(lambda observer, wanted: observer.failed(wanted, failure), trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        wanted = self._trials[trial.config["key"]]
        failure = TrialFailure(
            key=wanted.key,
            kind="worker-lost",
            message=f"its worker was lost {WORKER_RETRIES + 1} times; run the same command to continue it",
            traceback=_error_text(trial),
            epoch=0,
            host=socket.gethostname(),
            timestamp=time.time(),
        )
        self._store.begin(wanted.key, wanted.config).fail(failure)
        self._tell(lambda observer, each: observer.failed(each, failure), trial)

    def _tell(self, event: Callable[[Observer, WantedTrial], None], trial: Any) -> None:
        for observer in self._observers:
            event(observer, self._trials[trial.config["key"]])


def _first_sentence(error: Exception) -> str:
    return str(error).split(". ")[0].splitlines()[0].rstrip(".")


def _error_text(trial: Any) -> str:
    path = Path(trial.error_file) if trial.error_file else None
    return path.read_text() if path and path.exists() else ""
