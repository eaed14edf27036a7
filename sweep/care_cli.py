"""The commands of whoever looks after sweeps: status, failures, logs, stop, sync, gc, verify, doctor."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer

from sweep.claims import Launch, request_stop
from sweep.exits import SOME_FAILED
from sweep.mirror import answering, default_uri
from sweep.options import (
    DEFAULT_CORPORA,
    DEFAULT_RESULTS,
    Address,
    Corpora,
    Json,
    Key,
    Name,
    Results,
    Tracking,
    command,
    say,
    say_json,
)
from sweep.plan import count_states
from sweep.record import TrialFailure
from sweep.run import write_tables
from sweep.status import Status, failure_groups, read_status
from sweep.store import TrialStore
from sweep.submission import forbid_submissions
from sweep.train_cli import counts_line
from sweep.trial import default_device
from sweep.verify import verify
from sweep.waste import find_waste

app = typer.Typer(rich_markup_mode="rich")
LAST_LINES = 5


@app.command("status")
def status_command(
    name: Name,
    trials: Annotated[bool, typer.Option("--trials", help="List every trial with its key and state.")] = False,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Where a sweep stands, by the store; also while it runs. Example: [bold]sweep status demo[/]"""
    status = read_status(TrialStore(results), name)
    if as_json:
        say_json(_as_json(status))
        return
    say(counts_line(status.record, count_states(status.states), status.searches))
    if status.settings is not None:
        draws = f", K = {status.settings.draws}" if status.settings.draws else ""
        say(f"{status.evaluated} of them evaluated, S = {status.settings.samples}{draws}")
    say(f"run by {status.driver}" if status.driver else "nobody runs it now")
    for running in status.running:
        where = f"epoch {running.epoch}" + (f", step {running.step}" if running.step else "")
        say(f"running: {running.trial.name}: {where} saved, on {running.owner.host}")
    for failure in status.failures.values():
        say(f"failed: {status.record.wanted[failure.key].name}: {failure.kind}: {failure.message}")
    for key, trial in status.record.wanted.items() if trials else ():
        say(f"{key[:12]}  {status.states[key]:7}  {trial.name}")
    for warning in status.warnings:
        say(f"warning: {warning}")
    if status.failures:
        say(f"'{command('failures', name, results=results)}' groups what failed")


def _as_json(status: Status) -> Mapping[str, object]:
    trials = [{**asdict(trial), "state": status.states[trial.key]} for trial in status.record.trials]
    return {
        "sweep": status.record.name,
        **count_states(status.states),
        "driver": asdict(status.driver) if status.driver else None,
        "running": [{"key": each.trial.key, "epoch": each.epoch, "host": each.owner.host} for each in status.running],
        "searches": [asdict(each) for each in status.searches],
        "evaluation": status.settings.model_dump() if status.settings else None,
        "evaluated": status.evaluated,
        "mlflow": status.mirror,
        "warnings": list(status.warnings),
        "trials": trials,
    }


@app.command("failures")
def failures_command(name: Name, results: Results = DEFAULT_RESULTS, as_json: Json = False) -> None:
    """What failed in a sweep, one paragraph a cause. Example: [bold]sweep failures demo[/]"""
    store = TrialStore(results)
    record = store.recorded(name)
    groups = failure_groups(store, record)
    if as_json:
        say_json([[asdict(failure) for failure in group] for group in groups])
        return
    if not groups:
        say("no trial failed")
    for group in groups:
        first = group[0]
        trials = "1 trial" if len(group) == 1 else f"{len(group)} trials"
        say(f"{trials}: {first.kind}: {first.message}")
        say(f"  first {record.wanted[first.key].name}, on {first.host}, epoch {first.epoch}, attempt {first.attempt}")
        for line in _last_lines(first):
            say(f"  | {line}")
        say(f"  '{command('logs', first.key[:12], results=results)}' shows all of it")
        keys = [failure.key[:12] for failure in group]
        say(f"  '{command('retry', name, *keys, results=results)}' tries again")


