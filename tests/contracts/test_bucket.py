"""A whole sweep in a bucket of an S3 server: the same numbers as in a folder, and few requests."""

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from sweep.claims import Launch
from sweep.jobs import RESULT
from sweep.store import TrialStore
from tests.contracts.conftest import Server
from tests.faults.chaos import Sweep, Undisturbed, ended, kill, wait_for
from tests.here import sweep_here


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_sweep_in_a_bucket_is_killed_and_goes_on(
    s3: Server, tmp_path: Path, chaos_corpora: Path, undisturbed: Undisturbed
) -> None:
    sweep = Sweep(tmp_path / "chaos", chaos_corpora, location=s3.new_bucket() + "/results")
    with ended(sweep.start()) as process:
        wait_for(lambda: sweep.progress() > 3, every=0.3)
        kill(process)
    sweep.finish()
    undisturbed.check(sweep)
    assert "continuing after epoch" in "".join(sweep.store.log(key) for key in sweep.store.files.names("trials"))
    own = {"SWEEP_RESULTS": str(sweep.store.location), "SWEEP_CORPORA": str(chaos_corpora)}
    command = partial(sweep_here, folder=tmp_path, environment=own)
    assert "8 trials wanted, 8 done" in command("status", "chaos").stdout
    key = next(iter(sweep.store.files.names("trials")))
    assert "equal in every number" in command("verify", key).stdout
    assert "bytes removed" in command("gc").stdout
    spec = str(sweep.folder / "chaos.yaml")
    assert "leave no place for MLflow's database" in command("run", spec, code=2).stderr


def test_requests_grow_with_what_is_asked_for(s3: Server) -> None:
    store = TrialStore(s3.new_bucket() + "/results")
    wanted = [f"{number:064x}" for number in range(20)]
    for key in wanted[:15]:
        store.trial(key).publish(RESULT, b"{}")
    counts = []
    for others in (0, 30):
        for number in range(others):
            store.trial(f"{number + 1000:064x}").publish(RESULT, b"{}")
        s3.requests()
        assert Counter(store.states(wanted).values()) == {"done": 15, "missing": 5}
        counts.append(len(s3.requests()))
    assert counts == [20, 20]
    with Launch(store.launches, "") as launch:
        s3.requests()
        attempt = store.begin(wanted[15], {}, launch.id)
        assert len(s3.requests()) <= 8
        attempt.check()
        assert len(s3.requests()) == 1
