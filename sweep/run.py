"""A sweep from its plan to its tables: train what is missing, mirror it, write the tables."""

import json
import math
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from sweep.claims import Launch
from sweep.exits import DONE, INTERRUPTED, SOME_FAILED
from sweep.layout import Table
from sweep.measures import columns_of
from sweep.mirror import Mirror
from sweep.nodes import check_nodes
from sweep.notify import notified
from sweep.packing import probe_shapes
from sweep.places import local_folder
from sweep.plan import Plan, brief_results_of, count_states, evaluations_of
from sweep.points import searched
from sweep.progress import Progress, of_training
from sweep.queue import TrialQueue
from sweep.record import State, SweepRecord, TrialResult, WantedTrial
from sweep.render import FORMATS, render
from sweep.resources import Cluster, Resources, Share
from sweep.roles import Observer
from sweep.store import TrialStore
from sweep.table import comparison_tables

if TYPE_CHECKING:
    from sweep.search_source import Search

HURRY = 15.0
"""Seconds that MLflow has when the launch was asked to stop; what it then lacks is written by the next one."""
TEXT_TABLE = "table.txt"
MIRROR = "mirror.json"
"""Of a sweep in the store: how far MLflow was behind when the sweep last ended."""


@dataclass(frozen=True)
class RunOptions:
    """Facts of the host, none of them part of a trial. address: of a Ray cluster, or None for this machine alone.

    search_storage: URL of Optuna's, where it is not the database beside the trials.
    """

    corpora: Path
    tracking_uri: str | None
    address: str | None = None
    num_cpus: int | None = None
    search_storage: str | None = None


def run(
    plan: Plan,
    store: TrialStore,
    states: Mapping[str, State],
    options: RunOptions,
    console: Console,
    only: Collection[str] | None = None,
    from_scratch: bool = False,
) -> int:
    """Train what is missing of a plan, keep the mirror and the tables current, and return the exit code.

    states: of the plan's trials. only: keys to which the launch is limited; all by default. from_scratch: forget how
    far those had come.
    Raises ValueError, before anything is written, when the results folder or the cluster cannot be used, or when
    another process drives this sweep.
    """
    store.check_writable()
    store.check_free(plan.record.name)
    search = _search(plan, store, options, only, console)
    if search is not None:
        plan = replace(plan, record=search.record)
        states = store.states(plan.record.wanted)
    record, fields = plan.record, plan.fields
    missing = [trial for trial in plan.missing(states) if only is None or trial.key in only]
    is_over = not missing and (search is None or search.is_over)
    uri = options.tracking_uri
    mirror = None if uri is None else Mirror(uri, record, store)
    with (
        nullcontext() if is_over else notified(fields.notify, record.name, partial(_warn, console)) as notifier,
        nullcontext() if is_over else open_cluster(fields.resources, options, store, console) as where,
        Launch(store.launches, record.name, mirror.news if mirror else dict) as this,
    ):
        store.lead(record.name, this)
        store.record(record)
        if from_scratch:
            store.forget(trial.key for trial in missing)
        done = [key for key, state in states.items() if state == "done"]
        opening = threading.Thread(
            target=open_mirror, args=(mirror, plan.record, store, done, console), name="open-mirror"
        )
        opening.start()
        observers = [each for each in (mirror, notifier) if each is not None]
        try:
            if where is not None:
                _train(plan, missing, search, store, where, this, console, observers)
        finally:
            opening.join()
            if search is not None:
                record = search.record
                store.record(record)
            tables = write_tables(record, store)
            close_mirror(mirror, record, store, tables, HURRY if this.stop.is_set() else math.inf, console)
        code = exit_code(record, store) if search is None or search.is_complete else INTERRUPTED
        if notifier is not None and code != INTERRUPTED:
            counts = count_states(store.states(record.wanted))
            notifier.ended(code, f"{counts['done']} trials done, {counts['failed']} failed")
    return code


@contextmanager
def open_cluster(resources: Resources, options: RunOptions, store: TrialStore, console: Console) -> Iterator[Cluster]:
    """Join or start a cluster. Raises ValueError when it cannot be used, or one of its nodes cannot."""
    # Ray takes seconds to import, which a sweep that is done need not pay.
    from sweep.cluster import cluster

    with cluster(resources, options.address, options.num_cpus, partial(_warn, console)) as where:
        if options.address is not None:
            check_nodes(store)
        yield where


