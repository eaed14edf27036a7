"""A launch: one fresh Tune experiment, fed by the queue. Tune schedules; the store remembers.

Tune's own snapshot, restore, checkpoints and result files are not used: what a trial needs to continue is in the store.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

import sweep.cluster  # noqa: F401  # before Ray

# isort: split
import ray
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.search import Searcher

from data.cache import place
from data.corpus import Corpus, CorpusConfig
from model import host
from sweep.claims import Launch
from sweep.ending import ended_in_good_order
from sweep.groups import Groups, ShareOf
from sweep.placing import Placing
from sweep.queue import TrialQueue
from sweep.record import EpochRecord, FailureKind
from sweep.resources import Cluster
from sweep.store import TrialStore
from sweep.together import Told, together
from sweep.weight import Corpora
from sweep.work import Assignment, Work, train

# Tune hands a bucket's credentials to its workers in a way that Ray writes down, in a log that every user of a node can
# read. A node has its own, as `check_nodes` finds out; on this machine the workers have this process's environment.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"}
)

# What Tune has to say of a trial that failed or was lost, our queue says in one line.
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def launch(
    queue: TrialQueue[Any],
    store: TrialStore,
    corpora: Corpora,
    where: Cluster,
    this: Launch,
    grace_seconds: float,
    work: Work = train,
    share_of: ShareOf | None = None,
) -> None:
    """Work through a queue on the cluster; returns when nothing runs any more. What came of it is in the store.

    Ctrl-C, SIGTERM or a request to stop ends it in good order: no trial is started, and those that run have
    `grace_seconds` to leave a checkpoint. A second signal ends it at once.
    corpora: of all that is in the queue, loaded; the nodes of a cluster that was joined get them from here.
    share_of: that of unmeasured trials by default.
    """

    groups = Groups(queue, where, share_of or (lambda keys: where.share_together([None for _ in keys])))

    def assignments() -> Mapping[str, Any] | None:
        """What a worker is given to do, if anything is to be done now."""
        found = groups.next()
        if found is None:
            return None
        trials, share = found
        return {
            # Absolute paths: a worker may have another working directory.
            "results": str(store.files),
            "corpora": str(corpora.folder.absolute()),
            "launch": this.id,
            "threads": where.resources.threads,
            "graphs": where.resources.graphs,
            "share": asdict(share),
            "keys": [trial.key for trial in trials],
            # As text: their values Tune would copy, flatten and keep, several times for each trial.
            "configs": json.dumps([trial.config for trial in trials]),
        }

    placing, running = Placing(queue.say), dict[str, list[str]]()
    # So many wait besides those that run, so that a node that joins finds work, however many join. A limit on all that
    # are under way would be that of the cluster as it was at first.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(3 * where.most_slots)
    with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(
                _on_a_worker(work, corpora.loaded if where.is_joined else {}), lambda assigned: assigned["share"]
            ),
            tune_config=tune.TuneConfig(
                search_alg=_Handout(queue, this, placing, assignments),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.config["keys"][0][:12],
                trial_dirname_creator=lambda trial: f"{trial.config['keys'][0][:12]}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                verbose=0,
                # A lost worker is our queue's to retry, with its back-off.
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[_Relay(queue, placing, running)],
                stop=_Judge(queue, running),
            ),
        )
        # SIGUSR1 is Tune's own way to end; its and Ray's handlers of the others lose the exit code.
        end = ended_in_good_order(this, grace_seconds, queue.say, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        with end, open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            tuner.fit()


def _on_a_worker(work: Work, corpora: Mapping[CorpusConfig, Corpus]) -> Callable[[Mapping[str, Any]], None]:
    """Work as Tune has it done. corpora: for nodes that may have none."""

    def trainable(assigned: Mapping[str, Any], shipped: Mapping[CorpusConfig, Corpus]) -> None:
        device = "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
        common = {name: value for name, value in assigned.items() if name not in ("keys", "configs")}
        if shipped:
            common["corpora"] = str(place(shipped))
        jobs = zip(assigned["keys"], json.loads(assigned["configs"]), strict=True)
        assignments = [Assignment(key=key, config=config, **common) for key, config in jobs]
        if len(assignments) == 1:
            # A report does not come back from an epoch after which it is not to go on.
            work(assignments[0], device, lambda record: tune.report(_told(Told(assignments[0].key, record))))
        else:
            for told in together(assignments, device, work):
                tune.report(_told(told))
        if device == "cuda":
            host.empty_gpu_memory()  # what comes next may be another process's

    # By Ray's store of objects, which takes them to a node once, however many workers are there.
    return cast(Callable[[Mapping[str, Any]], None], tune.with_parameters(trainable, shipped=dict(corpora)))


def _told(told: Told) -> dict[str, Any]:
    """As Tune passes it on."""
    return {"told": asdict(told)}


class _Handout(Searcher):  # type: ignore[misc]  # ray is untyped
    """The queue as Tune sees it: a search algorithm that suggests each waiting trial once."""

    def __init__(
        self,
        queue: TrialQueue[Any],
        this: Launch,
        placing: Placing,
        assignments: Callable[[], Mapping[str, Any] | None],
    ):
        super().__init__()
        self._queue = queue
        self._this = this
        self._placing = placing
        self._assignments = assignments

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher for a restore that is never made; the queue's observers hold threads.
        return {}

    def suggest(self, trial_id: str) -> Any:
        if self._this.stop.is_set() or self._queue.is_over:
            return Searcher.FINISHED
        found = self._assignments()
        if found is not None:
            self._placing.handed_out(found["keys"][0])
        return found

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing to learn here: the queue is told by the relay."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store says what is missing."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: every launch is fresh."""


