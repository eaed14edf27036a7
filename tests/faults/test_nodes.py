"""Clusters that a sweep must not be entrusted to: one that is open, one that shares no store, one of mixed software."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.faults.chaos import Sweep, ended
from tests.faults.nodes import TOKEN, Nodes, cluster_of, without_folders

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def sweep(tmp_path: Path, chaos_corpora: Path) -> Sweep:
    return Sweep(tmp_path / "chaos", chaos_corpora, epochs=1, extra=dict(TOKEN))


def refused(sweep: Sweep, nodes: Nodes) -> str:
    """The one sentence with which a sweep refuses them, before it has written anything."""
    sweep.address = nodes.address
    assert sweep.start().wait(timeout=120) == 2, sweep.said()
    assert sweep.store.files.names() <= {"launches"}
    assert sweep.store.launches.names() == set()
    last = sweep.said().splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in sweep.said()
    return last


def test_a_cluster_that_asks_nobody_for_a_token_is_refused(sweep: Sweep) -> None:
    with cluster_of(0, mode="disabled") as nodes:
        sentence = refused(sweep, nodes)
    assert f"the Ray cluster at {sweep.address} takes commands from everybody who can reach it" in sentence
    assert "RAY_AUTH_MODE=token" in sentence
    assert TOKEN["RAY_AUTH_TOKEN"] not in sweep.said()


def test_nodes_that_do_not_share_the_store_are_refused(sweep: Sweep, tmp_path: Path) -> None:
    """They have a disk of their own in the place of the results, as machines without a common file system do."""
    results = Path(sweep.location)
    results.mkdir()
    if not (without := without_folders(results)):
        pytest.skip("needs the right to mount a disk: run as root")
    with cluster_of(1, before=without) as nodes:
        sentence = refused(sweep, nodes)
    assert f"it cannot use {results}" in sentence
    assert "results need a place that all nodes share" in sentence


def test_a_node_with_other_software_is_refused_and_the_doctor_says_so_too(sweep: Sweep, tmp_path: Path) -> None:
    other = tmp_path / "other" / "torch-2.0.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.0.0\n")
    path = os.pathsep.join(filter(None, (str(other.parent), os.environ.get("PYTHONPATH"))))
    with cluster_of(2, last=[f"PYTHONPATH={path}"]) as nodes:
        # Beside the sweep, for most of what both take is imports.
        doctor = subprocess.Popen(
            [*sweep.command("doctor"), "--address", nodes.address],
            env={**sweep.environment, "SWEEP_RESULTS": str(tmp_path / "others")},
            cwd=sweep.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with ended(doctor):
            sentence = refused(sweep, nodes)
            examined, _ = doctor.communicate(timeout=120)
    assert "its torch is 2.0.0 and the driver's is " in sentence
    assert doctor.returncode == 1, examined
    lines = [line.strip() for line in examined.splitlines() if "  node " in line]
    assert sorted(line.partition(" ")[0] for line in lines) == ["good", "good", "wrong"]
    assert f"PyTorch {version('torch')}, " in examined


OWN = """
from sweep.cluster import cluster, ray
from sweep.ray_token import refuse_open
from sweep.spec import Resources

if __name__ == "__main__":
    with cluster(Resources(), num_cpus=1):
        # Asked also where it says that it is on the loopback.
        refuse_open(ray.get_runtime_context().gcs_address.replace("127.0.0.1", "localhost."))
"""


def test_a_cluster_of_our_own_asks_for_a_token_that_is_in_no_file(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["HOME"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, tmp_path / "own.py"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / ".ray").exists()


def test_a_cluster_of_our_own_does_not_start_without_a_token(sweep: Sweep) -> None:
    sweep.extra = {"RAY_AUTH_MODE": "disabled"}
    assert sweep.start().wait(timeout=60) == 2
    assert "error: RAY_AUTH_MODE is disabled, with which whoever reaches this machine runs code on it" in sweep.said()
    assert sweep.store.files.names() == set()
