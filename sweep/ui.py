"""`sweep ui`: MLflow's pages on a sweep, and the links that open them where a sweep is to be seen."""

import sys
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from sweep.mirror import answering, redacted
from sweep.mlflow_ui import chart_links, compare_link, served
from sweep.places import local_folder
from sweep.record import SweepRecord
from sweep.store import TrialStore
from sweep.tracking import find_runs

SQLITE = "sqlite:///"


def show(uri: str, record: SweepRecord, store: TrialStore, port: int) -> None:
    """Print the links to a sweep's pages, and serve them until Ctrl-C unless `uri` is a server already.

    Raises ValueError when MLflow has no runs of the sweep or does not answer, or the port is taken.
    """
    # Asking a database that is not there would make an empty one.
    is_there = not uri.startswith(SQLITE) or Path(uri.removeprefix(SQLITE)).exists()
    with answering(uri):
        found = find_runs(uri, record.name) if is_there else None
    if found is None:
        raise ValueError(f"MLflow at {redacted(uri)} has no sweep '{record.name}'; 'sweep run' writes it there")
    experiment, runs = found
    artifacts = (local_folder(store.location) or Path()) / "artifacts"
    is_server = uri.startswith("http")
    with nullcontext(redacted(uri)) if is_server else served(uri, artifacts, port) as server:
        for title, link in chart_links(server, experiment, record).items():
            sys.stdout.write(f"charts of {title}: {link}\n")
        sys.stdout.write(f"one trial of each cell compared: {compare_link(server, experiment, _first(record, runs))}\n")
        if not is_server:
            sys.stdout.write("serving on this machine alone; Ctrl-C ends it\n")
            sys.stdout.flush()
            threading.Event().wait()


def _first(record: SweepRecord, runs: Mapping[str, str]) -> list[str]:
    """The run of the first mirrored trial of each cell."""
    first: dict[str, str] = {}
    for trial in record.trials:
        if trial.key in runs:
            first.setdefault(trial.cell, runs[trial.key])
    return list(first.values())
