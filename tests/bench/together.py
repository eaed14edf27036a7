"""What a machine trains in all with a process for each trial, and with several trials in each process.

    python -m tests.bench.together [--trials 8] [--slots 2] [--together 4] [--sentences 400] [--rounds 3] [--json FILE]

Trials of the paper's sizes on generated text, through the queue, the store and Ray of a sweep, on the CPU: as many
processes at a time as slots, each with one trial after the other, or with so many side by side. Both take turns, in
processes of their own, so that a machine that is busy for a while slows both alike; the ratio is the median over the
rounds. Tokens per second are from the first trial's start to the last one's end.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sweep.plan import make_plan
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.work import train
from tests.bench.launched import launched
from tests.bench.process import machine

SPEC = """
name: together
base:
  data: {{kind: grammar, train: {sentences}, valid: 50, test: 50}}
  model: {model}
  train: {{epochs: 2}}
resources: {{together: {together}}}
seeds: {trials}
"""
MODELS = {
    "LSTM-LM": "{kind: lstm_lm}",
    "LSTM-VAE": "{kind: lstm_vae}",
    "LSTM-VAE (L = 5)": "{kind: lstm_vae, samples: 5}",
}


def speed(model: str, together: int, trials: int, slots: int, sentences: int) -> float:
    """Training tokens per second of all trials."""
    with tempfile.TemporaryDirectory() as scratch:
        spec = Path(scratch, "together.yaml")
        spec.write_text(SPEC.format(model=model, together=together, trials=trials, sentences=sentences))
        plan, store = make_plan(SweepSpec.load(str(spec)), Path(scratch)), TrialStore(scratch)
        launched(plan, plan.record.trials, store, slots, train)
        results = list(store.results(plan.record.wanted).values())
    assert len(results) == trials
    began, ended = min(result.started for result in results), max(result.finished for result in results)
    tokens = sum(len(result.history) * result.corpus["tokens"]["train"] for result in results)
    return float(tokens / (ended - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--together", type=int, default=4)
    parser.add_argument("--sentences", type=int, default=400, help="of an epoch, of which each trial has two")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements here as well")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        name, together = options.only
        print(speed(MODELS[name], int(together), options.trials, options.slots, options.sentences))
        return
    rows = []
    print(f"{'training tokens per second':26} {'one a process':>14} {f'{options.together} a process':>14} {'ratio':>6}")
    for name in MODELS:
        rounds = [[_in_own_process(name, each) for each in (1, options.together)] for _ in range(options.rounds)]
        alone, together = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(many / one for one, many in rounds)
        rows.append({"system": name, "alone": alone, "together": together, "ratio": ratio, "rounds": rounds})
        print(f"{name:26} {alone:14.0f} {together:14.0f} {ratio:6.2f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"facts": machine(), "rows": rows}, indent=1))


def _in_own_process(name: str, together: int) -> float:
    own: list[Any] = [sys.executable, "-m", "tests.bench.together", *sys.argv[1:], "--only", name, str(together)]
    done = subprocess.run(own, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
