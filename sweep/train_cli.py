"""The commands that train: run, resume, retry, trial."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.text import Text

from sweep.config import unknown
from sweep.exits import INTERRUPTED
from sweep.mirror import default_uri
from sweep.options import (
    DEFAULT_CORPORA,
    DEFAULT_RESULTS,
    Address,
    Corpora,
    Json,
    Name,
    NoTracking,
    NumCpus,
    Overrides,
    Results,
    SearchStorage,
    Source,
    Tracking,
    command,
    say,
)
from sweep.plan import Plan, brief_results_of, count_states, make_plan, plan_again
from sweep.points import searched
from sweep.record import FailureKind, SweepRecord
from sweep.render import render
from sweep.run import TEXT_TABLE, RunOptions, run, tables_of
from sweep.search_state import SearchState, searches
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.submission import ending_kept

app = typer.Typer(rich_markup_mode="rich")


@app.command("run")
def run_command(source: Source, overrides: Overrides = None, results: Results = DEFAULT_RESULTS,
                corpora: Corpora = DEFAULT_CORPORA, tracking: Tracking = None, no_tracking: NoTracking = False,
                address: Address = None, num_cpus: NumCpus = None,
                search_storage: SearchStorage = None) -> None:  # fmt: skip
    """Train what is missing of a sweep and print its tables. Example: [bold]sweep run demo[/]"""
    uri = None if no_tracking else tracking or default_uri(results)
    plan = make_plan(SweepSpec.load(source, overrides or ()), corpora)
    host = RunOptions(corpora, uri, address, num_cpus, search_storage)
    _train(plan, results, host, ["run", source, *(overrides or ())])


@app.command("resume")
def resume_command(name: Name, results: Results = DEFAULT_RESULTS, corpora: Corpora = DEFAULT_CORPORA,
                   tracking: Tracking = None, no_tracking: NoTracking = False, address: Address = None,
                   num_cpus: NumCpus = None, search_storage: SearchStorage = None,
                   submission: Annotated[str | None, typer.Option(hidden=True)] = None) -> None:  # fmt: skip
    """Continue a sweep as it was last run, and retry what failed. Example: [bold]sweep resume demo[/]"""
    store = TrialStore(results)
    record = store.recorded(name)
    with ending_kept(store, name, submission):
        uri = None if no_tracking else tracking or default_uri(results)
        plan = plan_again(record, corpora)
        _train(plan, results, RunOptions(corpora, uri, address, num_cpus, search_storage), ["resume", name])


@app.command("retry")
def retry_command(
    name: Name,
    keys: Annotated[list[str] | None, typer.Argument(help="Keys of trials, or beginnings; all that failed.")] = None,
    kind: Annotated[str | None, typer.Option(help=f"Only failures of it: {', '.join(get_args(FailureKind))}.")] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Forget their checkpoints.")] = False,
    results: Results = DEFAULT_RESULTS,
    corpora: Corpora = DEFAULT_CORPORA,
    tracking: Tracking = None,
    no_tracking: NoTracking = False,
    address: Address = None,
    num_cpus: NumCpus = None,
    search_storage: SearchStorage = None,
) -> None:
    """Try failed trials of a sweep again, and no others. Example: [bold]sweep retry demo --kind out-of-memory[/]"""
    uri = None if no_tracking else tracking or default_uri(results)
    store = TrialStore(results)
    plan = plan_again(store.recorded(name), corpora)
    chosen = _failed(plan.record, store, keys or (), kind)
    if not chosen:
        say("nothing to retry: no trial failed" + (f" of kind {kind}" if kind else ""))
        return
    # What is left afterwards is not only what was to be tried again.
    host = RunOptions(corpora, uri, address, num_cpus, search_storage)
    _train(
        plan,
        results,
        host,
        ["resume", name],
        chosen,
        from_scratch,
    )


def _failed(record: SweepRecord, store: TrialStore, prefixes: Collection[str], kind: str | None) -> set[str]:
    """Keys of a sweep's trials that are to be tried again. Raises ValueError."""
    if kind is not None and kind not in get_args(FailureKind):
        raise ValueError(unknown("kind of failure", kind, get_args(FailureKind)))
    # Of a suggestion that was told, nothing more is asked, whatever its trials came to.
    open = {trial.key: trial for point, trial in searched(store, record) if point.outcome is None}
    wanted = open | record.wanted
    states = store.states(wanted)
    chosen = {record.find(prefix, open) for prefix in prefixes}
    for key in chosen:
        if states[key] == "done":
            name = wanted[key].name
            raise ValueError(f"{name} is done and stays so; 'sweep verify {key[:12]}' trains it again and compares")
    failed = {key for key, state in states.items() if state == "failed"}
    asked = chosen or failed
    return {key for key in asked if kind is None or (key in failed and store.failure(key).kind == kind)}


