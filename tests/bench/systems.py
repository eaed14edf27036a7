"""What each system of a sweep reaches, and what it costs, when all are trained on the same few tokens.

    python -m tests.bench.systems [SWEEP] [--tokens 40000] [--valid 500] [--setting Standard] [--methods A B …]
        [--reference LSTM-VAE] [--corpora corpora] [--json FILE]
    python -m tests.bench.systems --reads FILE…

A system is a cell of the sweep with the setting's label, with seed 0; its whole training is squeezed into the budget,
so that its KL weight ends where it would. One thread, a fresh process each. The reference takes a turn of some 3,000
tokens before and after each training, and cost is by the mean of the two: a machine that is busy for a while slows both
alike. A system starts cold, so that the fewer the tokens, the further the reference's own cost is above 1. With
`--json`, the same command goes on from where it was stopped.

He et al. (2019, the version submitted for review) report hours on Yahoo to convergence: VAE 5.35, SA-VAE 52.99 (9.9
times), AIN 11.76 (2.2 times). Here a token's cost alone counts, not how many a system needs; and an aggressive update,
which ends its inner loops at an epoch's end for good, has them throughout.
"""

import argparse
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import LocalFiles
from sweep.config import TrialConfig, trial_key, unknown
from sweep.exits import told
from sweep.spec import SweepSpec
from tests.bench.process import TaskFailedError, Worker, machine, worker

NOTE = """\
NLL, the paper's −ELBO where it is another number, KL and MI: of {valid:,} sentences of validation, nats per sentence.
Speed: tokens of training per CPU-second. MiB: peak of resident memory in training. Cost: CPU-seconds of a token by
those of {reference}. A system that starts from a trained one has had that trained on the same tokens before, which is
in its peak of memory alone."""


