"""MLflow as a server on PostgreSQL, with a password: whatever is killed, each trial has one complete run at the end."""

import base64
import http.client
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sweep.mlflow_values import epoch_metrics
from sweep.run import write_tables
from sweep.tracking import KEY, Experiment
from tests.faults.chaos import SMALL, SWEEP, Sweep, Undisturbed, ended, runs, wait_for
from tests.faults.server import HOST, Postgres, Server, serving, what_is_missing
from tests.faults.test_secrets import files_below
from tests.here import sweep_here

MISSING = what_is_missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(MISSING), reason=f"MLflow's server on PostgreSQL needs {MISSING}"),
]
EPOCHS = 30
AWAY = 2.0
"""Seconds between a kill and the start after it."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """It, and the environment of who may use it."""
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", running.password)
    return running


def test_eight_trials_at_once_while_the_server_and_then_its_database_are_killed(
    server: Server, tmp_path: Path, chaos_corpora: Path
) -> None:
    with TemporaryDirectory(prefix="ray-", dir="/tmp") as ray_folder:
        extra = {"RAY_TMPDIR": ray_folder}
        sweep = Sweep(tmp_path / "chaos", chaos_corpora, server.uri, epochs=EPOCHS, extra=extra)
        with ended(sweep.start("--num-cpus", "8")) as process:
            wait_for(lambda: count(server) > 0)
            reached = [count(server)]
            kill_for_a_while(server.database)
            wait_for(lambda: len(sweep.workers()) == 8 and count(server, "DISTINCT run_uuid") == 8)
            reached.append(count(server))
            kill_for_a_while(server)
            server.wait()
            assert process.poll() is None, "it was faster"
            sweep.finish(process)
        assert "warning" not in sweep.said()
        check_nothing_is_lost_or_twice(server, sweep, tmp_path)
        print(f"database and server killed at {reached} of {count(server)} points")
        check_no_password_is_kept(server, tmp_path, Path(ray_folder))


def kill_for_a_while(victim: Server | Postgres) -> None:
    victim.kill()
    time.sleep(AWAY)
    victim.start()


def count(server: Server, what: str = "*") -> int:
    """Of the points of metrics in the database; none while it is not there."""
    import psycopg

    with suppress(psycopg.Error):
        return int(server.database.all_of(f"SELECT count({what}) FROM metrics")[0][0])
    return 0


def check_nothing_is_lost_or_twice(server: Server, sweep: Sweep, folder: Path) -> None:
    record, synced = sweep.store.recorded("chaos"), f"sqlite:///{folder / 'synced.db'}"
    Experiment(synced, record, sweep.store).sync(write_tables(record, sweep.store))
    assert runs(server.uri, "chaos") == runs(synced, "chaos")

    # As the store has it, by another way than the mirror's.
    trials = server.database.all_of(f"SELECT value, run_uuid FROM tags WHERE key = '{KEY}'")
    assert sorted(key for key, _ in trials) == sorted(record.wanted)
    client = MlflowClient(server.uri)
    for key, run in trials:
        result = sweep.store.result(key)
        assert len(result.history) == EPOCHS
        expected = Counter(
            (name, epoch.epoch, value) for epoch in result.history for name, value in epoch_metrics(epoch).items()
        )
        names = {name for name, _, _ in expected}
        stored = server.database.all_of(f"SELECT key, step, value FROM metrics WHERE run_uuid = '{run}'")
        assert Counter(point for point in stored if point[0] in names) == expected
        kept = client.download_artifacts(run, "result.json", str(folder))
        assert Path(kept).read_bytes() == sweep.store.trial(key).read("result.json")


def check_no_password_is_kept(server: Server, *folders: Path) -> None:
    """Nowhere but in the file that tells MLflow of its database, which is for its user alone."""
    settings = server.folder / "auth.ini"
    assert settings.stat().st_mode & 0o077 == 0
    written = set(files_below(*folders, server.folder, server.database.folder)) - {settings}
    assert {"result.json", "log.txt", "mlflow.txt", "postgres.txt"} <= {path.name for path in written}
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    texts = server.database.all_of("SELECT value FROM params UNION SELECT value FROM tags")
    for secret in (server.password, server.database.password):
        assert not [path for path in written if secret.encode() in path.read_bytes()]
        assert not [command for command in commands if secret.encode() in command]
        assert not [text for (text,) in texts if secret in text]


def test_a_wrong_password_costs_a_sentence_and_no_training(server: Server, tmp_path: Path, chaos_corpora: Path) -> None:
    (tmp_path / "locked.yaml").write_text(yaml.safe_dump({"name": "locked", "base": SMALL, "axes": {}, "seeds": 1}))
    where = {
        "SWEEP_RESULTS": str(tmp_path / "results"),
        "SWEEP_CORPORA": str(chaos_corpora),
        "MLFLOW_TRACKING_URI": server.uri,
    }
    wrong = {**where, "MLFLOW_TRACKING_PASSWORD": "a-wrong-password"}
    trained = subprocess.run(
        [SWEEP, "run", "locked.yaml", "--num-cpus", "1"],
        cwd=tmp_path, env={**os.environ, **wrong}, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    warnings = [line for line in trained.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2, trained.stderr
    assert warnings[0].startswith(f"warning: MLflow at {server.uri} cannot be used (HTTP 401; MLFLOW_TRACKING_USERNAME")
    assert "'sweep sync locked' writes them" in warnings[1]
    for password in ("a-wrong-password", ""):
        synced = sweep_here(
            "sync", "locked", folder=tmp_path, environment={**where, "MLFLOW_TRACKING_PASSWORD": password}, code=2
        )
        assert synced.stderr.startswith(f"error: MLflow at {server.uri} cannot be used (HTTP 401; ")
        assert len(synced.stderr.splitlines()) == 1
    assert "a-wrong-password" not in trained.stdout + trained.stderr + synced.stderr
    sweep_here("sync", "locked", folder=tmp_path, environment=where)
    assert len(runs(server.uri, "locked")) == 3


def test_without_the_password_nothing_can_be_read(server: Server) -> None:
    def status(path: str, **headers: str) -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(server.uri + path, headers=headers), timeout=20) as got:
                return int(got.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    password = base64.b64encode(f"admin:{server.password}".encode()).decode()
    for path in ("/", "/api/2.0/mlflow/experiments/search?max_results=1", "/api/2.0/mlflow-artifacts/artifacts"):
        assert status(path) == 401, path
        assert status(path, Authorization=f"Basic {base64.b64encode(b'admin:no').decode()}") == 401
        assert status(path, Authorization=f"Basic {password}") == 200
        assert status(path, Authorization=f"Basic {password}", Host="elsewhere.example") == 403
    assert status("/health") == 200


def test_answers_that_are_lost_make_no_second_run(server: Server, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Every request is carried out, and of some the answer is lost on the way: also of those that make runs."""
    record = replace(undisturbed.record, name="lossy", trials=undisturbed.record.trials[:2])
    store = undisturbed.store
    with answers_lost(server, Random(7)) as uri:
        experiment = insist(lambda: Experiment(uri, record, store))
        for trial in record.trials:
            insist(lambda trial=trial: experiment.start(trial))
            for epoch in store.result(trial.key).history[::4]:
                insist(lambda trial=trial, epoch=epoch: experiment.epoch(trial, epoch))
        insist(lambda: experiment.sync(()))
    synced = f"sqlite:///{tmp_path / 'synced.db'}"
    Experiment(synced, record, store).sync(())
    assert runs(server.uri, "lossy") == runs(synced, "lossy")


def insist(call: Callable[[], Any]) -> Any:
    while True:
        with suppress(MlflowException):
            return call()


@contextmanager
def answers_lost(server: Server, random: Random) -> Iterator[str]:
    """A way to the server on which a third of its answers are lost."""

    class Relay(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            sent = {name: text for name, text in self.headers.items() if name.lower() != "host"}
            connection = http.client.HTTPConnection(HOST, server.port)
            connection.request(self.command, self.path, body, sent)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if random.random() < 1 / 3:
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer((HOST, 0), Relay) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        try:
            yield f"http://{HOST}:{relay.server_port}"
        finally:
            relay.shutdown()
