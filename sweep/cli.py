"""The command line. A user's mistake is one sentence on standard error and exit code 2; `--json` prints data."""

import atexit
import gc
import io
import sys
import warnings
from typing import Annotated, Any

import typer

from sweep.care_cli import app as care_app
from sweep.compare_cli import app as compare_app
from sweep.data_cli import app as data_app
from sweep.evaluate_cli import app as evaluate_app
from sweep.exits import told
from sweep.measures import MEASURES, PRESETS
from sweep.mirror import default_uri
from sweep.options import DEFAULT_RESULTS, Json, Name, Results, Tracking, say
from sweep.plan import brief_results_of
from sweep.plan_cli import app as plan_app
from sweep.read_cli import app as read_app
from sweep.render import FORMATS, render
from sweep.report_cli import app as report_app
from sweep.run import tables_of
from sweep.search_cli import app as search_app
from sweep.store import TrialStore
from sweep.submit_cli import app as submit_app
from sweep.table import data_table
from sweep.train_cli import app as train_app

app = typer.Typer(
    help="Sweeps of latent-variable text models: train what is missing, print the tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(plan_app)
app.add_typer(train_app)
app.add_typer(submit_app)


@app.command("table")
def table_command(
    name: Name,
    results: Results = DEFAULT_RESULTS,
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "text",
    paper: Annotated[bool, typer.Option("--paper", help="Put the published numbers beside ours.")] = False,
    columns: Annotated[
        str, typer.Option(help=f"Names, between commas, of {', '.join(MEASURES)}, or of groups: {', '.join(PRESETS)}.")
    ] = "paper",
    sizes: Annotated[bool, typer.Option("--data", help="The corpora and their sizes (Table 1) instead.")] = False,
    as_json: Json = False,
) -> None:
    """Print a sweep's tables from what is finished. Example: [bold]sweep table ptb --paper --format tex[/]

    --columns paper is the paper's Table 2, --columns iw its Table 3; what they show beyond is there once
    'sweep evaluate' has measured it.
    """
    store = TrialStore(results)
    record = store.recorded(name)
    done = brief_results_of(record, store)
    tables = [data_table(done.values(), paper=paper)] if sizes else tables_of(record, store, done, columns, paper)
    say(render(tables, "json" if as_json else form).rstrip("\n"))


@app.command("ui")
def ui_command(
    name: Name,
    results: Results = DEFAULT_RESULTS,
    tracking: Tracking = None,
    port: Annotated[int, typer.Option(min=1024, max=65535, help="On 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow's UI on a sweep and print the links to its charts. Example: [bold]sweep ui demo[/]"""
    # MLflow takes seconds to import, which the other commands need not pay.
    from sweep.ui import show

    store = TrialStore(results)
    show(tracking or default_uri(results), store.recorded(name), store, port)


app.add_typer(evaluate_app)
app.add_typer(compare_app)
app.add_typer(report_app)
app.add_typer(read_app)
app.add_typer(search_app)
app.add_typer(care_app)
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point of the console script."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # tables hold ± and †, which the locale of a batch job may lack
            stream.reconfigure(encoding="utf-8")
    # As it ends, an interpreter looks for cycles in all that Ray, MLflow and PyTorch have made: up to two seconds.
    atexit.register(gc.freeze)
    with told():
        app()


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"warning: {message}\n")
