"""The command that writes a sweep up as one page."""

from typing import Annotated

import typer

from sweep.options import DEFAULT_RESULTS, Name, Results, say
from sweep.store import TrialStore

app = typer.Typer(rich_markup_mode="rich")


@app.command("report")
def report_command(
    name: Name,
    results: Results = DEFAULT_RESULTS,
    paper: Annotated[bool, typer.Option("--paper", help="Put the published numbers beside ours.")] = False,
) -> None:
    """Write tables, figures, cost and origin of a sweep as one HTML page. Example: [bold]sweep report demo[/]"""
    # Matplotlib takes a second to import, which the other commands need not pay.
    from sweep.report import write_report
    from sweep.run import write_tables

    store = TrialStore(results)
    record = store.recorded(name)
    # Those that the page's readers may want in another format are of the same records.
    write_tables(record, store)
    say(f"{store.sweep(name)}/{write_report(record, store, paper=paper)}")
