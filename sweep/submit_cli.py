"""The command that has a cluster run a sweep, from outside of it."""

import time
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.text import Text

from sweep import target
from sweep.exits import INTERRUPTED
from sweep.options import (
    DEFAULT_CORPORA,
    DEFAULT_RESULTS,
    Corpora,
    NoTracking,
    Overrides,
    Results,
    SearchStorage,
    Source,
    Tracking,
    command,
    say,
)
from sweep.plan import brief_results_of, make_plan
from sweep.ray_token import is_loopback
from sweep.render import render
from sweep.run import tables_of
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.submit import Request, submit, wait
from sweep.target import Job, new_id

app = typer.Typer(rich_markup_mode="rich")


@app.command("submit")
def submit_command(
    source: Source,
    to: Annotated[str, typer.Option(help=f"One of {', '.join(target.names())}.")],
    overrides: Overrides = None,
    results: Results = DEFAULT_RESULTS,
    corpora: Corpora = DEFAULT_CORPORA,
    tracking: Tracking = None,
    no_tracking: NoTracking = False,
    search_storage: SearchStorage = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Leave when it is sent.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be sent.")] = False,
) -> None:
    """Have a cluster run a sweep, wait for it and print its tables. Example: [bold]sweep submit demo --to slurm[/]

    Results are a place that all its nodes have under the same name, and corpora a folder that its head has. The exit
    code is that of the sweep, as 'sweep run' has it. Ctrl-C ends the waiting, and not the sweep.
    """
    place = target.target(to)
    record = make_plan(SweepSpec.load(source, overrides or ()), corpora).record
    store = TrialStore(results)
    request = Request(record, store, corpora, tracking, search_storage, not no_tracking)
    id = new_id(record.name)
    job = Job(id, request.command(id))
    if dry_run:
        say(place.shown(job).rstrip("\n"))
        return
    notes = Console(stderr=True)

    def note(sentence: str) -> None:
        notes.print(Text(f"{time.strftime('%H:%M:%S')}  {sentence}"), soft_wrap=True)

    if tracking and not no_tracking and is_loopback(urlsplit(tracking).hostname or ""):
        note(f"the cluster is told that MLflow is at {tracking}, which is its own machine there, and not this one")
    handle = submit(request, job, place)
    looks = f"'{command('status', record.name, results=results)}' shows how it stands"
    note(f"sent to {to} as {handle}; {looks}, '{command('stop', record.name, results=results)}' ends it")
    if no_wait:
        return
    try:
        code, sentence = wait(request, job, handle, place, note)
    except KeyboardInterrupt:
        note(f"it goes on without being waited for; {looks}")
        raise typer.Exit(INTERRUPTED) from None
    last = store.recorded(record.name)
    say(render(tables_of(last, store, brief_results_of(last, store)), "text").rstrip("\n"))
    if sentence:
        note(sentence)
    raise typer.Exit(code)
