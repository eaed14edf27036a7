"""Several processes that want the same trials: each is trained once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.cache import load
from sweep.config import TrialConfig, trial_key
from sweep.store import TrialStore
from tests.faults.chaos import EPOCHS, SMALL, Sweep, ended, wait_for

PROCESSES, TRIALS = 8, 200
WANT = """
import json, os, sys, time
from pathlib import Path
from random import Random
from sweep.claims import Launch, TakenError
from sweep.config import TrialConfig
from sweep.store import TrialStore
from tests.faults.chaos import EPOCHS, SMALL, Sweep, ended, wait_for
from sweep.outcome import Right
from sweep.trial import run_trial

results, corpora, number, ready, document, trials = sys.argv[1:]
store, trained = TrialStore(results), []
configs = [TrialConfig.parse({**json.loads(document), "seed": seed}) for seed in range(int(trials))]
# All start at once, in orders that meet.
Path(ready, number).touch()
while not Path(ready, "go").exists():
    time.sleep(0.01)
with Launch(store.launches, "") as launch:
    right = Right(launch.id, launch.stop)
    while configs:
        waiting = []
        for config in Random(int(number) // 2).sample(configs, len(configs)):
            try:
                run_trial(config, store, Path(corpora), right=right,
                          on_epoch=lambda record: record.epoch == 1 and trained.append(config.seed))
            except TakenError:
                waiting.append(config)
        configs = waiting
print(json.dumps(trained))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_eight_processes_train_each_of_200_trials_once(lines_corpus: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.mkdir()
    arguments = [str(ready), json.dumps(SMALL), str(TRIALS)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WANT, str(tmp_path / "results"), str(lines_corpus), str(number), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for number in range(PROCESSES)
    ]
    while len(list(ready.iterdir())) < PROCESSES:
        assert all(process.poll() is None for process in processes)
    (ready / "go").touch()
    trained: list[list[int]] = []
    for process in processes:
        out, errors = process.communicate(timeout=250)
        assert process.returncode == 0, errors
        trained.append(json.loads(out))
    assert sorted(seed for seeds in trained for seed in seeds) == list(range(TRIALS))
    assert sum(bool(seeds) for seeds in trained) > PROCESSES // 2, "they did not compete"
    store, corpus = TrialStore(tmp_path / "results"), None
    for seed in range(TRIALS):
        config = TrialConfig.parse({**SMALL, "seed": seed})
        corpus = corpus or load(config.data, lines_corpus)
        assert store.state(trial_key(config, corpus.content_hash)) == "done"
    assert store.launches.names() == set()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_sweeps_share_their_trials_and_no_sweep_has_two_drivers(tmp_path: Path, chaos_corpora: Path) -> None:
    """Two drivers at once: of other sweeps they train each trial once, of the same one the second is refused."""
    one = Sweep(tmp_path / "one", chaos_corpora)
    other = Sweep(tmp_path / "other", chaos_corpora, location=one.location)
    with ended(one.start()) as first, ended(other.start("name=other")) as second:
        wait_for(lambda: one.store.driver("chaos") is not None)
        again = one.command("run", "chaos.yaml")
        refused = subprocess.run(
            again, cwd=one.folder, env=one.environment, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 2
        complaint = refused.stderr.splitlines()[-1]
        assert complaint.startswith(f"error: sweep 'chaos' is being run by process {first.pid} on ")
        assert "last sign of life " in complaint
        one.finish(first)
        other.finish(second)
    for key in one.store.files.names("trials"):
        epochs = [line.split()[3] for line in one.store.log(key).splitlines()]
        assert epochs == [str(number) for number in range(1, EPOCHS + 1)], one.store.log(key)
    assert one.store.sweep("other").read("table.txt") == one.store.sweep("chaos").read("table.txt").replace(
        b"chaos", b"other", 1
    )
