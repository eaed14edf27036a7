"""What a search is worth and what it costs, on a synthetic objective with a known optimum in place of training.

python -m tests.bench.search [--repetitions 20] [--budget 30] [--cells 4] [--slots 4]

The same queue, store, Optuna and Ray as for a sweep; only what a worker does with a trial is another function.
First TPE against random search at equal budget: how far each ends from the optimum, the median over repetitions. Then
how busy the slots are while trials of random length are searched in several cells at once.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from rich.console import Console

from sweep.claims import Launch
from sweep.cluster import cluster
from sweep.launch import launch
from sweep.plan import make_plan
from sweep.points import read_points
from sweep.progress import Progress, of_training
from sweep.queue import TrialQueue
from sweep.record import TrialResult
from sweep.resources import Cluster
from sweep.run import default_storage
from sweep.search_source import Search
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.work import Assignment, Report, Work
from tests.bench.launched import tiny_corpus
from tests.bench.pretend import pretend

OPTIMUM = {"learning_rate": 0.7, "word_dropout": 0.35, "latent_dim": 24}
SPEC = """
name: NAME
base:
  data: {kind: lines, name: tiny}
  model: {kind: lstm_vae, embedding_dim: 4, hidden_dim: 5}
  train: {epochs: 1}
axes:
  cell: {}
search:
  space:
    update.learning_rate: {float: [0.001, 100.0], log: true}
    model.word_dropout: {float: [0.0, 0.9]}
    model.latent_dim: {int: [1, 64]}
    train.batch_size: {choice: [8, 16, 32]}
  grid: false
"""


def distance(config: Mapping[str, Any]) -> float:
    """From the optimum, 0 at it: a bowl in each field, and a step in the one that has no order."""
    rate = math.log10(config["update"]["learning_rate"] / OPTIMUM["learning_rate"])
    dropout = config["model"]["word_dropout"] - OPTIMUM["word_dropout"]
    size = (config["model"]["latent_dim"] - OPTIMUM["latent_dim"]) / 16
    return rate**2 + 10 * dropout**2 + size**2 + (0.0 if config["train"]["batch_size"] == 16 else 1.0)


def taking(longest: float) -> Work:
    """In place of a training: how far from the optimum, after up to `longest` seconds, at least a third of them."""

    def work(assignment: Assignment, device: str, report: Report) -> None:
        pretend(assignment, Random(assignment.key).uniform(longest / 3, longest), distance(assignment.config))

    return work


def search(
    name: str, folder: Path, cells: int, overrides: list[str], where: Cluster, work: Work
) -> list[list[TrialResult]]:
    """The results of each cell of a search, in the order of their suggestions."""
    labels = ", ".join(f"'{number}': {{}}" for number in range(cells))
    spec = folder / f"{name}.yaml"
    spec.write_text(SPEC.replace("NAME", name).replace("cell: {}", f"repetition: {{{labels}}}"))
    plan = make_plan(SweepSpec.load(str(spec), overrides), folder / "corpora")
    store = TrialStore(folder / name)
    with Launch(store.launches, name) as this, Progress([], plan.costs, Console(quiet=True), of_training) as progress:
        source = Search(plan, store, default_storage(store.location), None, print)
        queue = TrialQueue([], store, plan.fields.retry, [progress], this.id, plan.bytes_needed, source)
        launch(queue, store, plan.corpora, where, this, 60.0, work)
    points = [read_points(store, name, study.id) for study in plan.record.studies]
    return [[store.result(point.trials[0].key) for point in cell] for cell in points]


def busy(cells: list[list[TrialResult]], slots: int) -> float:
    """Share of the slots' time that was spent in trials, from the first start to that of the last suggestion."""
    results = [result for cell in cells for result in cell]
    began, last = min(result.started for result in results), max(result.started for result in results)
    return sum(min(result.finished, last) - result.started for result in results) / (slots * (last - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--budget", type=int, default=30)
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--longest", type=float, default=3.0, help="seconds of a trial whose slots are watched")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tiny_corpus(folder / "corpora")
        spec = SweepSpec.load("tune-demo")
        with cluster(spec.fields.resources, None, options.slots) as where:
            found = {}
            for sampler in ("tpe", "random") if options.repetitions else ():
                overrides = ["seeds=1", f"search.budget={options.budget}", f"search.sampler={sampler}"]
                cells = search(sampler, folder, options.repetitions, overrides, where, taking(0.0))
                found[sampler] = median(min(result.valid["nll"] for result in cell) for cell in cells)
            overrides = ["seeds=1", f"search.budget={options.budget}"]
            cells = search("busy", folder, options.cells, overrides, where, taking(options.longest))
    print(json.dumps({
        "repetitions": options.repetitions, "budget": options.budget, "median_distance": found,
        "cells": options.cells, "slots": options.slots, "busy": busy(cells, options.slots),
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
