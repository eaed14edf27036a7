"""What a GPU makes of the paper's PTB table: whether it is right there, how fast, and the table itself.

    python -m tests.bench.bench_gpu [--corpora corpora] [--precisions fp32 tf32 bf16] [--together 1 2 5 10 20]
        [--processes 2 8] [--cells NAME ...] [--seconds 3] [--minutes 0] [--train-in fp32] [--results results]
        [--json FILE] [--device cuda]

For a machine that has PyTorch, NumPy, pydantic, safetensors and PyYAML, and neither Ray nor MLflow. Where PTB is not
below --corpora, words at random of its sizes take its place, and no table is trained.

1. Each method's bound and gradient on the GPU are held against those on the CPU, on the same noise, without dropout.
2. Training tokens a second of each method: a trial by itself with its kernels launched one by one (eager), with a step
   a launch (graphed), so many side by side in this process, and in a process for each (which take turns, unless MPS
   runs there); the part of what the same GPU makes of products of large matrices; memory. From the best of them the
   hours that the 60 trials would take.
3. With --minutes, the table: as many trials side by side as was fastest, for so long; what is done, and the checkpoints
   of what is not, are in --results, from where any machine goes on (this again, or `sweep run ptb`; of another
   precision than fp32, `sweep run ptb train.precision=tf32`). `sweep table ptb` prints it.
"""

import argparse
import json
import math
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.batch import sequential_batches
from data.cache import load
from data.corpus import Corpus
from model import host
from model.randomness import generator
from sweep.alone import GRACE_SECONDS
from sweep.claims import Launch
from sweep.config import TrialConfig
from sweep.ending import ended_in_good_order
from sweep.exits import INTERRUPTED
from sweep.plan import Plan, make_plan
from sweep.resources import Share
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.together import together
from sweep.trial import prepare
from sweep.work import Assignment, train
from tests.bench.gpu_speed import ceiling, facts, measure, measure_processes, some_of

CLOSE = 2e-4
"""Relative difference of a bound or a gradient's norm that float32 in another order may make."""
SIZES = {"train": 42068, "valid": 3370, "test": 3761}  # PTB's, in sentences


def write_words_at_random(corpora: Path, part: float) -> str:
    """A text of PTB's numbers of sentences and words and about its lengths, or a part of them; its name."""
    source, folder = np.random.default_rng(0), corpora / "random"
    folder.mkdir(parents=True)
    for split, sentences in SIZES.items():
        lengths = np.clip(np.exp(source.normal(2.97, 0.54, max(40, int(part * sentences)))), 1, 82).astype(int)
        words = iter(source.zipf(1.2, int(lengths.sum())) % 9998)
        lines = (" ".join(f"w{next(words)}" for _ in range(length)) for length in lengths)
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return "random"


def plan_of(options: argparse.Namespace, scratch: Path) -> tuple[Plan, bool]:
    """The paper's table, and whether it is of PTB itself."""
    overrides = [f"train.precision={options.train_in}"]
    if (options.corpora / "ptb").is_dir():
        return make_plan(SweepSpec.load("ptb", overrides), options.corpora), True
    name = write_words_at_random(scratch, options.part)
    overrides += ["axes.dataset.PTB.data.kind=lines", f"axes.dataset.PTB.data.name={name}"]
    return make_plan(SweepSpec.load("ptb", overrides), scratch), False


def cells_of(plan: Plan) -> dict[str, TrialConfig]:
    """The first trial of each cell, by its name without the dataset's."""
    found: dict[str, TrialConfig] = {}
    for trial in plan.record.trials:
        name = " / ".join(label for axis, label in trial.labels.items() if axis != "dataset")
        found.setdefault(name, TrialConfig.parse(trial.config))
    return found


