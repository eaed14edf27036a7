"""The command that writes a sweep up as one page."""

from typing import Annotated

import typer

from sweep.additions import add
from sweep.mirror import default_uri
from sweep.options import DEFAULT_RESULTS, Name, NoTracking, Results, Tracking, say
from sweep.store import TrialStore

app = typer.Typer(rich_markup_mode="rich")


@app.command("report")
def report_command(
    name: Name,
    results: Results = DEFAULT_RESULTS,
    paper: Annotated[bool, typer.Option("--paper", help="Put the published numbers beside ours.")] = False,
    tracking: Tracking = None,
    no_tracking: NoTracking = False,
) -> None:
    """Write tables, figures, cost and origin of a sweep as one HTML page. Example: [bold]sweep report demo[/]"""
    # Matplotlib takes a second to import, which the other commands need not pay.
    from sweep.report import write_report
    from sweep.run import write_tables

    store, uri = TrialStore(results), None if no_tracking else tracking or default_uri(results)
    record = store.recorded(name)
    # Those that the page's readers may want in another format are of the same records.
    written = [*write_tables(record, store), write_report(record, store, paper=paper)]
    say(f"{store.sweep(name)}/{written[-1]}")
    if uri is not None and (problem := add(uri, record, store, lambda mlflow: mlflow.keep(written), "the report")):
        typer.echo(f"warning: {problem}", err=True)
