"""What a machine trains in all when its cores have a trial of one thread each, and when one trial has them all.

    python -m tests.bench.threads [SWEEP] [--tokens 3000] [--rounds 3] [--setting Standard] [--methods A B …]
        [--corpora corpora] [--json FILE]

A system is a cell of the sweep with the setting's label, with seed 0. The trials of one thread and the one of many take
turns, each of the same batches; the ratio is the median over the rounds, so that a machine that is busy for a while
slows both alike.
"""

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sweep.exits import told
from sweep.spec import SweepSpec
from tests.bench.process import TaskFailedError, Worker, machine
from tests.bench.systems import System, named, of_system, positive, systems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", nargs="?", default="ptb-systems", help="a name of conf/sweep/, or a .yaml file")
    parser.add_argument("--tokens", type=positive, default=3000, help="of training in a turn, in whole batches")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--cores", type=positive, default=os.cpu_count(), help="trials of one thread, threads of one")
    parser.add_argument("--setting", default="Standard", help="label of the axis whose labels a table has side by side")
    parser.add_argument("--methods", nargs="+", metavar="LABEL", help="which systems, by a label or their whole name")
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements here as well")
    options = parser.parse_args()
    options.valid = 1
    with told():
        found = systems(SweepSpec.load(options.sweep), options.setting)
        chosen = named(options.methods, found) if options.methods else found
        width = max(len(system.name) for system in chosen)
        print(f"{'training tokens per second':{width}} {f'{options.cores} x 1 thread':>14} ", end="")
        print(f"{f'1 x {options.cores} threads':>14} {'ratio':>6}", flush=True)
        rows = []
        for system in chosen:
            rows.append({"system": system.name, **measure(system, options)})
            print(line(rows[-1], width), flush=True)
    if options.json:
        facts = {"tokens": options.tokens, "cores": options.cores, **machine()}
        options.json.write_text(json.dumps({"facts": facts, "rows": rows}, indent=1, ensure_ascii=False))


def measure(system: System, options: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second of both, their ratio, and all rounds; or the reason why the system `failed`."""
    with ExitStack() as stack:
        ones = [stack.enter_context(of_system(system, options)) for _ in range(options.cores)]
        many = [stack.enter_context(of_system(system, options, threads=options.cores))]
        try:
            for workers in (ones, many):
                together(workers, "prepare")
                speed(workers)  # the first one warms up
            rounds = [(speed(ones), speed(many)) for _ in range(options.rounds)]
        except TaskFailedError as error:
            return {"failed": str(error)}
    first, second = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {"ones": first, "many": second, "ratio": statistics.median(a / b for a, b in rounds), "rounds": rounds}


def speed(workers: Sequence[Worker]) -> float:
    """Tokens per second of all of them at once."""
    return float(sum(done["amount"] / done["wall"] for done in together(workers, "turn")))


def together(workers: Sequence[Worker], task: str) -> list[dict[str, Any]]:
    for each in workers:
        each.start(task)
    return [each.answer() for each in workers]


def line(row: dict[str, Any], width: int) -> str:
    name = f"{row['system']:{width}}"
    return (
        f"{name} failed: {row['failed']}"
        if "failed" in row
        else f"{name} {row['ones']:14.0f} {row['many']:14.0f} {row['ratio']:6.2f}"
    )


if __name__ == "__main__":
    main()