class _Judge(tune.Stopper):  # type: ignore[misc]  # ray is untyped
    """The queue as Tune asks it, at each epoch, whether a trial is to stop. Those that share a process go on.

    running: of each worker, by the id of its trial of Tune's, the keys of those that have not ended.
    """

    def __init__(self, queue: TrialQueue[Any], running: dict[str, list[str]]):
        self._queue = queue
        self._running = running

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: Any) -> bool:
        if "told" not in result or result.get("done"):  # the last one comes again when the worker has ended
            return False
        key, epoch, cause = (result["told"][name] for name in ("key", "epoch", "cause"))
        if epoch is not None:
            return not self._queue.epoch(key, EpochRecord(**epoch)) and len(result["config"]["keys"]) == 1
        self._running[trial_id].remove(key)
        if cause:
            self._queue.lost(key, _kind(cause), cause, str(result["hostname"]))
        else:
            self._queue.ended(key)
        return False

    def stop_all(self) -> bool:
        return False


class _Relay(tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Tune's events as the queue's. running: as the judge has it."""

    def __init__(self, queue: TrialQueue[Any], placing: Placing, running: dict[str, list[str]]):
        self._queue = queue
        self._placing = placing
        self._running = running

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._placing.look()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._placing.started(trial.config["keys"][0])
        self._running[trial.trial_id] = list(trial.config["keys"])
        for key in trial.config["keys"]:
            self._queue.started(key)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for key in self._leave(trial):
            self._queue.ended(key)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        cause = _error_text(trial)
        for key in self._leave(trial):
            self._queue.lost(key, _kind(cause), cause, _host(trial))

    def _leave(self, trial: Any) -> list[str]:
        """Its keys that have not ended by themselves."""
        self._placing.left(trial.config["keys"][0])
        return self._running.pop(trial.trial_id, trial.config["keys"])


def _kind(cause: str) -> FailureKind:
    return "out-of-memory" if "OutOfMemoryError" in cause else "worker-lost"


def _host(trial: Any) -> str:
    """Where a trial ran last, as far as Tune knows."""
    return str((trial.last_result or {}).get("hostname", socket.gethostname()))


def _error_text(trial: Any) -> str:
    path = Path(trial.error_file) if trial.error_file else None
    text = path.read_text() if path and path.exists() else "its worker process was lost"
    return text.partition(" Some common causes")[0]