def differences(config: TrialConfig, corpus: Corpus, device: str) -> dict[str, float]:
    """Relative differences between the device and the CPU, of a batch's loss and of its gradient as a whole."""
    found = []
    tokens = next(sequential_batches(corpus.splits["valid"], 32)).tokens
    for each in ("cpu", device):
        model = prepare(config, corpus, "cpu").model.eval()
        noise = model.draw_noise(len(tokens), model.training_draws, generator(0, "noise")).to(each)
        model.to(each)
        loss = config.objective.at(1.0, 0.5)
        value, _ = loss(model, tokens.to(each), noise, generator(0, "step", each))
        value.backward()  # type: ignore[no-untyped-call]
        gradient = torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
        found.append((value.item(), gradient))
    (value, gradient), (other, others) = found
    return {
        "loss": abs(value - other) / abs(value),
        "gradient": float((gradient - others).norm() / gradient.norm()),
    }


def check(cells: dict[str, TrialConfig], corpus: Corpus, device: str) -> list[dict[str, Any]]:
    rows = []
    for name, config in cells.items():
        rows.append({"cell": name, **differences(config, corpus, device)})
        fine = max(rows[-1]["loss"], rows[-1]["gradient"]) < CLOSE
        print(f"{name:38} loss {rows[-1]['loss']:.1e}  gradient {rows[-1]['gradient']:.1e}  {'' if fine else 'WRONG'}")
    return rows


