"""How long a sweep of 1,000 trials, 990 of them done, takes to its first new trial, and what it asks of the store.

python -m tests.bench.resume [--trials 1000] [--left 10] [--others 0]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from sweep.config import TrialConfig
from sweep.jobs import RESULT
from sweep.plan import make_plan
from sweep.record import SweepRecord
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.trial import run_trial

SPEC = """
name: large
base:
  data: {kind: lines, name: tiny}
  model: {kind: lstm_lm, embedding_dim: 4, hidden_dim: 5}
  train: {epochs: 30, batch_size: 8, plateau: {patience: 30}}
axes:
  method:
    LSTM-LM: {model: {init_range: 0.1}}
    another: {model: {init_range: 0.2}}
"""


def make_store(folder: Path, trials: int, left: int, others: int) -> SweepRecord:
    """A store in which all but `left` trials are done, and `others` that the sweep does not ask for.

    One trial is trained; its numbers stand for the others', which are read and never looked at.
    """
    corpora = folder / "corpora"
    (corpora / "tiny").mkdir(parents=True)
    for name in ("train", "valid", "test"):
        (corpora / "tiny" / f"{name}.txt").write_text(f"a b c\nb {name[1]} d e\nc d\n" * 4)
    (folder / "large.yaml").write_text(SPEC)
    plan = make_plan(SweepSpec.load(str(folder / "large.yaml"), [f"seeds={trials // 2}"]), corpora)
    store = TrialStore(folder / "results")
    store.record(plan.record)
    first, *rest = plan.record.trials
    result = run_trial(TrialConfig.parse(first.config), store, corpora)
    for trial in rest[: len(rest) - left]:
        done = replace(result, key=trial.key, config=trial.config)
        store.trial(trial.key).publish(RESULT, done.to_json().encode())
    for number in range(others):
        key = f"{number:064x}"
        store.trial(key).publish(RESULT, replace(result, key=key).to_json().encode())
    return plan.record


def seconds_to_first_start(folder: Path, record: SweepRecord, *options: str) -> float:
    """From the command to the first new trial's claim."""
    store = TrialStore(folder / "results")
    done = {key for key, state in store.states(record.wanted).items() if state == "done"}
    environment = {**os.environ, "SWEEP_RESULTS": str(folder / "results"), "SWEEP_CORPORA": str(folder / "corpora")}
    command = [str(Path(sys.executable).with_name("sweep")), "resume", "large", *options]
    began = time.monotonic()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        while not store.files.names("trials") - done:
            assert process.poll() is None, (folder / "output.txt").read_text()
            time.sleep(0.02)
        took = time.monotonic() - began
        process.terminate()
        process.wait()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--left", type=int, default=10)
    parser.add_argument("--others", type=int, default=0, help="trials in the store that the sweep does not ask for")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = make_store(Path(folder), options.trials, options.left, options.others)
        print(json.dumps({"seconds": round(seconds_to_first_start(Path(folder), record), 1)}))


if __name__ == "__main__":
    main()
