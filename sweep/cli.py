"""The command line. A user's mistake is one sentence on standard error and exit code 2; `--json` prints data."""

import io
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from sweep.data_cli import app as data_app
from sweep.mirror import default_uri
from sweep.options import Corpora, Json, Overrides, Results, Tracking
from sweep.plan import Plan, count_states, make_plan, results_of
from sweep.progress import duration
from sweep.record import SweepRecord
from sweep.render import FORMATS, render
from sweep.run import INTERRUPTED, SOME_FAILED, USAGE, RunOptions, run
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.table import comparison_tables, data_table
from sweep.trial import TrialFailedError

app = typer.Typer(
    help="Sweeps of latent-variable text models: train what is missing, print the tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(data_app, name="data")

Source = Annotated[str, typer.Argument(help="A sweep of conf/sweep/ by name, or the path of a spec's .yaml file.")]
Name = Annotated[str, typer.Argument(help="The name of a sweep that was run.")]


@app.command("plan")
def plan_command(source: Source, overrides: Overrides = None, results: Results = Path("results"),
                 corpora: Corpora = Path("corpora"), as_json: Json = False) -> None:  # fmt: skip
    """Check a sweep and say what it would train, without training. Example: [bold]sweep plan demo seeds=3[/]"""
    plan, store = make_plan(SweepSpec.load(source, overrides or ()), corpora), TrialStore(results)
    counts = count_states(store, plan.wanted)
    seconds = plan.expected_seconds(store)
    if as_json:
        _print_json({"sweep": plan.record.name, "wanted": len(plan.wanted), **counts, "expected_seconds": seconds})
        return
    _print(_counts_line(plan.record, counts))
    left = "unknown before any trial is done" if seconds is None else f"{duration(seconds)} of one slot"
    _print(f"work left: {left}")


@app.command("run")
def run_command(
    source: Source,
    overrides: Overrides = None,
    results: Results = Path("results"),
    corpora: Corpora = Path("corpora"),
    tracking: Tracking = None,
    no_tracking: Annotated[bool, typer.Option("--no-tracking", help="Do not mirror into MLflow.")] = False,
    address: Annotated[
        str | None, typer.Option(help="Of an existing Ray cluster, e.g. 10.0.0.1:6379.", envvar="SWEEP_ADDRESS")
    ] = None,
    num_cpus: Annotated[int | None, typer.Option(min=1, help="CPUs of the local cluster; all by default.")] = None,
) -> None:
    """Train what is missing of a sweep and print its tables. Example: [bold]sweep run demo[/]"""
    spec, store = SweepSpec.load(source, overrides or ()), TrialStore(results)
    plan = make_plan(spec, corpora)
    uri = None if no_tracking else tracking or default_uri(results)
    counts = count_states(store, plan.wanted)
    notes = Console(stderr=True)
    notes.print(Text(_counts_line(plan.record, counts)), soft_wrap=True)
    try:
        code = run(plan, spec.fields.resources, store, RunOptions(corpora, uri, address, num_cpus), notes)
    except KeyboardInterrupt:
        code = INTERRUPTED
    _print(render(comparison_tables(plan.record, results_of(plan.record, store)), "text").rstrip("\n"))
    _say_end(plan, store, code, notes, source, overrides or ())
    raise typer.Exit(code)


@app.command("status")
def status_command(name: Name, results: Results = Path("results"), as_json: Json = False) -> None:
    """Where a sweep stands, by the store. Example: [bold]sweep status demo[/]"""
    store = TrialStore(results)
    record = store.recorded(name)
    states = {trial.key: store.state(trial.key) for trial in record.trials}
    if as_json:
        trials = [{**asdict(trial), "state": states[trial.key]} for trial in record.trials]
        _print_json({"sweep": name, **count_states(store, states), "trials": trials})
        return
    _print(_counts_line(record, count_states(store, states)))
    for trial in record.trials:
        if states[trial.key] == "failed":
            _print(f"failed: {trial.name}: {store.failure(trial.key).message} ({store.folder(trial.key)})")


@app.command("table")
def table_command(
    name: Name,
    results: Results = Path("results"),
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "text",
    paper: Annotated[bool, typer.Option("--paper", help="Put the published numbers beside ours.")] = False,
    sizes: Annotated[bool, typer.Option("--data", help="The corpora and their sizes (Table 1) instead.")] = False,
    as_json: Json = False,
) -> None:
    """Print a sweep's tables from what is finished. Example: [bold]sweep table ptb --paper --format tex[/]"""
    store = TrialStore(results)
    record = store.recorded(name)
    done = results_of(record, store)
    tables = [data_table(done.values(), paper=paper)] if sizes else comparison_tables(record, done, paper=paper)
    _print(render(tables, "json" if as_json else form).rstrip("\n"))


@app.command("trial")
def trial_command(
    source: Source,
    labels: Annotated[
        list[str] | None, typer.Argument(help="Labels that choose one cell of the grid, and KEY=VALUE overrides.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Its seed; the sweep's first by default.")] = None,
    results: Results = Path("results"),
    corpora: Corpora = Path("corpora"),
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one by default.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="On a CPU; two trials of one do more than one of two.")] = 1,
    as_json: Json = False,
) -> None:
    """Train one trial in this process, without Ray. Example: [bold]sweep trial demo Standard LSTM-LM --seed 1[/]"""
    from sweep.one import train_one

    result = train_one(source, labels or (), seed, TrialStore(results), corpora, device, threads, quiet=as_json)
    _print(result.to_json() if as_json else f"{result.key}\ntest: {dict(result.test)}")


@app.command("ui")
def ui_command(
    name: Name,
    results: Results = Path("results"),
    tracking: Tracking = None,
    port: Annotated[int, typer.Option(min=1024, max=65535, help="On 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow's UI on a sweep and print the links to its charts. Example: [bold]sweep ui demo[/]"""
    # MLflow takes seconds to import, which the other commands need not pay.
    from sweep.ui import show

    record = TrialStore(results).recorded(name)
    show(tracking or default_uri(results), record, results.absolute() / "artifacts", port)


def _counts_line(record: SweepRecord, counts: dict[str, int]) -> str:
    total = len({trial.key for trial in record.trials})
    about = record.document.get("about")
    name = f"{record.name} ({about})" if about else record.name
    return (
        f"{name}: {total} trials wanted, {counts['done']} done, {counts['started']} to continue, "
        f"{counts['failed']} failed, {counts['missing']} not begun"
    )


def _say_end(plan: Plan, store: TrialStore, code: int, notes: Console, source: str, overrides: Sequence[str]) -> None:
    counts = count_states(store, plan.wanted)
    if code == INTERRUPTED:
        again = " ".join(["sweep run", source, *overrides])
        notes.print(Text(f"stopped with {len(plan.wanted) - counts['done']} trials left; '{again}' continues"))
    if counts["failed"]:
        notes.print(Text(f"{counts['failed']} trials failed; 'sweep status {plan.record.name}' says why"))
    notes.print(Text(f"tables: {store.sweep_folder(plan.record.name)}/table.{{txt,md,tex,csv,json}}"), soft_wrap=True)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print_json(value: object) -> None:
    _print(json.dumps(value, indent=1))


def main() -> None:
    """Entry point of the console script."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # tables hold ± and †, which the locale of a batch job may lack
            stream.reconfigure(encoding="utf-8")
    try:
        app()
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(USAGE)
    except TrialFailedError as error:
        sys.stderr.write(f"failed: {error}\n")
        sys.exit(SOME_FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"warning: {message}\n")
