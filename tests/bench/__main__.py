"""`make bench`: tokens per CPU-second of each system, ours and the plain version in turn, and the floor of both.

    python -m tests.bench [--sizes ptb yahoo] [--systems LSTM-VAE …] [--rounds 3] [--bf16] [--json FILE]
    python -m tests.bench --compare OLD.json NEW.json

The floor is a replay of the same matrix products and nothing else. Plain is PyTorch's LSTM, one decoder call a sample,
all logits and its cross-entropy, as anybody would run it; in brackets with our settings of the allocator. Ratios are
medians of rounds in which all take their turn, so that a machine that is busy for a while slows them alike.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import torch

from tests.bench.cases import SIZES, SYSTEMS, Case
from tests.bench.process import Worker, machine, worker

UNITS = {"train": "tokens", "bf16": "tokens", "evaluate": "tokens", "weigh": "sentences"}
NAMES = {"train": "training", "bf16": "training, bf16", "evaluate": "−ELBO", "weigh": "IW, K = 500"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["ptb", "yahoo"])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--tasks", nargs="+", choices=UNITS, default=["train", "evaluate", "weigh"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16 too, also where the CPU has none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements here as well")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="two such files, and stop")
    options = parser.parse_args()
    if options.compare:
        compare(*(json.loads(path.read_text()) for path in options.compare))
        return
    tasks = list(options.tasks)
    if options.bf16 or ("train" in tasks and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        tasks.insert(1, "bf16")
    print(
        f"{'per CPU-second of one thread':58} {'ours':>9} {'plain':>9} {'ours/plain':>16} {'of floor':>9} {'MiB':>12}"
    )
    rows = []
    for size in options.sizes:
        for system in options.systems:
            for row in measure(size, system, tasks, options.rounds):
                rows.append(row)
                print(line(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


def measure(size: str, system: str, tasks: Sequence[str], rounds: int) -> Iterator[dict[str, Any]]:
    """A row a task, the processes fresh for each, so that a peak of memory is of that task."""
    for task in tasks:
        if task == "weigh" and (
            not Case(SIZES[size], SYSTEMS[system]).has_latents or SYSTEMS[system].get("samples") != 1
        ):
            continue
        with ExitStack() as stack:
            ours = stack.enter_context(of_case(size, system))
            plain = stack.enter_context(of_case(size, system, "--plain"))
            kept = stack.enter_context(of_case(size, system, "--plain", "--keep-memory"))
            plain_task = "train" if task == "bf16" else task
            turns = [(ours, task), (plain, plain_task), (kept, plain_task)]
            for each, work in turns:
                each.ask(work)
            peaks = [ours.ask("peak")["peak_mib"], plain.ask("peak")["peak_mib"]]
            floor = (ours, f"floor of {plain_task}")
            ours.ask(floor[1])
            speeds = [[each.speed(work) for each, work in (*turns, floor)] for _ in range(rounds)]
        medians = [statistics.median(column) for column in zip(*speeds, strict=True)]
        ratios = [[s[0] / other for other in s[1:]] for s in speeds]
        by_plain, by_kept, by_floor = (statistics.median(column) for column in zip(*ratios, strict=True))
        yield {
            "size": size,
            "system": system,
            "task": task,
            "unit": f"{UNITS[task]} per CPU-second of one thread",
            **dict(zip(("ours", "plain", "plain_kept_memory", "floor"), medians, strict=True)),
            "ours_by_plain": by_plain,
            "ours_by_plain_kept_memory": by_kept,
            "ours_by_floor": by_floor,
            "peak_mib": peaks[0],
            "plain_peak_mib": peaks[1],
            "rounds": speeds,
        }


def of_case(size: str, system: str, *options: str) -> AbstractContextManager[Worker]:
    return worker("tests.bench.worker", "--size", size, "--system", system, *options)


def line(row: dict[str, Any]) -> str:
    name = f"{row['size']}, {row['system']}, {NAMES[row['task']]}"
    digits = 2 if row["ours"] < 10 else 0
    return (
        f"{name:58} {row['ours']:9.{digits}f} {row['plain']:9.{digits}f} {row['ours_by_plain']:8.2f} "
        f"({row['ours_by_plain_kept_memory']:.2f}) {row['ours_by_floor']:9.2f} "
        f"{row['peak_mib']:5.0f}/{row['plain_peak_mib']:.0f}"
    )


def compare(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Ours of two commits, also by the floor that each was measured with, so that the machine's hour cancels."""
    print(f"{old['machine']['commit'] + ' → ' + new['machine']['commit']:58} {'old':>9} {'new':>9} {'of floor':>16}")
    before = {(row["size"], row["system"], row["task"]): row for row in old["rows"]}
    for row in new["rows"]:
        was = before.get((row["size"], row["system"], row["task"]))
        if was:
            name = f"{row['size']}, {row['system']}, {NAMES[row['task']]}"
            by_floor = f"{was['ours_by_floor']:.3f} → {row['ours_by_floor']:.3f}"
            print(f"{name:58} {was['ours']:9.1f} {row['ours']:9.1f} {by_floor:>16}")


if __name__ == "__main__":
    main()