def _last_lines(failure: TrialFailure) -> list[str]:
    return [line for line in (failure.traceback or failure.log_tail).splitlines() if line.strip()][-LAST_LINES:]


@app.command("logs")
def logs_command(key: Key, results: Results = DEFAULT_RESULTS) -> None:
    """The log of a trial, and why it failed. Example: [bold]sweep logs 3f0c[/]"""
    store = TrialStore(results)
    found = store.find(key)
    say(store.log(found).rstrip("\n"))
    if store.state(found) == "failed":
        say(store.failure(found).traceback.rstrip("\n"))


@app.command("stop")
def stop_command(name: Name, results: Results = DEFAULT_RESULTS) -> None:
    """End a running sweep in good order, wherever it runs: each trial leaves a checkpoint. [bold]sweep stop demo[/]"""
    store = TrialStore(results)
    store.recorded(name)
    driver = store.driver(name)
    if driver is None:
        raise ValueError(f"sweep '{name}' is not running")
    forbid_submissions(store, name)
    request_stop(store.launches, driver.id)
    say(f"asked {driver} to stop; '{command('status', name, results=results)}' shows when it has")


@app.command("sync")
def sync_command(name: Name, results: Results = DEFAULT_RESULTS, tracking: Tracking = None) -> None:
    """Make MLflow show a sweep as the store has it; twice adds nothing. Example: [bold]sweep sync demo[/]"""
    from sweep.tracking import Experiment

    store = TrialStore(results)
    record, uri = store.recorded(name), tracking or default_uri(results)
    with Launch(store.launches, name) as this:
        store.lead(name, this)  # MLflow has one writer
        files = [*write_tables(record, store), *store.figures(name)]
        with answering(uri):
            Experiment(uri, record, store).sync(files)


@app.command("gc")
def gc_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Remove what is of no use: never a result, nor its weights. Example: [bold]sweep gc --dry-run[/]"""
    store = TrialStore(results)
    waste = find_waste(store)
    if not dry_run:
        for each in waste:
            store.files.remove(each.name)
    if as_json:
        say_json([asdict(each) for each in waste])
        return
    for each in waste:
        say(f"{each.size:>12,}  {each.name}  ({each.why})")
    say(f"{sum(each.size for each in waste):>12,}  bytes {'would go' if dry_run else 'removed'}")


@app.command("verify")
def verify_command(
    key: Key,
    results: Results = DEFAULT_RESULTS,
    corpora: Corpora = DEFAULT_CORPORA,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one by default.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Train a done trial again, elsewhere, and compare every number. Example: [bold]sweep verify 3f0c[/]"""
    store = TrialStore(results)
    verdict = verify(store, store.find(key), corpora, device or default_device(), threads)
    for line in verdict.environment:
        say(f"environment: {line}")
    if not verdict.differences:
        say(f"{verdict.key[:12]}: equal in every number, bit for bit")
        return
    say(f"{verdict.key[:12]}: {len(verdict.differences)} numbers differ (recorded, now):")
    for line in verdict.differences[:20]:
        say(f"  {line}")
    raise typer.Exit(SOME_FAILED)


@app.command("doctor")
def doctor_command(
    source: Annotated[str | None, typer.Argument(help="A spec or a sweep's name, for the disk that it needs.")] = None,
    results: Results = DEFAULT_RESULTS,
    corpora: Corpora = DEFAULT_CORPORA,
    tracking: Tracking = None,
    address: Address = None,
) -> None:
    """Check what a sweep stands on: storage, disk, MLflow, Ray, clocks, GPUs. Example: [bold]sweep doctor demo[/]"""
    from sweep.doctor import examine

    findings = examine(source, TrialStore(results), corpora, tracking, address)
    for finding in findings:
        say(f"{finding.grade:>5}  {finding.subject}: {finding.sentence}")
    if any(finding.grade == "wrong" for finding in findings):
        raise typer.Exit(SOME_FAILED)
