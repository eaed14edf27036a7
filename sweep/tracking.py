"""The only importer of MLflow: a sweep as an MLflow experiment, one flat run a trial. Blocks and raises; see mirror.py.

Every method may be called again with the same arguments, in this process or a later one, and then adds nothing.
"""

import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from data.files import Files, LocalFiles
from sweep import mlflow_values as values
from sweep.evaluation import Evaluation
from sweep.mirror import in_one_line
from sweep.mlflow_ui import chart_views
from sweep.places import local_folder
from sweep.plan import evaluations_of
from sweep.points import searched
from sweep.record import EpochRecord, SweepRecord, TrialFailure, TrialResult, WantedTrial
from sweep.store import TrialStore

# Read by MLflow when it is imported, or at its first request. With MLflow's own settings, a server that is down
# holds each request for four minutes.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
# Whatever the user's is: a request whose answer was lost, sent once more unseen, makes a second run.
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"

import mlflow  # noqa: E402
from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag  # noqa: E402
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: E402
from sqlalchemy.engine import make_url  # noqa: E402

for _logger, _level in {"mlflow": logging.WARNING, "alembic": logging.WARNING, "urllib3": logging.ERROR}.items():
    logging.getLogger(_logger).setLevel(_level)

KEY, SUMMARY, SUMMARY_OF, FAILURE = "sweep.trial_key", "sweep.summary", "sweep.summary_of", "failure"
PRUNED = "sweep.pruned"
ARTIFACTS = ("config.json", "result.json", "weights.safetensors")
MAX_ENTITIES, MAX_PARAMS = 1000, 100
"""What MLflow takes in one call: metrics, params and tags together, and params."""
AT_A_TIME = 200
"""Results that are in memory at once with their histories."""
_Key = TypeVar("_Key")
_Item = TypeVar("_Item")


@dataclass
class _Run:
    """A run as far as this process knows it. artifacts: where they are kept.

    steps: epochs that it has; None when that was not asked yet.
    """

    run_id: str
    status: str
    artifacts: str
    params: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    steps: set[int] | None = None