def _train(
    plan: Plan,
    results: str,
    options: RunOptions,
    words: list[str],
    only: Collection[str] | None = None,
    from_scratch: bool = False,
) -> None:
    """Train, print the tables, and say what is left and how to go on. words: the command that does the same again."""
    store, notes = TrialStore(results), Console(stderr=True)
    states = store.states(plan.record.wanted)
    notes.print(Text(counts_line(plan.record, count_states(states), searches(plan.record, store))), soft_wrap=True)
    try:
        code = run(plan, store, states, options, notes, only, from_scratch)
        text = store.sweep(plan.record.name).read(TEXT_TABLE).decode()
        # What a search has chosen is in the record that it left.
        record = store.recorded(plan.record.name) if plan.record.studies else plan.record
    except KeyboardInterrupt:
        code = INTERRUPTED
        # One that was interrupted while its cluster was opened has not been recorded.
        record = store.recorded(plan.record.name) if store.is_recorded(plan.record.name) else plan.record
        text = render(tables_of(record, store, brief_results_of(record, store)), "text")
    say(text.rstrip("\n"))
    _say_end(record, store, code, notes, words, results)
    raise typer.Exit(code)


def _say_end(record: SweepRecord, store: TrialStore, code: int, notes: Console, words: list[str], results: str) -> None:
    counts, name = count_states(store.states(record.wanted)), record.name
    if code == INTERRUPTED:
        left = f"{sum(counts.values()) - counts['done']} trials left"
        untold = sum(each.budget - each.told for each in searches(record, store))
        left += f" and {untold} suggestions to come" if untold else ""
        notes.print(Text(f"stopped with {left}; '{command(*words, results=results)}' continues"), soft_wrap=True)
    if counts["failed"]:
        why = command("failures", name, results=results)
        notes.print(Text(f"{counts['failed']} trials failed; '{why}' says why"), soft_wrap=True)
    if store.is_recorded(name):
        notes.print(Text(f"tables: {store.sweep(name)}/table.{{txt,md,tex,html,csv,json}}"), soft_wrap=True)


def counts_line(record: SweepRecord, counts: Mapping[str, int], searched: Sequence[SearchState]) -> str:
    """How a sweep stands, in one line."""
    about = record.document.get("about")
    name = f"{record.name} ({about})" if about else record.name
    line = (
        f"{name}: {sum(counts.values())} trials wanted, {counts['done']} done, {counts['started']} to continue, "
        f"{counts['failed']} failed, {counts['missing']} not begun"
    )
    if searched:
        told, budget = sum(each.told for each in searched), sum(each.budget for each in searched)
        line += f"; {told} of {budget} suggestions tried in {len(searched)} {'cell' if len(searched) == 1 else 'cells'}"
    return line


@app.command("trial")
def trial_command(
    source: Source,
    labels: Annotated[
        list[str] | None, typer.Argument(help="Labels that choose one cell of the grid, and KEY=VALUE overrides.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Its seed; the sweep's first by default.")] = None,
    results: Results = DEFAULT_RESULTS,
    corpora: Corpora = DEFAULT_CORPORA,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one by default.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="On a CPU; two trials of one do more than one of two.")] = 1,
    as_json: Json = False,
) -> None:
    """Train one trial in this process, without Ray. Example: [bold]sweep trial demo Standard LSTM-LM --seed 1[/]"""
    from sweep.one import train_one

    result = train_one(source, labels or (), seed, TrialStore(results), corpora, device, threads, quiet=as_json)
    say(result.to_json() if as_json else f"{result.key}\ntest: {dict(result.test)}")
