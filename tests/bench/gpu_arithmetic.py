"""What a GPU should make of the paper's PTB table, by arithmetic: nothing here is measured.

    python -m tests.bench.gpu_arithmetic [--corpora corpora] [--together 20]

A training step of a trial takes, by itself, what stands in its way one after the other: the steps of its LSTMs in time,
each of which waits for the one before; its other kernels, which follow one another, too; the products of large
matrices; and reading and writing the logits. Launched one by one (eager), it takes as long as the host needs to launch
them, where that is longer. Trials side by side share what the device can do at once, the products and the logits, and
their waiting overlaps. Where PTB is not below --corpora, its sizes stand for it. `bench_gpu` measures all of it.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from data.batch import num_batches
from data.cache import load
from model.cross_entropy import CHUNK_BYTES
from sweep.config import TrialConfig
from sweep.trial import prepare
from tests.bench.bench_gpu import cells_of, plan_of


@dataclass(frozen=True)
class Gpu:
    """Assumptions, of an H200; they may be wrong by half, or by a factor of two.

    large, small: floating-point operations a second of products of large matrices and of those of one step in time.
    size: bytes of a logit.
    """

    precision: str
    large: float
    small: float
    size: int


GPUS = (Gpu("fp32", 50e12, 25e12, 4), Gpu("tf32", 250e12, 60e12, 4), Gpu("bf16", 450e12, 90e12, 2))
BANDWIDTH = 3.6e12  # bytes a second
PASSES = 5  # over the logits: written, read for the softmax, written again as its gradient, and read by two products
TIME_STEP = 5.75e-6  # seconds of one of an LSTM, which waits for the one before: a product and what follows it
KERNEL = 2e-6  # of each other kernel in a graph
OPERATION, LAUNCH = 9e-6, 2.5e-6  # of the host: an operation of PyTorch's, and a kernel that cuDNN launches
OPERATIONS = {"lm": 120, "vae": 165}  # of a step, outside of the LSTMs and of the chunks after the first of the logits
IN_CHUNK = 12  # operations of each more chunk


@dataclass(frozen=True)
class Step:
    """Seconds of a step at the mean length: launched one by one, as a graph, and what it leaves no other trial."""

    eager: float
    graphed: float
    work: float

    def together(self, trials: int) -> float:
        """A trial's part of the time of so many side by side."""
        return max(self.graphed / trials, self.work)


def step_of(config: TrialConfig, operations: float, tokens: float, vocabulary: int, gpu: Gpu) -> Step:
    """operations: weights that a token is multiplied by. tokens: predicted ones of a batch."""
    fields = config.model.model_dump()
    chains, softmaxes = fields.get("samples", 1), 1 if fields.get("average") else fields.get("samples", 1)
    is_lm = "samples" not in fields
    length, hidden = tokens / config.train.batch_size, fields["hidden_dim"]
    recurrent = 4 * hidden**2 * 2 * config.train.batch_size  # floating-point operations of a chain at a step in time
    chain = sum(2 * length * max(TIME_STEP, each * recurrent / gpu.small) for each in ((1,) if is_lm else (1, chains)))
    others = OPERATIONS["lm" if is_lm else "vae"] + IN_CHUNK * (4 * vocabulary * softmaxes * tokens / CHUNK_BYTES)
    # A product of each weight and token forward, and two backward.
    products, logits = 6 * operations * tokens / gpu.large, PASSES * softmaxes * tokens * vocabulary * gpu.size
    work = products + logits / BANDWIDTH
    graphed = chain + KERNEL * others + work
    host = OPERATION * others + LAUNCH * 4 * length * (1 if is_lm else 2)
    return Step(max(host, graphed), graphed, work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--together", type=int, default=20)
    parser.set_defaults(part=1.0, train_in="fp32")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        plan, _ = plan_of(options, Path(scratch))
        cells = {name: config for name, config in cells_of(plan).items() if name.startswith("Standard")}
        corpus = load(next(iter(cells.values())).data, plan.corpora.folder)
    seeds, train = len(plan.record.trials) // len(cells_of(plan)), corpus.splits["train"]
    ways = ("eager", "graphed", f"{options.together} together")
    print(f"{'milliseconds a step':24} {'':5}" + "".join(f"{way:>13}" for way in ways) + "   of eager fp32")
    hours = {gpu.precision: [0.0] * len(ways) for gpu in GPUS}
    for name, config in cells.items():
        operations = prepare(config, corpus, "cpu").model.operations_per_token
        steps = num_batches(train, config.train.batch_size)
        found = [step_of(config, operations, train.num_tokens / steps, len(corpus.vocabulary), gpu) for gpu in GPUS]
        plain = found[0]
        for gpu, step in zip(GPUS, found, strict=True):
            each = step.eager, step.graphed, step.together(options.together)
            print(
                f"{name.removeprefix('Standard / '):24} {gpu.precision:5}"
                + "".join(f"{1000 * seconds:13.2f}" for seconds in each)
                + f" {plain.eager / each[-1]:12.1f} times"
            )
            trials = 2 * seeds  # of both settings
            for way, seconds in enumerate(each):
                hours[gpu.precision][way] += trials * config.train.epochs * steps * seconds / 3600
    for precision, each in hours.items():
        print(f"{'the table, hours':24} {precision:5}" + "".join(f"{total:13.2f}" for total in each))


if __name__ == "__main__":
    main()
