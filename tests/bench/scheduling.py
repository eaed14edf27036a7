"""How busy the slots of a launch are, and what a trial costs besides itself, next to Ray Tune used plainly.

    python -m tests.bench.scheduling [--trials 200] [--slots 8] [--shortest 1] [--longest 10] [--without-tune]

Trials that sleep, for random times, longest first: through the queue, the store and Ray of a sweep; and the same times
in the same order as a `grid_search` of a `tune.Tuner` with `MLflowLoggerCallback` on SQLite, in a process of its own.
Efficiency is the sum of the trials' times over slots × makespan: from the first trial's start to the last one's end,
and from the launch on, in which workers have to be started. Overhead is the time between two trials of one worker.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from sweep.plan import make_plan
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from tests.bench.launched import launched, tiny_corpus
from tests.bench.pretend import pretend
from tests.bench.slots import Slept, measured

SPEC = """
name: sleepers
base:
  data: {kind: lines, name: tiny}
  model: {kind: lstm_lm, embedding_dim: 4, hidden_dim: 5}
  train: {epochs: 1}
"""


def lengths(options: argparse.Namespace) -> list[float]:
    """Seconds of each trial, the longest first."""
    source = Random(0)
    return sorted((source.uniform(options.shortest, options.longest) for _ in range(options.trials)), reverse=True)


def ours(seconds: Sequence[float], slots: int, folder: Path) -> dict[str, Any]:
    """The trials as a sweep's."""
    tiny_corpus(folder / "corpora")
    (folder / "sleepers.yaml").write_text(SPEC)
    spec = SweepSpec.load(str(folder / "sleepers.yaml"), [f"seeds={len(seconds)}"])
    plan, store = make_plan(spec, folder / "corpora"), TrialStore(folder / "results")
    trials = list(plan.record.trials)
    of_key = {trial.key: each for trial, each in zip(trials, seconds, strict=True)}
    began = launched(plan, trials, store, slots, lambda each, *_: pretend(each, of_key[each.key], 0.0))
    done = store.results(of_key).values()
    assert len(done) == len(trials)
    slept = [Slept(result.environment["process"], result.started, result.finished) for result in done]
    return measured(slept, slots, began)


def plain_tune(seconds: Sequence[float], slots: int) -> dict[str, Any]:
    """The same times by Ray Tune alone, in a process where nothing of ours has set how it behaves."""
    kept = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_"))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.plain_tune"],
        env=plain | {name: os.environ[name] for name in kept},
        input=json.dumps({"slots": slots, "seconds": seconds}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    return measured([Slept(**each) for each in found["slept"]], slots, found["launched"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--shortest", type=float, default=1.0, help="seconds of a trial, at least")
    parser.add_argument("--longest", type=float, default=10.0, help="and at the most")
    parser.add_argument("--without-tune", action="store_true", help="do not measure Ray Tune by itself")
    options = parser.parse_args()
    seconds = lengths(options)
    with tempfile.TemporaryDirectory() as scratch:
        found = {"ours": ours(seconds, options.slots, Path(scratch))}
    if not options.without_tune:
        found["tune"] = plain_tune(seconds, options.slots)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