@dataclass(frozen=True)
class System:
    """A cell of a sweep. name: its labels on the axes that tell the cells apart."""

    name: str
    labels: Collection[str]
    config: TrialConfig

    def is_among(self, names: Collection[str]) -> bool:
        """Whether its name, or a label of it, is."""
        return any(name in names for name in (self.name, *self.labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", nargs="?", default="ptb-systems", help="a name of conf/sweep/, or a .yaml file")
    parser.add_argument("--tokens", type=positive, default=40_000, help="of training, `</s>` counted, in whole batches")
    parser.add_argument("--valid", type=positive, default=500, help="sentences of validation, evenly spaced over it")
    parser.add_argument("--setting", default="Standard", help="label of the axis whose labels a table has side by side")
    parser.add_argument("--methods", nargs="+", metavar="LABEL", help="which systems, by a label or their whole name")
    parser.add_argument("--reference", default="LSTM-VAE", help="the system by whose cost the others' is told")
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the measurements here, and go on from there")
    parser.add_argument("--reads", nargs="+", type=Path, metavar="FILE", help="print such files, and stop")
    options = parser.parse_args()
    with told():
        if options.reads:
            read(options.reads)
        else:
            compare(options)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"it is at least 1, not {number}")
    return number


def read(files: Sequence[Path]) -> None:
    """Print the tables of files; those of one budget, measured one after the other, are one table."""
    documents = [json.loads(file.read_bytes()) for file in files]
    width = max(len(row["system"]) for document in documents for row in document["rows"])
    before = None
    for document in documents:
        if document["budget"] != before:
            before = document["budget"]
            print(header(before, width))
        for row in document["rows"]:
            print(line(row, width))


def compare(options: argparse.Namespace) -> None:
    """Measure and print a system after the other. Raises ValueError on what cannot be asked for."""
    spec = SweepSpec.load(options.sweep)
    found = systems(spec, options.setting)
    reference = named([options.reference], found)[0]
    chosen = named(options.methods, found) if options.methods else found
    if len({system.config.data for system in (*chosen, reference)}) > 1:
        raise ValueError("these systems are of several corpora; name those of one with --methods and --reference")
    width = max(len(system.name) for system in chosen)
    with of_system(reference, options) as turns:
        facts = turns.ask("prepare")
        here = {name: value for name, value in machine().items() if name != "commit"}
        about = {"sweep": spec.fields.name, "setting": options.setting, "reference": reference.name}
        budget = {**about, "at_least": options.tokens, **facts, **here}
        rows = kept(options.json, budget) if options.json else []
        print(header(budget, width), flush=True)
        turns.ask("turn")  # the first one warms up
        for system in chosen:
            key = trial_key(system.config, facts["content_hash"])
            row = next((row for row in rows if (row["system"], row["key"]) == (system.name, key)), None)
            if row is None:
                measured = measure(system, turns, options)
                row = {"system": system.name, "key": key, "commit": machine()["commit"], **measured}
                rows = [*(other for other in rows if other["system"] != system.name), row]
                if options.json:
                    keep(options.json, budget, rows)
            print(line(row, width), flush=True)


def systems(spec: SweepSpec, setting: str) -> list[System]:
    """In the order of the sweep. Raises ValueError with the place of what is wrong, and on an unknown setting."""
    axes, across = spec.fields.axes, spec.fields.table.across or ""
    if across in axes and setting not in axes[across]:
        raise ValueError(unknown(f"label of axis {across}", setting, axes[across]))
    apart = [axis for axis, labels in axes.items() if axis != across and len(labels) > 1]
    return [
        System(
            " / ".join(cell.labels[axis] for axis in apart) or spec.fields.name,
            cell.labels.values(),
            spec.trial_config(cell, seed=0),
        )
        for cell in spec.cells()
        if cell.labels.get(across, setting) == setting
    ]


def named(names: Sequence[str], found: Sequence[System]) -> list[System]:
    """Those of the systems that are meant. Raises ValueError on a name of none."""
    for name in names:
        if not any(system.is_among([name]) for system in found):
            raise ValueError(unknown("system", name, [system.name for system in found]))
    return [system for system in found if system.is_among(names)]


def of_system(system: System, options: argparse.Namespace, threads: int = 1) -> AbstractContextManager[Worker]:
    # The corpus is read there alone: a process starts with its parent's peak of memory as its own.
    arguments = {"tokens": options.tokens, "valid": options.valid, "corpora": options.corpora, "threads": threads}
    given = [text for name, value in arguments.items() for text in (f"--{name}", str(value))]
    return worker("tests.bench.budget", "--config", json.dumps(system.config.document()), *given)


def measure(system: System, turns: Worker, options: argparse.Namespace) -> dict[str, Any]:
    """A row: what one system reaches and costs, or the reason why it was not `measured`."""
    with of_system(system, options) as own:
        try:
            own.ask("prepare")
            before = turns.speed("turn")
            done = own.ask("train")
            after = turns.speed("turn")
            reached = own.ask("measure")
        except TaskFailedError as error:
            return {"failed": str(error)}
    speed = done["amount"] / done["cpu"]
    cost = 2 / speed / (1 / before + 1 / after)
    return {"tokens": done.pop("amount"), **done, "speed": speed, "turns": [before, after], "cost": cost, **reached}


def kept(file: Path, budget: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of an earlier run. Raises ValueError when it was of another budget, or elsewhere."""
    if not file.exists():
        return []
    document = json.loads(file.read_bytes())
    odd = [name for name, value in budget.items() if document["budget"].get(name) != value]
    if odd:
        raise ValueError(f"{file} was measured with another {', '.join(odd)}; give --json another file")
    rows: list[dict[str, Any]] = document["rows"]
    return rows


def keep(file: Path, budget: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    document = json.dumps({"budget": budget, "rows": rows}, indent=1, ensure_ascii=False)
    LocalFiles(file.parent).publish(file.name, document.encode())


def header(budget: Mapping[str, Any], width: int) -> str:
    about = (
        f"{budget['corpus']}, vocabulary {budget['vocabulary']:,}; {budget['at_least']:,} training tokens in whole "
        f"batches, of {budget['reference']} {budget['tokens']:,} in {budget['batches']:,}; {budget['threads']} thread, "
        f"torch {budget['torch']}, {budget['cpu']}"
    )
    columns = f"{'system':{width}} {'NLL':>8} {'−ELBO':>8} {'KL':>7} {'MI':>6} {'speed':>8} {'MiB':>6} {'cost':>7}"
    return f"{about}\n{NOTE.format(**budget)}\n{columns}"


def line(row: Mapping[str, Any], width: int) -> str:
    name = f"{row['system']:{width}}"
    return f"{name} failed: {row['failed']}" if "failed" in row else " ".join([name, *cells(row)])


def cells(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"{row['nll']:8.2f}"
    yield f"{row['nelbo_paper']:8.2f}" if row["nelbo_paper"] != row["nll"] else " " * 8
    yield f"{row['kl']:7.2f}" if "kl" in row else f"{'–':>7}"
    yield f"{row['mi']:z6.2f}" if "mi" in row else f"{'–':>6}"
    yield f"{row['speed']:8.{0 if row['speed'] >= 100 else 1}f}"
    yield f"{row['peak_mib']:6.0f}"
    yield f"{row['cost']:7.2f}"


if __name__ == "__main__":
    main()
