"""Options that several commands share."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

Results = Annotated[
    str,
    typer.Option(help="Where the store is: a folder, or a URI such as s3://bucket/results.", envvar="SWEEP_RESULTS"),
]
Corpora = Annotated[Path, typer.Option(help="Folder of the corpora.", envvar="SWEEP_CORPORA")]
Tracking = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", help="Of MLflow; a database in the results folder by default.", envvar="MLFLOW_TRACKING_URI"
    ),
]
NoTracking = Annotated[bool, typer.Option("--no-tracking", help="Do not mirror into MLflow.")]
Address = Annotated[
    str | None, typer.Option(help="Of an existing Ray cluster, e.g. 10.0.0.1:6379.", envvar="SWEEP_ADDRESS")
]
NumCpus = Annotated[int | None, typer.Option(min=1, help="CPUs of the local cluster; all by default.")]
SearchStorage = Annotated[
    str | None,
    typer.Option(
        "--search-storage",
        help="Database of Optuna's studies, e.g. postgresql://…; beside the trials by default.",
        envvar="SWEEP_SEARCH_STORAGE",
    ),
]
Source = Annotated[str, typer.Argument(help="A sweep of conf/sweep/ by name, or the path of a spec's .yaml file.")]
Name = Annotated[str, typer.Argument(help="The name of a sweep that was run.")]
Key = Annotated[str, typer.Argument(help="A trial's key, or the beginning of it.")]
DEFAULT_RESULTS = "results"
DEFAULT_CORPORA = Path("corpora")
Json = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="KEY=VALUE, e.g. seeds=3 or train.epochs=2, over what the spec says.")
]


def say(text: str) -> None:
    """Print what was asked for."""
    sys.stdout.write(text + "\n")


def say_json(value: object) -> None:
    say(json.dumps(value, indent=1))


def command(*words: str, results: str) -> str:
    """A command as a person would type it, with the store where it is not the default one."""
    elsewhere = results not in (DEFAULT_RESULTS, os.environ.get("SWEEP_RESULTS"))
    return shlex.join(["sweep", *words, *(["--results", results] if elsewhere else [])])
