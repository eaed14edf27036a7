"""MLflow's pages on a sweep: the server that shows them, the links to them, and how the charts are laid out."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from sweep.mlflow_values import EVERY_EPOCH, LATER, MEASURED, tag_name
from sweep.record import SweepRecord

HOST = "127.0.0.1"
START_SECONDS = 90.0
WATCHED = ("largest_kl", "clipped_steps", "skipped_steps")
"""Of training alone: whether it is stable."""
MAX_SHOWN = 100
"""Runs that MLflow's page reads at first; its button "Load more" reads further."""


@contextlib.contextmanager
def served(uri: str, artifacts: Path, port: int = 5000) -> Iterator[str]:
    """MLflow's server on a database, on this machine's loopback alone: its address. Ends with the context, which
    Ctrl-C and SIGTERM end too. Raises ValueError when the port is taken or the server does not start.

    artifacts: where it keeps the files of experiments that are created through it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ValueError(f"port {port} cannot be used ({error.strerror}); give another with --port") from None
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    # The address goes by the environment: it can hold a password, and a command line is everyone's to read.
    # Without jobs the server is two processes in place of ten.
    own = {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_ARTIFACTS_DESTINATION": artifacts.absolute().as_uri(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    address = f"http://{HOST}:{port}"
    with _terminated_as_exit(), tempfile.TemporaryFile("w+") as output:
        # A session of its own, so that the server's children end with it.
        server = subprocess.Popen(
            command, env={**os.environ, **own}, stdout=output, stderr=output, start_new_session=True
        )
        try:
            _wait(server, address, output)
            yield address
        finally:
            _end(server)


def chart_links(server: str, experiment: str, record: SweepRecord) -> dict[str, str]:
    """Links to the charts of a sweep, a line a cell with a band over its seeds: of all its trials, and of those of
    each label that has a table of its own."""
    place = f"{_page(server)}/experiments/{experiment}/runs"
    return {view.title: f"{place}?viewStateShareKey={view.key}&compareRunsMode=CHART" for view in _views(record)}


def compare_link(server: str, experiment: str, runs: Sequence[str]) -> str:
    """Runs side by side: the parameters that differ, then all parameters and metrics."""
    return f"{_page(server)}/compare-runs?runs={_json_in_url(list(runs))}&experiments={_json_in_url([experiment])}"


def chart_views(record: SweepRecord) -> dict[str, str]:
    """Tags of an experiment that lay out its charts: MLflow's saved views, as its page writes them.

    Trials grouped by cell; a metric that is in no chart here gets one of MLflow's own in the section of its prefix.
    """
    return {f"mlflow.sharedViewState.{view.key}": _saved(view) for view in _views(record)}


@dataclass(frozen=True)
class _View:
    key: str
    title: str
    filter: str


def _views(record: SweepRecord) -> list[_View]:
    """A view of all trials, and one a label of the axis that splits the tables."""
    axis: str = record.table.get("split_by") or ""
    counts = Counter(trial.labels[axis] for trial in record.trials if axis in trial.labels)
    views = [_View("sweep", _title("all trials", len(record.trials)), "tags.`cell` LIKE '%'")]
    if len(counts) > 1:
        for label, count in counts.items():
            key = "sweep-" + re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
            quote_mark = '"' if "'" in label else "'"
            where = f"tags.`{tag_name(axis)}` = {quote_mark}{label}{quote_mark}"
            views.append(_View(key, _title(label, count), where))
    return views


def _title(what: str, num_trials: int) -> str:
    return what if num_trials <= MAX_SHOWN else f"{what}, {MAX_SHOWN} of {num_trials} until more are loaded"


def _saved(view: _View) -> str:
    sections = {
        "valid": [_line(f"valid/{name}") for name in MEASURED],
        "test": [_bar(f"test/{name}") for name in MEASURED],
        "best": [_bar(f"best/{name}") for name in MEASURED],
        "train": [_line(f"train/{name}") for name in (*MEASURED, *WATCHED)],
        "measured": [_bar(f"measured/{name}") for name in LATER],
        "Model metrics": [_line(EVERY_EPOCH), _line("lr")],
    }
    state = {
        "searchFilter": view.filter,
        "orderByKey": "tags.`cell`",
        "orderByAsc": True,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "cell"}]},
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "compareRunCharts": [
            {**chart, "metricSectionId": name} for name, charts in sections.items() for chart in charts
        ],
        "compareRunSections": [
            {"uuid": name, "name": name, "display": name in ("valid", "test"), "columns": 2, "cardHeight": 420}
            for name in sections
        ],
        "isAccordionReordered": True,
    }
    saved = {"name": f"Mean over seeds: {view.title}", "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    return json.dumps(saved)


def _line(metric: str) -> dict[str, Any]:
    # The band of a group drags a linear axis down to zero, where the curves of losses are one; a KL can be zero.
    scale = "log" if metric.split("/")[-1] in MEASURED and not metric.endswith("/kl") else "linear"
    return {
        **_bar(metric),
        "type": "LINE",
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "xAxisScaleType": "linear",
        "scaleType": scale,
        "range": {},
        "lineSmoothness": 0,
    }


def _bar(metric: str) -> dict[str, Any]:
    return {"type": "BAR", "uuid": metric, "metricKey": metric, "runsCountToCompare": 100, "deleted": False}


def _page(server: str) -> str:
    return f"{server.rstrip('/')}/#"


def _json_in_url(values: Sequence[str]) -> str:
    return quote(json.dumps(values, separators=(",", ":")), safe="")


def _wait(server: "subprocess.Popen[bytes]", address: str, output: IO[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            return
        time.sleep(0.2)
    output.seek(0)
    last = " ".join(output.read().split())[-500:]
    raise ValueError(f"MLflow's server at {address} does not start; the end of its output: {last}")


def _end(server: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=5)


@contextlib.contextmanager
def _terminated_as_exit() -> Iterator[None]:
    """SIGTERM unwinds the stack, as Ctrl-C does, so that contexts end."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
