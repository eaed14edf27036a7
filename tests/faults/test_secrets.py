"""Secrets are planted wherever a sweep is given one, and looked for in everything that it writes and says."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.mlflow_ui import served
from tests.faults.chaos import SWEEP, make_corpus
from tests.sweep.webhook import SECRET, webhook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SPEC = """
name: quiet
base:
  data: {kind: lines, name: tiny}
  model: {kind: lstm_lm, embedding_dim: 6, hidden_dim: 8}
  train: {epochs: 2, batch_size: 16}
axes:
  method:
    works: {}
    broken: {update: {kind: joint, learning_rate: 3.0e+38, clip: 1.0e+38}}
notify: {webhook: MY_HOOK}
"""
PLANTED = {
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-password",
    "AWS_SECRET_ACCESS_KEY": "planted-key-of-a-bucket",
    "RAY_AUTH_TOKEN": "planted0token0of0ray" * 2,
    "WANDB_API_KEY": "planted-key-of-somebody-else",
}
IN_URI = "planted-password-of-the-uri"
LOOKS = [
    ("status", "quiet"),
    ("status", "quiet", "--json"),
    ("failures", "quiet"),
    ("doctor", "quiet.yaml"),
    ("report", "quiet"),
    ("sync", "quiet"),
    ("submit", "quiet.yaml", "--to", "ray-job", "--dry-run"),
]
EACH = """
import json, sys
from sweep.cli import main

codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["sweep", *words]
    try:
        main()
    except SystemExit as ended:
        codes.append(ended.code or 0)
print(json.dumps(codes))
"""
"""Commands in one process, which pays for the imports once, and their exit codes as its last line."""


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Where Ray writes; its sockets' paths have at most 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def test_no_secret_is_written_or_said(tmp_path: Path, ray_folder: Path) -> None:
    (tmp_path / "quiet.yaml").write_text(SPEC)
    make_corpus(tmp_path / "corpora")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    database = f"sqlite:///{tmp_path / 'served.db'}"
    with webhook() as hook, served(database, tmp_path / "artifacts", port):
        environment = {
            **os.environ,
            **PLANTED,
            "MY_HOOK": hook.url,
            "MLFLOW_TRACKING_URI": f"http://somebody:{IN_URI}@127.0.0.1:{port}",
            "RAY_TMPDIR": str(ray_folder),
        }
        done = [
            subprocess.run(
                words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=200
            )
            for words in ([SWEEP, "run", "quiet.yaml"], [sys.executable, "-c", EACH, json.dumps(LOOKS)])
        ]
    said = "".join(each.stdout + each.stderr for each in done)
    assert [each.returncode for each in done] == [1, 0], said
    assert json.loads(done[1].stdout.splitlines()[-1]) == [0, 0, 0, 0, 0, 0, 2], said
    assert [each["event"] for each in hook.posted] == ["failed", "finished"]
    assert "would stand in the job's command" in said

    written = {path: path.read_bytes() for path in files_below(tmp_path, ray_folder)}
    names = {path.name for path in written}
    assert {"result.json", "failure.json", "log.txt", "sweep.json", "report.html", "served.db"} <= names
    assert any("session_" in str(path) for path in written), "Ray has written elsewhere"
    for secret in (SECRET, IN_URI, *PLANTED.values()):
        leaks = [str(path) for path, content in written.items() if secret.encode() in content]
        assert not leaks, f"{secret} is in {leaks}"
        assert secret not in said
        assert secret not in str(hook.posted)


def files_below(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
