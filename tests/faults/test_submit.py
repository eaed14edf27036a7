"""Sweeps that are submitted, run and ended on real Ray clusters of this machine, by the files of `conf/cluster/`."""

import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from sweep.submission import ending
from tests.contracts.test_extension import ROOT
from tests.faults.chaos import Sweep, Undisturbed, ended, wait_for
from tests.here import sweep_here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CLUSTER = ROOT / "conf" / "cluster"
PROGRAMS = str(Path(sys.executable).parent)
MISSING = [name for name in ("aiohttp_cors", "colorful", "grpc", "opencensus", "smart_open") if not find_spec(name)]
needs_jobs = pytest.mark.skipif(bool(MISSING), reason=f"Ray's jobs API needs {', '.join(MISSING)}")
TELL = "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"
"""A program that says with what environment it was started, and ends with its input."""


@pytest.fixture
def sweep(tmp_path: Path, chaos_corpora: Path) -> Sweep:
    path = os.pathsep.join((str(tmp_path / "bin"), PROGRAMS, os.environ["PATH"]))
    (tmp_path / "bin").mkdir()
    return Sweep(tmp_path / "chaos", chaos_corpora, extra={"PATH": path})


def start(sweep: Sweep, *words: str) -> "subprocess.Popen[bytes]":
    sweep.launches += 1
    with (sweep.folder / f"launch{sweep.launches}.txt").open("wb") as output:
        return subprocess.Popen(words, cwd=sweep.folder, env=sweep.environment, stdout=output, stderr=output)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Mapping[str, str]]:
    """What the environment of whoever may use a cluster has of Ray, of the one that ships for a machine alone."""
    process = subprocess.Popen(
        [CLUSTER / "local" / "two-nodes.sh", sys.executable, "-c", TELL],
        env={**os.environ, "PATH": os.pathsep.join((PROGRAMS, os.environ["PATH"]))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with ended(process):
        told = json.loads(process.stdout.readline())
        yield {name: value for name, value in told.items() if name.startswith("RAY_")}
        process.communicate(timeout=60)


def submit(sweep: Sweep, *overrides: str) -> "subprocess.Popen[bytes]":
    return start(sweep, *sweep.command("submit", "chaos.yaml", *overrides, "--to", "ray-job"))


@needs_jobs
def test_the_exit_code_of_a_job_of_ray_is_the_sweeps_own(
    two_nodes: Mapping[str, str], sweep: Sweep, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Stopped and submitted again, failed, and refused where it runs: of three at once, for it takes half the time."""
    sweep.extra |= two_nodes
    failed, refused = (Sweep(tmp_path / name, sweep.corpora, extra=sweep.extra) for name in ("failed", "refused"))
    broken = ["seeds=1", "train.epochs=1", "update.learning_rate=3.0e+38", "update.clip=1.0e+38"]
    with ended(submit(sweep)) as first, ended(submit(failed, *broken)) as other:
        with ended(submit(refused, "resources.cpu=64")) as large:
            wait_for(lambda: sweep.progress() > 0 or first.poll() is not None, seconds=300)
            sweep_here("stop", "chaos", folder=sweep.folder, environment=sweep.environment)
            assert first.wait(timeout=120) == 3, sweep.said()
            assert "sent to ray-job as chaos-" in sweep.said()
            with ended(submit(sweep)) as again:
                assert again.wait(timeout=240) == 0, sweep.said()
            assert large.wait(timeout=120) == 2, refused.said()
        assert other.wait(timeout=120) == 1, failed.said()
    assert "64" in refused.said().splitlines()[-1]
    undisturbed.check(sweep)
    codes = {name: ending(sweep.store, "chaos", name.removesuffix(".json")) for name in submissions(sweep)}
    assert sorted(found.code for found in codes.values() if found) == [0, 3]


def submissions(sweep: Sweep) -> set[str]:
    return sweep.store.sweep("chaos").names("submissions")


@needs_jobs
def test_without_the_token_nobody_sees_or_sends_a_job(two_nodes: Mapping[str, str], sweep: Sweep) -> None:
    api = two_nodes["RAY_API_SERVER_ADDRESS"]
    job = json.dumps({"entrypoint": f"touch {sweep.folder / 'harm'}"}).encode()
    for token, code in (("", 401), ("wrong" * 8, 403), (two_nodes["RAY_AUTH_TOKEN"], 200)):
        assert asked(f"{api}/api/jobs/", token) == code
        if code != 200:
            assert asked(f"{api}/api/jobs/", token, job) == code
    without = {**sweep.environment, **two_nodes, "HOME": str(sweep.folder)}
    del without["RAY_AUTH_TOKEN"]
    listed = [
        subprocess.run(["ray", "job", "list"], env=environment, capture_output=True, text=True, check=False)
        for environment in (without, {**without, "RAY_AUTH_MODE": "disabled"}, {**sweep.environment, **two_nodes})
    ]
    assert [each.returncode == 0 for each in listed] == [False, False, True], listed
    wrong = {**without, "RAY_AUTH_TOKEN": "wrong" * 8}
    words = ["submit", "chaos.yaml", "--to", "ray-job"]
    said = sweep_here(*words, folder=sweep.folder, environment=wrong, code=2).stderr
    assert "refuses the job (HTTP status 403); check that the token here is the cluster's" in said
    assert not (sweep.folder / "harm").exists()


def asked(url: str, token: str, content: bytes | None = None) -> int:
    """HTTP status of the answer."""
    bearer = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, content, {**bearer, "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


SLURM = {
    # Without sbatch's own options, in a process group of its own, as Slurm's daemon runs a job.
    "sbatch": """
shift 2; script=$1; shift
cp "$script" "$HERE/script"; printf '%s\\n' "$@" > "$HERE/words"
setsid "$HERE/bin/job" > "$HERE/job.txt" 2>&1 &
echo $! > "$HERE/pid"; echo "$JOB"
""",
    # Runs the batch script; again, when that has asked for it.
    "job": """
export SLURM_JOB_ID=$JOB SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=$(hostname) SLURM_CPUS_PER_TASK=2
mapfile -t words < "$HERE/words"
while true; do
    rm -f "$HERE/requeue"
    bash "$HERE/script" "${words[@]}" & echo $! > "$HERE/batch"; wait $!; echo "exit code $?"
    [ -e "$HERE/requeue" ] || break
done
rm "$HERE/pid"
""",
    "squeue": '[ -e "$HERE/pid" ] && echo RUNNING; true',
    "scontrol": 'case "$1" in show) hostname;; requeue) touch "$HERE/requeue";; esac',
}
"""Slurm on one node as far as the batch script and the target see it."""


def job_number() -> int:
    """Of a job whose ports nobody on this machine uses, as Slurm's numbers do for its jobs that share a node."""
    while True:
        number = random.randrange(10**6)
        base = 10000 + number % 50 * 400
        with suppress(OSError), socket.create_server(("127.0.0.1", base)), socket.create_server(("", base + 20)):
            return number


def test_a_batch_job_of_slurm_is_ended_by_its_time_limit_and_goes_on(sweep: Sweep, undisturbed: Undisturbed) -> None:
    here, number = sweep.folder.parent, job_number()
    sweep.extra |= {"HERE": str(here), "JOB": str(number)}
    for name, script in SLURM.items():
        path = here / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{script}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    with ended(start(sweep, *sweep.command("submit", "chaos.yaml", "--to", "slurm"))) as waiting:
        try:
            wait_for(lambda: sweep.progress() > 2 or waiting.poll() is not None, seconds=300)
            # What --signal=B:TERM@180 does.
            os.kill(int((here / "batch").read_text()), signal.SIGTERM)
            assert waiting.wait(timeout=300) == 0, sweep.said()
        finally:
            print((here / "job.txt").read_text())
            with suppress(FileNotFoundError, ProcessLookupError):
                os.killpg(int((here / "pid").read_text()), signal.SIGKILL)
    said = (here / "job.txt").read_text()
    assert [line for line in said.splitlines() if line.startswith("exit code")] == ["exit code 3", "exit code 0"]
    assert "RAY_AUTH_TOKEN" not in said
    assert not Path(f"/tmp/ray-{number}").exists()
    undisturbed.check(sweep)
