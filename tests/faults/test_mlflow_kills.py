"""MLflow's database is whole or not there, whenever the process that makes it is killed."""

import os
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweep.plan import make_plan
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from tests.faults.chaos import SWEEP, kill, wait_for, write_spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_killed_while_it_makes_the_database_the_next_one_makes_it(tmp_path: Path, chaos_corpora: Path) -> None:
    store = TrialStore(tmp_path / "results")
    store.record(make_plan(SweepSpec.load(str(write_spec(tmp_path, epochs=1))), chaos_corpora).record)
    (tmp_path / "temporary").mkdir()
    own = {"SWEEP_RESULTS": str(store.location), "TMPDIR": str(tmp_path / "temporary")}
    command, environment = [str(SWEEP), "sync", "chaos"], {**os.environ, **own}

    def has_begun() -> bool:
        """Some of the tables are there."""
        return any(path.stat().st_size > 200_000 for path in tmp_path.rglob("mlflow.db"))

    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    wait_for(has_begun, every=0.001)
    assert process.poll() is None, "it was faster"
    kill(process)
    subprocess.run(command, env=environment, check=True)
    assert MlflowClient(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}").get_experiment_by_name("chaos") is not None
