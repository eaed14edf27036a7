"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Results = Annotated[Path, typer.Option(help="Folder of the store and the tables.", envvar="SWEEP_RESULTS")]
Corpora = Annotated[Path, typer.Option(help="Folder of the corpora.", envvar="SWEEP_CORPORA")]
Tracking = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", help="Of MLflow; a database in the results folder by default.", envvar="MLFLOW_TRACKING_URI"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="KEY=VALUE, e.g. seeds=3 or train.epochs=2, over what the spec says.")
]
