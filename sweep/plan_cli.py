"""The commands that say what a sweep would train and what that would take: plan, and probe, which measures it."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweep.claims import Launch
from sweep.exits import DONE, INTERRUPTED, SOME_FAILED
from sweep.forecast import CellForecast, Forecast, forecast
from sweep.options import (
    DEFAULT_CORPORA,
    DEFAULT_RESULTS,
    Address,
    Corpora,
    Json,
    NumCpus,
    Overrides,
    Results,
    Source,
    say,
    say_json,
)
from sweep.packing import learn, probe_shapes
from sweep.plan import Plan, count_states, make_plan
from sweep.progress import duration
from sweep.run import RunOptions, open_cluster
from sweep.search_state import searches
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.train_cli import counts_line

app = typer.Typer(rich_markup_mode="rich")
UNKNOWN = "unknown"


@app.command("plan")
def plan_command(
    source: Source,
    overrides: Overrides = None,
    results: Results = DEFAULT_RESULTS,
    corpora: Corpora = DEFAULT_CORPORA,
    slots: Annotated[
        int, typer.Option(min=1, help="Trials that would run at once; by default as many as this machine has cores.")
    ] = os.cpu_count() or 1,
    as_json: Json = False,
) -> None:
    """Check a sweep and say what it would train and take, without training. Example: [bold]sweep plan demo seeds=3[/]

    Times and memory are known of what was probed, by 'sweep probe' or a run with [bold]resources: auto[/].
    """
    plan, store = make_plan(SweepSpec.load(source, overrides or ()), corpora), TrialStore(results)
    _learn(plan, store)
    counts, tried = count_states(store.states(plan.record.wanted)), searches(plan.record, store)
    seconds, found = plan.expected_seconds(store), forecast(plan, store, slots)
    if as_json:
        wanted = len(plan.record.wanted)
        known = {"expected_seconds": seconds, "forecast": asdict(found), "searches": [asdict(each) for each in tried]}
        say_json({"sweep": plan.record.name, "wanted": wanted, **counts, **known})
        return
    say(counts_line(plan.record, counts, tried))
    left = f"{UNKNOWN} before any trial is done or probed" if seconds is None else f"{duration(seconds)} of one slot"
    say(f"work left: {left}" + (", besides what searches will train" if plan.record.studies else ""))
    _say_forecast(found)


@app.command("probe")
def probe_command(
    source: Source,
    overrides: Overrides = None,
    results: Results = DEFAULT_RESULTS,
    corpora: Corpora = DEFAULT_CORPORA,
    address: Address = None,
    num_cpus: NumCpus = None,
) -> None:
    """Measure a few steps of each shape of trial, and train nothing. Example: [bold]sweep probe ptb[/]

    What is known of a shape is not measured again. 'sweep plan' then says what the sweep would take.
    """
    plan, store = make_plan(SweepSpec.load(source, overrides or ()), corpora), TrialStore(results)
    store.check_writable()
    missing = plan.missing(store.states(plan.record.wanted))
    if not missing and not plan.record.studies:
        say("nothing is left to train, and so nothing to measure")
        return
    notes = Console(stderr=True)
    with (
        open_cluster(plan.fields.resources, RunOptions(corpora, None, address, num_cpus), store, notes) as where,
        Launch(store.launches, plan.record.name) as this,
    ):
        probe_shapes(plan, missing, plan.record.studies, store, where, this, notes)
        is_stopped = this.stop.is_set()
    _say_forecast(forecast(plan, store, where.slots))
    unmeasured = [trial for trial in missing if plan.costs.probe(trial.key) is None]
    raise typer.Exit(INTERRUPTED if is_stopped else SOME_FAILED if unmeasured else DONE)


def _learn(plan: Plan, store: TrialStore) -> None:
    """From probes on GPUs where there are any of this sweep's, else from those on CPUs."""
    shapes = {weight.shape for weight in plan.costs.weights.values()}
    for device in ("cuda", "cpu"):
        learn(plan, store, device, shapes)
        if plan.costs.probes:
            return


def _say_forecast(found: Forecast) -> None:
    if not found.cells:
        return
    span = UNKNOWN if found.makespan is None else duration(found.makespan)
    say(f"time on {found.slots} slots: {span}")
    say(f"disk: up to {found.disk / 2**30:.2f} GiB more")
    table = Table(box=None, pad_edge=False)
    for heading in ("cell", "trials", "time each", "MiB each"):
        table.add_column(heading, justify="left" if heading == "cell" else "right", no_wrap=True)
    for cell in found.cells:
        time = UNKNOWN if cell.seconds is None else duration(cell.seconds)
        table.add_row(Text(cell.cell), str(cell.trials), time, _memory(cell))
    Console(width=max(Console().width, 120)).print(table)
    _say_where(found.cells)


def _memory(cell: CellForecast) -> str:
    if cell.host_bytes is None:
        return UNKNOWN
    of_gpu = f" + {cell.gpu_bytes / 2**20:.0f} of the GPU's" if cell.gpu_bytes else ""
    return f"{cell.host_bytes / 2**20:.0f}{of_gpu}"


def _say_where(cells: Sequence[CellForecast]) -> None:
    places = sorted({cell.measured_on for cell in cells if cell.measured_on})
    if places:
        where = f"measured on {'; '.join(places)}, in the first steps"
        say(f"{where}; to the last epoch of each trial, which a plateau may end before")
