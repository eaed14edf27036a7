"""An evaluation of a sweep: measure what is not measured yet of its done trials, mirror it, write the tables."""

import json
import math
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from sweep.claims import Launch
from sweep.config import TrialConfig
from sweep.evaluation import Evaluation, EvaluationSettings
from sweep.exits import DONE, INTERRUPTED, SOME_FAILED
from sweep.mirror import Mirror
from sweep.plan import fields_of, results_of
from sweep.progress import Progress, duration
from sweep.queue import TrialQueue
from sweep.record import SweepRecord, TrialResult, WantedTrial
from sweep.resources import Cluster
from sweep.roles import Observer
from sweep.run import HURRY, RunOptions, close_mirror, open_cluster, open_mirror, write_tables
from sweep.store import EvaluationStore, TrialStore
from sweep.weight import Corpora


@dataclass(frozen=True)
class Work:
    """What is to be evaluated. results: of the sweep's done trials. missing: of these, what is not measured yet."""

    record: SweepRecord
    settings: EvaluationSettings
    results: Mapping[str, TrialResult]
    missing: Sequence[WantedTrial]


def plan_evaluation(record: SweepRecord, store: TrialStore, settings: EvaluationSettings) -> Work:
    """The longest first, as far as the trainings tell. Raises ValueError when no trial of the sweep is done."""
    results = results_of(record, store)
    if not results:
        raise ValueError(f"no trial of sweep '{record.name}' is done yet that could be evaluated; run it first")
    states = store.evaluations(settings).states(results)
    left = [trial for key, trial in record.wanted.items() if states.get(key, "done") != "done"]
    costs = {key: result.cost["seconds"] / len(result.history) for key, result in results.items()}
    missing = [
        # Whatever it started from, its weights are there.
        replace(trial, config=settings.model_dump(), after="")
        for trial in sorted(left, key=lambda trial: -costs[trial.key])
    ]
    return Work(record, settings, results, missing)


def evaluate(work: Work, store: TrialStore, options: RunOptions, console: Console) -> int:
    """Measure what is missing, keep the mirror and the tables current, and return the exit code.

    Raises ValueError, before anything is written, when the results folder, a corpus or the cluster cannot be used, or
    when another process drives this sweep.
    """
    record, fields = work.record, fields_of(work.record)
    store.check_writable()
    corpora = _corpora_of(work, options.corpora)
    store.check_free(record.name)
    mirror = None if options.tracking_uri is None else Mirror(options.tracking_uri, record, store)
    with (
        open_cluster(fields.resources, options, store, console) if work.missing else nullcontext() as where,
        Launch(store.launches, record.name, mirror.news if mirror else dict) as this,
    ):
        store.lead(record.name, this)
        store.keep_settings(record.name, work.settings)
        opening = threading.Thread(
            target=open_mirror, args=(mirror, record, store, work.results, console), name="open-mirror"
        )
        opening.start()
        try:
            if where is not None:
                _measure(work, store, corpora, where, this, console, mirror)
        finally:
            opening.join()
            tables = write_tables(record, store)
            within = HURRY if this.stop.is_set() else math.inf
            close_mirror(mirror, record, store, tables, within, console)
    return exit_code(work, store.evaluations(work.settings))


def _corpora_of(work: Work, folder: Path) -> Corpora:
    """Those that the trials to be measured were trained on."""
    corpora = Corpora(folder)
    results = (work.results[trial.key] for trial in work.missing)
    for config in {json.dumps(result.config["data"]): result.config for result in results}.values():
        corpora(TrialConfig.parse(config).data)
    return corpora


def _measure(
    work: Work,
    store: TrialStore,
    corpora: Corpora,
    where: Cluster,
    this: Launch,
    console: Console,
    mirror: Mirror | None,
) -> None:
    from sweep.launch import launch
    from sweep.work import evaluate

    fields = fields_of(work.record)
    costs = {trial.key: work.results[trial.key].cost["seconds"] for trial in work.missing}
    evaluations = store.evaluations(work.settings)
    with Progress(work.missing, costs, console, _described) as progress:
        observers: list[Observer[Evaluation]] = [progress, *([_Relay(mirror, work.record)] if mirror else [])]
        queue = TrialQueue(work.missing, evaluations, fields.retry, observers, this.id, lambda key: BYTES_NEEDED)
        launch(queue, store, corpora, where, this, fields.grace_seconds, evaluate)


BYTES_NEEDED = 2**20
"""Of the store for an evaluation: its numbers by sentence, twice."""


def _described(evaluation: Evaluation) -> str:
    test = evaluation.test
    weighted = f", IW {test['iw_strict']:.2f}" if "iw_strict" in test else ""
    return f"strict {test['nelbo_strict']:.2f} nats{weighted}, {duration(evaluation.cost['seconds'])}"


class _Relay:
    """What of an evaluation MLflow is told: what it found. Its run of the trial is over, and stays as it is."""

    def __init__(self, mirror: Mirror, record: SweepRecord):
        self._mirror = mirror
        self._wanted = record.wanted

    def started(self, trial: WantedTrial) -> None:
        """The run does not go on."""

    def epoch(self, trial: WantedTrial, record: object) -> None:
        """There is none."""

    def finished(self, trial: WantedTrial, result: Evaluation) -> None:
        self._mirror.evaluated(self._wanted[trial.key], result)

    def failed(self, trial: WantedTrial, failure: object) -> None:
        """That an evaluation failed does not make the trial a failed one."""

    def returned(self, trial: WantedTrial) -> None:
        """The run never left."""

    def pruned(self, trial: WantedTrial) -> None:
        """No search looks on."""

    def said(self, sentence: str) -> None:
        """Nothing that MLflow has a place for."""


def exit_code(work: Work, evaluations: EvaluationStore) -> int:
    """What became of the evaluation, by the store."""
    states = set(evaluations.states(work.results).values())
    if states & {"started", "missing"}:
        return INTERRUPTED
    return SOME_FAILED if "failed" in states else DONE
