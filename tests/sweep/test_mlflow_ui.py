"""The links to MLflow's pages, and what a browser shows behind them."""

import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from sweep.mirror import Mirror, default_uri
from sweep.mlflow_ui import chart_links, chart_views, compare_link, served
from sweep.mlflow_values import MEASURED
from sweep.record import EpochRecord, SweepRecord, TrialResult, WantedTrial
from sweep.store import TrialStore
from sweep.tracking import find_runs

FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"


ALL = "all trials"
TRIALS = tuple(
    WantedTrial(f"{data}{kind}{seed}", {"data set": data, "method": f"method {kind}"}, seed, {"model": {"kind": kind}})
    for data in ("PTB", "it's Yahoo")
    for kind in ("vae", "vmf")
    for seed in (1, 2)
)
RECORD = SweepRecord("shown", {}, TRIALS, {"split_by": "data set"})


def test_links() -> None:
    place = "http://127.0.0.1:5000/#/experiments/7/runs"
    expected = {
        title: f"{place}?viewStateShareKey={key}&compareRunsMode=CHART"
        for title, key in {ALL: "sweep", "PTB": "sweep-ptb", "it's Yahoo": "sweep-it-s-yahoo"}.items()
    }
    assert chart_links("http://127.0.0.1:5000", "7", RECORD) == expected
    assert chart_links("http://127.0.0.1:5000/", "7", RECORD) == expected
    assert chart_links("http://127.0.0.1:5000", "7", replace(RECORD, table={})).keys() == {ALL}
    large = replace(RECORD, trials=TRIALS * 13)
    assert list(chart_links("http://127.0.0.1:5000", "7", large)) == [
        "all trials, 100 of 104 until more are loaded",
        "PTB",
        "it's Yahoo",
    ]
    compare = compare_link("http://127.0.0.1:5000", "7", ["a", "b"])
    assert unquote(compare) == 'http://127.0.0.1:5000/#/compare-runs?runs=["a","b"]&experiments=["7"]'
    assert not set('"[] ') & set(compare)


def test_the_views_fit_a_tag_and_show_cells() -> None:
    views = chart_views(RECORD)
    assert all(len(value) < 20_000 for value in views.values())  # MLflow's limit for a tag of an experiment
    states = {tag: json.loads(json.loads(value)["state"]) for tag, value in views.items()}
    assert {tag: state["searchFilter"] for tag, state in states.items()} == {
        "mlflow.sharedViewState.sweep": "tags.`cell` LIKE '%'",
        "mlflow.sharedViewState.sweep-ptb": "tags.`data set` = 'PTB'",
        "mlflow.sharedViewState.sweep-it-s-yahoo": 'tags.`data set` = "it\'s Yahoo"',
    }
    state = states["mlflow.sharedViewState.sweep"]
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "cell"}]
    charts = {chart["metricKey"]: chart for chart in state["compareRunCharts"]}
    assert {f"valid/{name}" for name in MEASURED} <= charts.keys()
    assert charts["valid/nll"]["type"] == "LINE"
    assert charts["test/nll"]["type"] == "BAR"
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in charts.values()} == sections


def test_a_port_in_use_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ValueError, match=rf"port {port} cannot be used .*--port"),
            served("sqlite://", tmp_path, port),
        ):
            pass


@pytest.mark.slow
def test_the_server_ends_with_a_terminated_parent(tmp_path: Path, free_port: int) -> None:
    script = f"""
import time
from pathlib import Path
from sweep.mlflow_ui import served
with served({default_uri(tmp_path)!r}, Path({str(tmp_path)!r}), {free_port}) as address:
    print(address, flush=True)
    time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        address = parent.stdout.readline().strip()
    os.kill(parent.pid, signal.SIGTERM)
    assert parent.wait(timeout=30) == 143
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{address}/health", timeout=2)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine: apt-get install chromium")
def test_a_browser_shows_a_line_a_cell(tmp_path: Path, free_port: int) -> None:
    mirror_all(tmp_path)
    found = find_runs(default_uri(tmp_path), RECORD.name)
    assert found is not None
    with served(default_uri(tmp_path), tmp_path / "artifacts", free_port) as server:
        links = chart_links(server, found[0], RECORD)
        for title, trials in {ALL: TRIALS, "it's Yahoo": TRIALS[4:]}.items():
            charts = html.unescape(page(links[title], tmp_path, "(valid/nll)<"))
            cells = {trial.cell for trial in trials}
            assert set(re.findall(r"Group: ([^<>]*)<", charts)) == cells
            assert set(re.findall(r">([^<>]*) \(valid/nll\)<", charts)) == cells
        link = compare_link(server, found[0], [found[1][trial.key] for trial in TRIALS[:4]])
        compared = page(link, tmp_path, "model.kind")
    assert "Comparing 4 Runs" in compared
    assert "model.kind" in compared


def page(link: str, profile: Path, awaited: str) -> str:
    """What a browser has made of a page once its scripts have run.

    The browser's own clock runs ahead of a busy machine's server: it gets more of it until `awaited` is on the page.
    """
    command = ["chromium", *FLAGS.split(), f"--user-data-dir={profile / 'profile'}", "--window-size=1600,1400"]
    shown = ""
    for seconds in (30, 60, 120, 240):
        budget = f"--virtual-time-budget={seconds * 1000}"
        shown = subprocess.run(
            [*command, budget, "--dump-dom", link], capture_output=True, text=True, timeout=110, check=False
        ).stdout
        if awaited in html.unescape(shown):
            break
    return shown


def mirror_all(folder: Path) -> None:
    mirror = Mirror(default_uri(folder), RECORD, TrialStore(folder))
    assert mirror.open() is None
    for trial in TRIALS:
        mirror.finished(trial, result_of(trial))
    assert mirror.close() is None


def result_of(trial: WantedTrial) -> TrialResult:
    measured = dict.fromkeys(MEASURED, 100.0 + trial.seed)
    history = tuple(EpochRecord(n, 1.79e9 + n, 1.0, 1.0, 1.0, measured, measured, True) for n in range(1, 6))
    return TrialResult(
        version=1,
        key=trial.key,
        config=trial.config,
        corpus={"title": "PTB", "content_hash": "c0ffee"},
        parameters=7,
        latents_per_sentence=1,
        best_epoch=5,
        beta_at_best=1.0,
        valid=measured,
        test=measured,
        history=history,
        cost={"seconds": 3.0, "epochs": 5, "train_tokens_per_second": 1.0},
        environment={},
        started=1.79e9,
        finished=1.79e9 + 9,
    )


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