class Experiment:
    """The experiment of a sweep, created when there is none. Only one process may write it at a time.

    What its artifacts are made of is read from `store`, beside which a database that this process opens keeps them.
    """

    def __init__(self, uri: str, record: SweepRecord, store: TrialStore):
        _create_database(uri)
        self._uri = uri
        self._client = mlflow.MlflowClient(uri)
        self._record = record
        self._store = store
        self._id = self._find_or_create(_artifacts(uri, store))
        self._is_in_doubt = False  # whether MLflow may have made a run without our getting its answer
        self._trials: dict[str, _Run] = {}
        self._summaries: dict[tuple[str, str], _Run] = {}
        self._under_way: set[str] = set()
        # A sweep has one driver, so whatever runs by MLflow is of one that died.
        for run in map(self._remember, _all_runs(self._client, self._id)):
            if run.status == "RUNNING":
                self._client.set_terminated(run.run_id, "KILLED")
                run.status = "KILLED"

    def start(self, trial: WantedTrial) -> None:
        """Show the trial as running, in the run that it has or in a new one."""
        run = self._run(trial, _now())
        self._log(run, trial)
        self._under_way.add(trial.key)
        if run.status != "RUNNING":
            self._client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"
        self._forget_end(run)

    def epoch(self, trial: WantedTrial, record: EpochRecord) -> None:
        self.start(trial)
        self._log(self._trials[trial.key], trial, [record])

    def finish(self, trial: WantedTrial, result: TrialResult) -> None:
        """Complete the run: whole history, metrics of the best epoch, corpus, artifacts; its status comes last.

        result: a brief one will do.
        """
        run = self._run(trial, _milliseconds(result.started))
        if run.status == "FINISHED":
            self._log(run, trial)
            return
        result = result if result.history else self._store.result(trial.key)
        self._forget_end(run)
        tags = {"best_epoch": str(result.best_epoch), **{f"on.{k}": v for k, v in result.environment.items()}}
        final = _points(values.final_metrics(result), result.finished, result.best_epoch)
        self._log(run, trial, result.history, final, tags)
        self._client.log_inputs(run.run_id, [_corpus(result.corpus)])
        self._keep(run, {name: self._store.trial(trial.key) for name in ARTIFACTS})
        self._end(trial.key, "FINISHED", _milliseconds(result.finished))

    def measure(self, trial: WantedTrial, evaluation: Evaluation) -> None:
        """Add what was measured of a trial after its training to its run, with the settings of that as tags."""
        run = self._run(trial, _milliseconds(evaluation.finished))
        self._log(run, trial)
        # MLflow cannot take a metric back: what the settings of before gave and these do not becomes "not a number".
        before = [name for name in run.metrics if name.startswith(values.LATER_PREFIX)]
        found = {**dict.fromkeys(before, math.nan), **values.measured_metrics(evaluation)}
        # As text: what is not a number is equal to nothing.
        changed = {name: value for name, value in found.items() if repr(value) != repr(run.metrics.get(name))}
        tags = {f"evaluation.{name}": str(value) for name, value in evaluation.settings.items()}
        new = [RunTag(name, value) for name, value in tags.items() if run.tags.get(name) != value]
        for some in _slices(list(changed), MAX_ENTITIES):
            # Of one step; a correction needs a later time, or MLflow goes on showing the larger of the two.
            at = time.time() if any(name in run.metrics for name in some) else evaluation.finished
            self._client.log_batch(run.run_id, metrics=_points({name: changed[name] for name in some}, at, step=0))
        if new:
            self._client.log_batch(run.run_id, tags=new)
        run.metrics, run.tags = {**run.metrics, **found}, {**run.tags, **tags}

    def keep_readings(self, trial: WantedTrial, names: Iterable[str]) -> None:
        """Files of a done trial's folder as artifacts of its own run; one of the same name is replaced."""
        run = self._run(trial, _now())
        self._log(run, trial)
        self._keep(run, dict.fromkeys(names, self._store.trial(trial.key)))
        if run.status == "RUNNING":  # it had none: the rest of it comes with the next sync
            self._end(trial.key, "KILLED", _now())

    def fail(self, trial: WantedTrial, failure: TrialFailure) -> None:
        run = self._run(trial, _milliseconds(failure.timestamp))
        self._log(run, trial)
        text = f"{failure.kind}: {failure.message}"[:5000]
        if run.status == "FAILED" and run.tags.get(FAILURE) == text:
            return
        self._client.set_tag(run.run_id, FAILURE, text)
        run.tags[FAILURE] = text
        self._end(trial.key, "FAILED", _milliseconds(failure.timestamp))

    def prune(self, trial: WantedTrial) -> None:
        """Mark the run of a trial of which a search has seen enough."""
        run = self._run(trial, _now())
        self._log(run, trial)
        if PRUNED not in run.tags:
            self._client.set_tag(run.run_id, PRUNED, "yes")
            run.tags[PRUNED] = "yes"
        if run.status == "RUNNING":
            self._end(trial.key, "KILLED", _now())

    def kill(self) -> None:
        """Mark the runs that were started here and have not ended."""
        for key in list(self._under_way):
            self._end(key, "KILLED", _now())

    def sync(self, names: Iterable[str]) -> None:
        """Make the experiment what a mirror that was never away would have made it, from the store alone.

        names: see `keep`.
        """
        suggested = searched(self._store, self._record)
        wanted = self._record.wanted | {trial.key: trial for _, trial in reversed(suggested)}
        results: dict[str, TrialResult] = {}
        for some in _slices(list(wanted), AT_A_TIME):
            found = self._store.results(some)
            for key in some:
                self._sync_trial(wanted[key], found.get(key))
            # The histories of thousands would be most of what this process holds.
            results |= {key: replace(result, history=()) for key, result in found.items()}
        evaluations = evaluations_of(self._record, self._store)
        for key in [key for key in evaluations if key in results]:
            self.measure(wanted[key], evaluations[key])
        tests = {key: values.metrics_of_test(result) for key, result in results.items()}
        measured = {key: values.measured_metrics(evaluation) for key, evaluation in evaluations.items()}
        for point, trial in suggested:
            is_pruned = point.outcome is not None and point.outcome.state == "pruned"
            if is_pruned and trial.key in self._trials and trial.key not in results:
                self.prune(trial)
        ends = [result.finished for result in results.values()] + [each.finished for each in evaluations.values()]
        self.summarise(self._record.trials, tests, measured, max(ends, default=0.0))
        self.keep(names)

    def _sync_trial(self, trial: WantedTrial, result: TrialResult | None) -> None:
        """result: None of one that is not done."""
        key = trial.key
        if result is not None:
            self.finish(trial, result)
            if readings := self._store.readings(key):
                self.keep_readings(trial, readings)
        elif (state := self._store.state(key)) != "missing":
            history = [EpochRecord(**record) for record in self._store.progress(key).get("history", ())]
            run = self._run(trial, _milliseconds(history[0].timestamp) if history else _now())
            self._log(run, trial, history)
            if state == "failed":
                self.fail(trial, self._store.failure(key))
            else:
                self._end(key, "KILLED", _milliseconds(history[-1].timestamp) if history else _now())

    def summarise(
        self,
        trials: Iterable[WantedTrial],
        tests: Mapping[str, Mapping[str, float]],
        measured: Mapping[str, Mapping[str, float]],
        finished: float,
    ) -> None:
        """One run a cell of `trials` with mean, sample standard deviation and n of the test metrics.

        tests, measured: metrics by trial key. finished: when the last of them was, in Unix seconds.
        """
        for cell, wanted in values.summaries(trials, tests, measured).items():
            run = self._summary("cell", cell, f"summary: {cell}")
            # MLflow cannot take a metric back: a deviation that lost its second seed becomes "not a number".
            wanted = {**dict.fromkeys(run.metrics, math.nan), **wanted}
            changed = {name: value for name, value in wanted.items() if repr(value) != repr(run.metrics.get(name))}
            # A correction needs a later time than what it corrects, or MLflow goes on showing the larger of the two.
            at = time.time() if run.metrics else finished
            self._client.log_batch(run.run_id, metrics=_points(changed, at, step=0))
            run.metrics = wanted

    def keep(self, names: Iterable[str]) -> None:
        """The sweep's own run, with files of the sweep as its artifacts; one of the same name is replaced.

        names: of tables and figures in the sweep's folder of the store; what is in a folder there is in one here.
        """
        run = self._summary("sweep", "", f"tables: {self._record.name}")
        self._keep(run, dict.fromkeys(names, self._store.sweep(self._record.name)))

    def _keep(self, run: _Run, files: Mapping[str, Files]) -> None:
        """Log files of the store as artifacts of a run; those that are not there are left out."""
        with tempfile.TemporaryDirectory() as scratch:
            for name, source in files.items():
                copy = Path(scratch, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):
                    copy.write_bytes(source.read(name))
            # By the client, each run is asked for where that is.
            get_artifact_repository(run.artifacts, tracking_uri=self._uri).log_artifacts(scratch)

    def _find_or_create(self, artifact_location: str | None) -> str:
        found = self._client.get_experiment_by_name(self._record.name)
        if found is None:
            identity = str(self._client.create_experiment(self._record.name, artifact_location))
        else:
            identity = str(found.experiment_id)
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(identity)
        for tag, value in chart_views(self._record).items():
            if found is None or found.tags.get(tag) != value:
                self._client.set_experiment_tag(identity, tag, value)
        return identity

    def _remember(self, run: Any) -> _Run:
        """A run as MLflow has it; of two that are of one trial, the older one is taken for it."""
        found = _Run(
            run.info.run_id, run.info.status, run.info.artifact_uri,
            set(run.data.params), run.data.tags, run.data.metrics,
        )  # fmt: skip
        if KEY in found.tags:
            self._trials.setdefault(found.tags[KEY], found)
        elif SUMMARY in found.tags:
            self._summaries.setdefault((found.tags[SUMMARY], found.tags.get(SUMMARY_OF, "")), found)
        return found

    def _create(self, runs: dict[_Key, _Run], key: _Key, started: int, tags: Mapping[str, str], name: str) -> None:
        """Put the run of a key into `runs`: a new one, or that of an earlier call whose answer was lost."""
        if self._is_in_doubt:
            for run in _all_runs(self._client, self._id):
                self._remember(run)
        if key not in runs:
            self._is_in_doubt = True
            created = self._client.create_run(self._id, started, {**tags, "sweep.name": self._record.name}, name)
            runs[key] = _Run(created.info.run_id, "RUNNING", created.info.artifact_uri, steps=set())
        self._is_in_doubt = False

    def _run(self, trial: WantedTrial, started: int) -> _Run:
        """The trial's one run, created when there is none."""
        if trial.key not in self._trials:
            self._create(self._trials, trial.key, started, {**values.labels(trial), KEY: trial.key}, trial.name)
            self._under_way.add(trial.key)
        return self._trials[trial.key]

    def _log(
        self,
        run: _Run,
        trial: WantedTrial,
        records: Sequence[EpochRecord] = (),
        final: Sequence[Any] = (),
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Params and epochs that the run does not have yet, then final metrics and tags, in few calls."""
        if records and run.steps is None:
            run.steps = {point.step for point in self._client.get_metric_history(run.run_id, values.EVERY_EPOCH)}
        params = {name: text for name, text in values.flat(trial.config).items() if name not in run.params}
        *earlier, last = list(_slices(list(params), MAX_PARAMS)) or [[]]
        for some in earlier:
            self._client.log_batch(run.run_id, params=[Param(name, params[name]) for name in some])
        missing = [record for record in records if record.epoch not in (run.steps or ())]
        epochs = [_points(values.epoch_metrics(record), record.timestamp, record.epoch) for record in missing]
        # Whole epochs in a call: a call is stored or not as one, so a step that is there is there in every metric.
        calls: list[list[Any]] = [[]]
        for points in (*epochs, final):
            if len(calls[-1]) + len(points) > MAX_ENTITIES - MAX_PARAMS - len(tags):
                calls.append([])
            calls[-1].extend(points)
        for number, points in enumerate(calls):
            self._client.log_batch(
                run.run_id,
                metrics=points,
                params=[Param(name, params[name]) for name in last] if number == 0 else (),
                tags=[RunTag(name, value) for name, value in tags.items()] if number == len(calls) - 1 else (),
            )
        run.params.update(params)
        run.steps = (run.steps or set()) | {record.epoch for record in missing} if records else run.steps

    def _forget_end(self, run: _Run) -> None:
        """It goes on: that it had failed, or was pruned, is no more true."""
        for tag in {FAILURE, PRUNED} & run.tags.keys():
            self._client.delete_tag(run.run_id, tag)
            del run.tags[tag]

    def _end(self, key: str, status: str, ended: int) -> None:
        self._client.set_terminated(self._trials[key].run_id, status, ended)
        self._trials[key].status = status
        self._under_way.discard(key)

    def _summary(self, kind: str, of: str, name: str) -> _Run:
        if (kind, of) not in self._summaries:
            tags = {SUMMARY: kind, **({SUMMARY_OF: of} if of else {})}
            self._create(self._summaries, (kind, of), _now(), tags, name)
        run = self._summaries[kind, of]
        if run.status != "FINISHED":
            self._client.set_terminated(run.run_id)
            run.status = "FINISHED"
        return run


def ask(uri: str) -> str | None:
    """Whether MLflow answers: None, or why it does not."""
    try:
        mlflow.MlflowClient(uri).search_experiments(max_results=1)
    # As in the mirror: there is no common class of what MLflow passes on.
    except Exception as error:
        return in_one_line(error, uri)
    return None


def find_runs(uri: str, sweep: str) -> tuple[str, dict[str, str]] | None:
    """Id of the sweep's experiment and the runs of its trials, by key; None when MLflow does not have it."""
    client = mlflow.MlflowClient(uri)
    found = client.get_experiment_by_name(sweep)
    if found is None:
        return None
    runs = _all_runs(client, found.experiment_id)
    return found.experiment_id, {run.data.tags[KEY]: run.info.run_id for run in runs if KEY in run.data.tags}


def _create_database(uri: str) -> None:
    """MLflow makes its tables one by one, and never opens a file again in which a kill left some of them."""
    address = make_url(uri) if uri.startswith("sqlite:") else None
    if address is None or not address.database or address.database == ":memory:" or address.query:
        return
    path = Path(address.database)
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / path.name
            mlflow.MlflowClient(f"sqlite:///{whole}").search_experiments(max_results=1)
            LocalFiles(path.parent).create(path.name, whole.read_bytes())


def _artifacts(uri: str, store: TrialStore) -> str | None:
    """Where a database that this process opens keeps files; None where a server decides that."""
    if uri.startswith(("http://", "https://")):
        return None
    folder = local_folder(store.location)
    return f"{store.location}/artifacts" if folder is None else (folder / "artifacts").as_uri()


def _all_runs(client: Any, experiment: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs(
            [experiment], max_results=1000, order_by=["attributes.start_time ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _points(metrics: Mapping[str, float], timestamp: float, step: int) -> list[Any]:
    return [Metric(name, value, _milliseconds(timestamp), step) for name, value in metrics.items()]


def _corpus(facts: Mapping[str, Any]) -> Any:
    sizes = json.dumps({name: facts[name] for name in ("vocabulary", "sentences", "tokens") if name in facts})
    digest = str(facts["content_hash"])[:36]
    return DatasetInput(Dataset(str(facts["title"]), digest, "local", str(facts["title"]), None, sizes))


def _slices(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _now() -> int:
    return _milliseconds(time.time())
