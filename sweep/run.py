"""A sweep from its spec to its tables: plan, train what is missing, mirror it, write the tables."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from sweep.mirror import Mirror
from sweep.plan import Plan, count_states, results_of
from sweep.progress import Progress
from sweep.record import SweepRecord, WantedTrial
from sweep.render import FORMATS, render
from sweep.spec import Resources
from sweep.store import TrialStore, publish
from sweep.table import comparison_tables

if TYPE_CHECKING:
    from sweep.launch import Cluster

DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 3
"""Exit codes: all trials done; some failed; a mistake in what was asked for; stopped, the same command continues."""


@dataclass(frozen=True)
class RunOptions:
    """Facts of the host, none of them part of a trial. address: of a Ray cluster, or None for this machine alone."""

    corpora: Path
    tracking_uri: str | None
    address: str | None = None
    num_cpus: int | None = None


def run(plan: Plan, resources: Resources, store: TrialStore, options: RunOptions, console: Console) -> int:
    """Train what is missing of a plan, keep the mirror and the tables current, and return the exit code.

    Raises ValueError, before anything is written, when the results folder or the cluster cannot be used.
    """
    store.check_writable()
    missing = plan.missing(store)
    with _cluster(resources, options) if missing else nullcontext() as where:
        store.record(plan.record)
        mirror = _open_mirror(plan, store, options, console)
        try:
            if where is not None:
                _train(plan, missing, store, options.corpora, where, console, mirror)
        finally:
            tables = write_tables(plan.record, store)
            if mirror is not None:
                _warn(console, mirror.close(tables))
    return exit_code(plan.record, store)


def _cluster(resources: Resources, options: RunOptions) -> AbstractContextManager["Cluster"]:
    # Ray takes seconds to import, which a sweep that is done need not pay.
    from sweep.launch import cluster

    return cluster(resources, options.address, options.num_cpus)


def _open_mirror(plan: Plan, store: TrialStore, options: RunOptions, console: Console) -> Mirror | None:
    """The mirror, ready before any trial starts, with the trials that earlier launches finished on their way to it."""
    if options.tracking_uri is None:
        return None
    mirror = Mirror(options.tracking_uri, plan.record, store.root.absolute() / "artifacts", store.folder)
    _warn(console, mirror.open())
    for key, result in results_of(plan.record, store).items():
        mirror.finished(plan.wanted[key], result)
    return mirror


def _train(
    plan: Plan,
    missing: Sequence[WantedTrial],
    store: TrialStore,
    corpora: Path,
    where: "Cluster",
    console: Console,
    mirror: Mirror | None,
) -> None:
    from sweep.launch import launch

    with Progress(missing, plan.costs, console) as progress:
        launch(missing, store, corpora, where, [progress, *([mirror] if mirror else [])])


def write_tables(record: SweepRecord, store: TrialStore) -> Sequence[Path]:
    """The sweep's comparison tables in every format, below its folder in the store."""
    tables = comparison_tables(record, results_of(record, store))
    folder = store.sweep_folder(record.name)
    paths = []
    for form in FORMATS:
        path = folder / f"table.{'txt' if form == 'text' else form}"
        publish(path, render(tables, form))
        paths.append(path)
    return paths


def exit_code(record: SweepRecord, store: TrialStore) -> int:
    """What became of the sweep, by the store."""
    counts = count_states(store, {trial.key for trial in record.trials})
    if counts["started"] or counts["missing"]:
        return INTERRUPTED
    return SOME_FAILED if counts["failed"] else DONE


def _warn(console: Console, sentence: str | None) -> None:
    if sentence:
        console.print(f"warning: {sentence}", style="yellow", markup=False, soft_wrap=True)
