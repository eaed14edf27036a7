"""Sweeps that are submitted, run and ended on real Ray clusters of this machine, by the files of `conf/cluster/`."""

import os
import signal
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from sweep.submission import ending
from tests.contracts.test_extension import ROOT
from tests.faults.chaos import Sweep, Undisturbed, ended, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CLUSTER = ROOT / "conf" / "cluster"
PROGRAMS = str(Path(sys.executable).parent)
MISSING = [name for name in ("aiohttp_cors", "colorful", "grpc", "opencensus", "smart_open") if not find_spec(name)]


@pytest.fixture
def sweep(tmp_path: Path, chaos_corpora: Path) -> Sweep:
    path = os.pathsep.join((str(tmp_path / "bin"), PROGRAMS, os.environ["PATH"]))
    (tmp_path / "bin").mkdir()
    return Sweep(tmp_path / "chaos", chaos_corpora, extra={"PATH": path})


def start(sweep: Sweep, *words: str) -> "subprocess.Popen[bytes]":
    sweep.launches += 1
    with (sweep.folder / f"launch{sweep.launches}.txt").open("wb") as output:
        return subprocess.Popen(words, cwd=sweep.folder, env=sweep.environment, stdout=output, stderr=output)


@pytest.mark.skipif(bool(MISSING), reason=f"Ray's dashboard needs {', '.join(MISSING)}")
def test_a_job_of_ray_on_two_nodes(sweep: Sweep, undisturbed: Undisturbed) -> None:
    """Ended in good order on the way, which Ray has no exit code for, and submitted again."""
    nodes = str(CLUSTER / "local" / "two-nodes.sh")
    # A command for the cluster's life: the first submission is stopped, the second comes to the end.
    words = 'sweep submit chaos.yaml --to ray-job; echo "first ended with $?"; sweep submit chaos.yaml --to ray-job'
    with ended(start(sweep, nodes, "bash", "-c", words)) as process:
        wait_for(lambda: sweep.progress() > 2 or process.poll() is not None)
        subprocess.run(sweep.command("stop", "chaos"), env=sweep.environment, cwd=sweep.folder, check=True)
        assert process.wait(timeout=300) == 0, sweep.said()
    assert "first ended with 3" in sweep.said()
    assert "sent to ray-job as chaos-" in sweep.said()
    undisturbed.check(sweep)
    codes = {name: ending(sweep.store, "chaos", name.removesuffix(".json")) for name in submissions(sweep)}
    assert sorted(found.code for found in codes.values() if found) == [0, 3]


def submissions(sweep: Sweep) -> set[str]:
    return sweep.store.sweep("chaos").names("submissions")


SLURM = {
    # Without sbatch's own options, in a process group of its own, as Slurm's daemon runs a job.
    "sbatch": """
shift 2; script=$1; shift
cp "$script" "$HERE/script"; printf '%s\\n' "$@" > "$HERE/words"
setsid "$HERE/bin/job" > "$HERE/job.txt" 2>&1 &
echo $! > "$HERE/pid"; echo 77
""",
    # Runs the batch script; again, when that has asked for it.
    "job": """
export SLURM_JOB_ID=77 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=$(hostname) SLURM_CPUS_PER_TASK=2
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


def test_a_batch_job_of_slurm_is_ended_by_its_time_limit_and_goes_on(sweep: Sweep, undisturbed: Undisturbed) -> None:
    here = sweep.folder.parent
    sweep.extra["HERE"] = str(here)
    for name, script in SLURM.items():
        path = here / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{script}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    submit = start(sweep, *sweep.command("submit", "chaos.yaml", "--to", "slurm"))
    with ended(submit):
        wait_for(lambda: sweep.progress() > 2 or submit.poll() is not None)
        # What --signal=B:TERM@180 does.
        os.kill(int((here / "batch").read_text()), signal.SIGTERM)
        try:
            assert submit.wait(timeout=300) == 0, sweep.said() + (here / "job.txt").read_text()
        finally:
            print((here / "job.txt").read_text())
    said = (here / "job.txt").read_text()
    assert [line for line in said.splitlines() if line.startswith("exit code")] == ["exit code 3", "exit code 0"]
    assert "RAY_AUTH_TOKEN" not in said
    assert not Path("/tmp/ray-77").exists()
    undisturbed.check(sweep)
