"""What the steps of a sweep take as it grows: seconds of each and its peak of memory, with trials that do no work.

    python -m tests.bench.scale [--trials 100 1000 10000] [--seeds 5] [--epochs 1] [--run 100] [--slots 2]
                                [--tracking-uri URI] [--only plan table …] [--json FILE]

A grid of five systems in two settings at as many learning rates as it takes. Of each size, in a store of its own:

plan        `sweep plan`, nothing being there yet
train       the first --run trials through the queue, the store and Ray; then the same code writes the other results,
            in no step
table       `sweep table`
resume      `sweep resume`, all being done, without MLflow
mirror      `sweep sync` into an MLflow that has nothing of it: at --tracking-uri, or in a new SQLite file
mirrored    the same again, which adds nothing
resume+     `sweep resume`, all being done and in MLflow
missing     `sweep resume` of which a hundredth is missing, without MLflow and Ray, to where a first trial would start

Each is a process of its own, and seconds are of all of it, imports included; so are CPU-seconds, of all its threads,
which other work on the machine changes less. MiB are of resident memory at its peak, of `train` the driver's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.launched import tiny_corpus
from tests.bench.process import machine

SETTINGS, SYSTEMS = 2, 5
SPEC = """
name: {name}
base:
  data: {{kind: lines, name: tiny}}
  model: {{embedding_dim: 4, hidden_dim: 5}}
  train: {{epochs: {epochs}}}
axes:
  setting:
    Standard: {{model: {{inputs: words}}}}
    Inputless: {{model: {{inputs: none}}}}
  method:
    LSTM-LM: {{model: lstm_lm, schedule: constant}}
    LSTM-VAE: {{model: {{kind: lstm_vae, latent_dim: 2}}}}
    LSTM-VAE (L = 5): {{model: {{kind: lstm_vae, latent_dim: 2, samples: 5}}}}
    LSTM-VAE-AVG (L = 5): {{model: {{kind: lstm_vae, latent_dim: 2, samples: 5, average: true}}}}
    AIN: {{model: {{kind: lstm_vae, latent_dim: 2}}, update: aggressive}}
  rate: {{{rates}}}
seeds: {seeds}
"""
STEPS = ("plan", "train", "table", "resume", "mirror", "mirrored", "resume+", "missing")


def write_spec(folder: Path, trials: int, options: argparse.Namespace) -> tuple[str, int]:
    """The sweep's name, which no other sweep of an MLflow has, and how many trials it has."""
    num_rates = max(1, trials // (SETTINGS * SYSTEMS * options.seeds))
    rates = ", ".join(f"'{n}': {{update: {{learning_rate: {n / num_rates:.6g}}}}}" for n in range(1, num_rates + 1))
    name = f"scale-{trials}-{uuid.uuid4().hex[:8]}"
    spec = SPEC.format(name=name, epochs=options.epochs, rates=rates, seeds=options.seeds)
    (folder / "scale.yaml").write_text(spec)
    return name, num_rates * SETTINGS * SYSTEMS * options.seeds


def run(folder: Path, step: str, **options: object) -> dict[str, Any]:
    """A step in its own process: what it says, and its seconds."""
    environment = {**os.environ, "SWEEP_RESULTS": str(folder / "results"), "SWEEP_CORPORA": str(folder / "corpora")}
    request = [sys.executable, "-m", "tests.bench.scale_step", json.dumps([step, options])]
    began = time.time()
    done = subprocess.run(request, env=environment, capture_output=True, text=True, check=False)
    ended = time.time()
    if done.returncode:
        raise ChildProcessError(f"step {step} {options} failed:\n{done.stdout}\n{done.stderr}")
    said = json.loads(done.stdout.splitlines()[-1])
    return {**said, "seconds": said.get("at", ended) - began}


def measured(trials: int, folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every step that was asked for, at one size."""
    tiny_corpus(folder / "corpora")
    name, size = write_spec(folder, trials, options)
    spec, uri = str(folder / "scale.yaml"), options.tracking_uri or f"sqlite:///{folder / 'mlflow.db'}"
    of_trainings = {"spec": spec, "epochs": options.epochs}
    commands = {
        "plan": ["plan", spec],
        "table": ["table", name],
        "resume": ["resume", name, "--no-tracking"],
        "mirror": ["sync", name, "--tracking-uri", uri],
        "mirrored": ["sync", name, "--tracking-uri", uri],
        "resume+": ["resume", name, "--tracking-uri", uri],
    }
    for step in STEPS:
        if step in options.only:
            if step in commands:
                found = run(folder, "command", words=commands[step])
            elif step == "train":
                found = run(folder, "train", **of_trainings, most=options.run, slots=options.slots)
            else:
                found = run(folder, "resume", name=name, left=max(1, size // 100))
            yield {"step": step, "of": size, **found}
        if step == "train":
            run(folder, "fill", **of_trainings)


def printed(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line a step: seconds, CPU-seconds and MiB at each size."""
    sizes = list(dict.fromkeys(row["of"] for row in rows))
    lines = ["trials    " + "".join(f"{size:>20,}" for size in sizes)]
    for step in dict.fromkeys(row["step"] for row in rows):
        cells = {
            row["of"]: f"{row['seconds']:.1f} {row['cpu']:6.1f} {row['bytes'] / 2**20:6.0f}"
            for row in rows
            if row["step"] == step
        }
        lines.append(f"{step:10}" + "".join(f"{cells.get(size, ''):>20}" for size in sizes))
    for row in rows:
        if row["step"] == "train":
            pace = row["seconds_a_trial"]
            lines.append(
                f"{row['trials']} of {row['of']:,} trained: {pace['first']:.3f} s a trial in the first quarter, "
                f"{pace['last']:.3f} s in the last"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--seeds", type=int, default=5, help="of each cell")
    parser.add_argument("--epochs", type=int, default=1, help="of each trial's history")
    parser.add_argument("--run", type=int, default=100, help="trials that go through Ray")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--tracking-uri", help="of an MLflow; a new SQLite file by default")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--json", type=Path, help="file to write what was measured to")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for trials in options.trials:
        with tempfile.TemporaryDirectory() as scratch:
            for row in measured(trials, Path(scratch), options):
                print(json.dumps(row), flush=True)
                rows.append(row)
    print(printed(rows))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
