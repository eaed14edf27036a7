"""Real processes, killed: at the end the store, the tables and MLflow are those of a sweep that nobody disturbed.

`make test PYTEST="-m long tests/faults"` runs the long form, with twenty kills of the driver in place of two.
"""

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from sweep.mlflow_ui import served
from tests.faults.chaos import Sweep, Undisturbed, ended, kill, wait_for
from tests.here import sweep_here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def sweep(tmp_path: Path, chaos_corpora: Path) -> Sweep:
    return Sweep(tmp_path / "chaos", chaos_corpora)


def test_the_driver_is_killed_at_random_moments(sweep: Sweep, undisturbed: Undisturbed) -> None:
    kill_again_and_again(sweep, undisturbed, kills=2)


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_the_driver_is_killed_twenty_times(tmp_path: Path, chaos_corpora: Path) -> None:
    (tmp_path / "undisturbed").mkdir()
    undisturbed = Undisturbed.make(tmp_path / "undisturbed", chaos_corpora, epochs=60)
    kill_again_and_again(Sweep(tmp_path / "chaos", chaos_corpora, epochs=60), undisturbed, kills=20)


def kill_again_and_again(sweep: Sweep, undisturbed: Undisturbed, kills: int) -> None:
    random, lost, reached = Random(12), [], []
    while sweep.kills < kills:
        with ended(sweep.start()) as process:
            before = sweep.progress()
            # From before anything is there to the last trials; every other one once training is known to go on.
            moment = random.uniform(0.5, 12.0)
            if sweep.kills % 2 == 0:
                wait_for(lambda before=before, process=process: sweep.progress() > before or process.poll() is not None)
                moment /= 4
            time.sleep(moment)
            assert process.poll() is None, "it was faster"
            kill(process)
        sweep.kills += 1
        reached.append(sweep.progress())
        lost.append(len(sweep.workers()))
        assert reached == sorted(reached), "an epoch that was kept is lost"
    sweep.finish()
    undisturbed.check(sweep)
    assert sweep.store.launches.names() == set()
    total = len(undisturbed.record.trials) * sweep.epochs
    print(f"driver killed {sweep.kills} times, at {reached} of {total} epochs, with {lost} trials under way")


def test_workers_are_killed_in_mid_epoch_while_mlflow_comes_and_goes(
    sweep: Sweep, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    database, random, killed = f"sqlite:///{tmp_path / 'served.db'}", Random(3), 0
    sweep.uri = f"http://127.0.0.1:{port}"
    with ended(sweep.start()) as process:  # MLflow is not there yet
        wait_for(lambda: sweep.progress() > 2)
        killed += _kill_one(sweep)
        with served(database, tmp_path / "artifacts", port):
            for _ in range(3):
                wait_for(lambda: sweep.workers() or process.poll() is not None)
                time.sleep(random.uniform(0.0, 1.0))
                killed += _kill_one(sweep)
        sweep.finish(process)  # and is away again
    assert "MLflow at http://127.0.0.1" in sweep.said()
    assert "worker-lost" in sweep.said()
    assert killed >= 2
    with served(database, tmp_path / "artifacts", port) as uri:
        # Trains nothing, and MLflow catches up.
        sweep_here("run", sweep.spec, folder=sweep.folder, environment=sweep.environment)
        sweep.uri = uri
        undisturbed.check(sweep)
    print(f"{killed} workers killed")


def _kill_one(sweep: Sweep) -> bool:
    """Whether there was a worker to be killed."""
    for worker in sweep.workers()[:1]:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
            return True
    return False