def _search(
    plan: Plan, store: TrialStore, options: RunOptions, only: Collection[str] | None, console: Console
) -> "Search | None":
    if not plan.record.studies:
        return None
    # Optuna takes a second to import, which a grid need not pay.
    from sweep.search_source import Search

    url = options.search_storage or default_storage(store.location)
    return Search(plan, store, url, only, lambda sentence: _warn(console, sentence))


def default_storage(results: str | Path) -> str:
    """Optuna's database beside the trials, its folder made. Raises ValueError where no database can be."""
    folder = local_folder(results)
    if folder is None:
        raise ValueError(
            f"results at {results} leave no place for Optuna's database; say where one is with --search-storage"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'optuna.db'}"


def open_mirror(
    mirror: Mirror | None, record: SweepRecord, store: TrialStore, done: Iterable[str], console: Console
) -> None:
    """Open the mirror while the work starts, and give it what earlier launches finished, of `done` trials."""
    if mirror is None:
        return
    _warn(console, mirror.open())
    try:
        others = {trial.key: trial for _, trial in searched(store, record)}
        for key, result in store.brief_results([*done, *others]).items():
            mirror.finished(record.wanted.get(key) or others[key], result, can_wait=True)
        for key, evaluation in evaluations_of(record, store).items():
            mirror.evaluated(record.wanted[key], evaluation)
    except (ValueError, OSError) as error:
        _warn(console, str(error))


def close_mirror(
    mirror: Mirror | None,
    record: SweepRecord,
    store: TrialStore,
    tables: Sequence[str],
    within: float,
    console: Console,
) -> None:
    """Have the mirror write what is left, for so many seconds, and keep how far behind it is then."""
    if mirror is not None:
        _warn(console, mirror.close(tables, within, record.trials))
        store.sweep(record.name).publish(MIRROR, json.dumps(mirror.news()).encode())


def _train(
    plan: Plan,
    missing: Sequence[WantedTrial],
    search: "Search | None",
    store: TrialStore,
    where: Cluster,
    this: Launch,
    console: Console,
    others: Sequence[Observer[TrialResult]],
) -> None:
    from sweep.launch import launch

    fields, more = plan.fields, search.num_to_come if search else 0
    if fields.resources.probe:
        studies = plan.record.studies if more else ()
        probe_shapes(plan, missing, studies, store, where, this, console)
        if this.stop.is_set():
            return
    if fields.search is not None and (most := fields.search.at_once * len(plan.record.studies)) < where.slots:
        _warn(
            console,
            f"searches have at most {most} suggestions under way, for {where.slots} slots; raise search.at_once",
        )
    trials = plan.longest_first(missing)
    with Progress(trials, plan.costs, console, of_training, more) as progress:
        observers = [progress, *others]
        queue = TrialQueue(trials, store, fields.retry, observers, this.id, plan.bytes_needed, search)

        def share_of(keys: Sequence[str]) -> Share | None:
            return where.share_together([plan.costs.probe(key) for key in keys])

        launch(queue, store, plan.corpora, where, this, fields.grace_seconds, share_of=share_of)


def tables_of(
    record: SweepRecord,
    store: TrialStore,
    done: Mapping[str, TrialResult],
    columns: str = "paper",
    paper: bool = False,
) -> list[Table]:
    """The sweep's comparison tables from all that the store has of it. done: results by key. columns: as typed."""
    states = store.states(key for key in record.wanted if key not in done)
    failed = [key for key, state in states.items() if state == "failed"]
    evaluations = evaluations_of(record, store)
    return comparison_tables(record, done, evaluations, paper=paper, columns=columns_of(columns), failed=failed)


def write_tables(record: SweepRecord, store: TrialStore) -> list[str]:
    """The sweep's comparison tables in every format, in its folder of the store; their names."""
    tables = tables_of(record, store, brief_results_of(record, store))
    names = []
    for form in FORMATS:
        names.append(TEXT_TABLE if form == "text" else f"table.{form}")
        store.sweep(record.name).publish(names[-1], render(tables, form).encode())
    return names


def exit_code(record: SweepRecord, store: TrialStore) -> int:
    """What became of the sweep, by the store."""
    counts = count_states(store.states(record.wanted))
    if counts["started"] or counts["missing"]:
        return INTERRUPTED
    return SOME_FAILED if counts["failed"] else DONE


def _warn(console: Console, sentence: str | None) -> None:
    if sentence:
        console.print(f"warning: {sentence}", style="yellow", markup=False, soft_wrap=True)