def speeds(
    cells: dict[str, TrialConfig], corpus: Corpus, corpora: Path, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Each cell at each precision: eager, graphed, so many side by side, and so many processes of one trial."""
    arms = [("eager", 1), *(("graphed", trials) for trials in options.together)]
    arms += [("processes", trials) for trials in options.processes]
    for precision in options.precisions:
        most = ceiling(options.device, precision, options.size)
        for name, config in cells.items():
            at = TrialConfig.parse(
                {**config.document(), "train": {**config.document()["train"], "precision": precision}}
            )
            operations = prepare(at, corpus, "cpu").model.operations_per_token
            for how, trials in arms:
                row = {"cell": name, "precision": precision, "how": how, "trials": trials}
                try:
                    found = (
                        measure_processes(at, corpora, options.device, "graphed", trials, options.seconds)
                        if how == "processes"
                        else measure(at, corpus, options.device, how, trials, options.seconds)  # type: ignore[arg-type]
                    )
                except RuntimeError as error:  # memory that has run out among them
                    yield {**row, "failed": str(error).splitlines()[0]}
                    continue
                # Three products of each weight a token: forward, and the gradients of input and weight.
                part = 3 * operations * found.tokens_per_second / most
                yield {
                    **row, "tokens_per_second": found.tokens_per_second, "steps_per_second": found.steps_per_second,
                    "of_ceiling": part, "bytes": found.bytes,
                }  # fmt: skip


def line(row: dict[str, Any]) -> str:
    start = f"{row['cell']:38} {row['precision']:5} {row['how']:8} {row['trials']:3}"
    if "failed" in row:
        return f"{start} {row['failed']}"
    return (
        f"{start} {row['tokens_per_second']:12,.0f} tokens/s {row['steps_per_second']:8.0f} steps/s "
        f"{100 * row['of_ceiling']:6.2f} % of products {row['bytes'] / 2**20:8.0f} MiB"
    )


def estimate(rows: Sequence[dict[str, Any]], plan: Plan, precision: str) -> float:
    """Hours of training of the cells on this device, each as it was fastest, all its trials to the last epoch.

    Infinite where nothing of a cell could be measured.
    """
    config, seeds = TrialConfig.parse(plan.record.trials[0].config), len(plan.record.trials) // len(cells_of(plan))
    tokens = seeds * config.train.epochs * plan.corpora(config.data).splits["train"].num_tokens
    cells = {row["cell"] for row in rows}
    found = [row for row in rows if row["precision"] == precision and "failed" not in row]
    best = [max((row["tokens_per_second"] for row in found if row["cell"] == cell), default=0.0) for cell in cells]
    return sum(tokens / speed if speed else math.inf for speed in best) / 3600


def side_by_side(rows: Sequence[dict[str, Any]], precision: str) -> int:
    """How many trials at once train all of the cells soonest."""
    seconds: dict[int, list[float]] = {}
    for row in rows:
        if row["how"] == "graphed" and row["precision"] == precision and "failed" not in row:
            seconds.setdefault(row["trials"], []).append(1 / row["tokens_per_second"])
    most = max((len(each) for each in seconds.values()), default=0)
    whole = {trials: sum(each) for trials, each in seconds.items() if len(each) == most}
    return min(whole, key=whole.__getitem__, default=1)


def train_table(plan: Plan, options: argparse.Namespace, at_once: int) -> None:
    """For so many minutes; those that are under way then leave their checkpoints, as they do at an interrupt."""
    store = TrialStore(options.results)
    store.record(plan.record)
    left = plan.missing(store.states(plan.record.wanted))
    this, share = Launch(store.launches, plan.record.name), asdict(Share(1, float(options.device == "cuda")))
    common = {"results": str(store.location), "corpora": str(options.corpora), "launch": this.id, "share": share}
    ending = threading.Timer(60 * options.minutes, this.stop.set)
    ending.daemon = True
    with this, ended_in_good_order(this, GRACE_SECONDS, print, lambda: os._exit(INTERRUPTED)):
        ending.start()
        for group in (left[first : first + at_once] for first in range(0, len(left), at_once)):
            if this.stop.is_set():
                break
            assignments = [Assignment(key=trial.key, config=trial.config, **common, threads=1) for trial in group]
            for told in together(assignments, options.device, train):
                if told.epoch is None:
                    print(f"{told.key[:12]} {told.cause or store.state(told.key)}", flush=True)
    ending.cancel()
    counts = list(store.states(plan.record.wanted).values())
    print(f"{counts.count('done')} of {len(counts)} trials are done in {options.results}; run this again to go on")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "tf32", "bf16"])
    parser.add_argument("--together", nargs="+", type=int, default=[1, 2, 5, 10, 20])
    parser.add_argument("--processes", nargs="*", type=int, default=[2, 8], help="of one trial each, side by side")
    parser.add_argument("--cells", nargs="+", metavar="NAME", help="which; all twelve by default")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=0.0, help="of the table's training")
    parser.add_argument("--train-in", default="fp32", metavar="PRECISION", help="of the table, one of --precisions")
    parser.add_argument("--results", default="results")
    parser.add_argument("--part", type=float, default=1.0, help="of the size of the words at random")
    parser.add_argument("--size", type=int, default=8192, help="of the matrices whose products are the ceiling")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements here as well")
    options = parser.parse_args()
    if options.train_in not in options.precisions:
        parser.error(f"--train-in is one of --precisions, {', '.join(options.precisions)}, not {options.train_in}")
    host.set_up(1)
    with tempfile.TemporaryDirectory() as scratch:
        plan, is_ptb = plan_of(options, Path(scratch))
        cells = cells_of(plan)
        cells = {name: cells[name] for name in options.cells or cells}
        corpus = load(next(iter(cells.values())).data, plan.corpora.folder)
        print(json.dumps(facts(options.device)))
        checked = check(cells, corpus, options.device)
        rows = []
        some = some_of(corpus, next(iter(cells.values())))
        for row in speeds(cells, some, plan.corpora.folder, options):
            rows.append(row)
            print(line(row), flush=True)
        hours = {precision: estimate(rows, plan, precision) for precision in options.precisions}
        for precision, each in hours.items():
            print(f"training of these {len(cells)} cells, {precision}: {each:.2f} hours")
        if options.json:
            found = {"facts": facts(options.device), "checked": checked, "rows": rows, "hours": hours}
            options.json.write_text(json.dumps(found, indent=1))
        if options.minutes and is_ptb:
            train_table(plan, options, side_by_side(rows, options.train_in))


if __name__ == "__main__":
    main()
