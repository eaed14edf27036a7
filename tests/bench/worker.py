"""One process that does the work of one case: tasks of training, evaluation and importance weighting, and `peak`.

Each answers with the amount of work, CPU seconds and wall seconds, `peak` with MiB.
"""

import argparse
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from data.batch import Batch, sequential_batches
from data.corpus import Split
from model import host
from model.core import LatentModel
from model.draws import Draws
from model.evaluate import EvaluateConfig, evaluate
from model.importance import importance_weighted
from model.objectives.elbo import Config as Elbo
from model.precision import Precision, at_precision
from model.randomness import generator
from model.updates.joint import Config as Joint
from model.variants.lstm_vae import LstmVae
from tests import plain
from tests.bench.cases import BATCH, IW_DRAWS, IW_SENTENCES, SIZES, SYSTEMS, Case, Product
from tests.bench.process import peak, serve, timed

Work = Callable[[], float]
EVALUATED = 4 * BATCH
"""Sentences of each length."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--system", choices=SYSTEMS, required=True)
    parser.add_argument("--plain", action="store_true", help="the plain version in place of ours")
    parser.add_argument(
        "--keep-memory", action="store_true", help="our settings of the allocator for the plain version"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if not options.plain:
        host.set_up(options.threads)
    elif options.keep_memory:
        host.keep_memory()
    torch.set_num_threads(options.threads)
    case = Case(SIZES[options.size], SYSTEMS[options.system])
    tasks = (plain_tasks if options.plain else our_tasks)(case)
    serve({"peak": peak, **{name: partial(timed, work) for name, work in tasks.items()}})


def our_tasks(case: Case) -> dict[str, Work]:
    model, batches = case.build(), case.batches()

    def train(precision: Precision) -> float:
        update = Joint().build(at_precision(model.train(), precision))
        for number, tokens in enumerate(batches):
            update.step(Batch(tokens, torch.arange(len(tokens))), Elbo().at(0.0, 0.1), generator(number, "step"))
        return tokens_of(batches)

    def weigh() -> float:
        model.eval()
        assert isinstance(model, LatentModel)
        tokens = batches[-1][:IW_SENTENCES]
        at_once = EvaluateConfig().tokens_at_once
        for number, sentence in enumerate(tokens.split(1)):  # as an evaluation does with so many draws
            noise = Draws(model, [number], 0, "weigh", tokens.device)
            importance_weighted(model, sentence, IW_DRAWS, noise, torch.zeros(0), tokens_at_once=at_once)
        return len(tokens)

    def measure() -> float:
        evaluate(model, split_of(batches), EvaluateConfig(), 0, "bench")
        return tokens_of(batches) * EVALUATED / BATCH

    lengths = [tokens.shape[1] for tokens in batches]
    return {
        "train": lambda: train("fp32"),
        "bf16": lambda: train("bf16"),
        "evaluate": measure,
        "weigh": weigh,
        "floor of train": replay([p for length in lengths for p in case.training(length)], tokens_of(batches)),
        "floor of evaluate": replay(
            [p for length in lengths for p in case.evaluation(length, EVALUATED)], EVALUATED * sum(lengths)
        ),
        "floor of weigh": replay(
            [p for p in case.evaluation(lengths[-1], 1, IW_DRAWS) for _ in range(IW_SENTENCES)], IW_SENTENCES
        ),
    }


def plain_tasks(case: Case) -> dict[str, Work]:
    model, batches = case.build(), case.batches()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def train() -> float:
        model.train()
        for number, tokens in enumerate(batches):
            plain.step(model, optimizer, tokens, 0.1, generator(number, "step"))
        return tokens_of(batches)

    def weigh() -> float:
        assert isinstance(model, LstmVae)
        plain.importance_nll(model.eval(), batches[-1][:IW_SENTENCES], IW_DRAWS, generator(0, "weigh"))
        return IW_SENTENCES

    @torch.no_grad()
    def measure() -> float:
        model.eval()
        for batch in sequential_batches(split_of(batches), BATCH):
            noise = model.draw_noise(len(batch.tokens), 1, generator(0, "noise"))
            plain.bound(model, batch.tokens, noise, generator(0, "bound"))
        return tokens_of(batches) * EVALUATED / BATCH

    return {"train": train, "evaluate": measure, "weigh": weigh}


def split_of(batches: Iterable[Tensor]) -> Split:
    rows = [row for tokens in batches for row in tokens.repeat(EVALUATED // BATCH, 1).numpy()]
    return Split(np.concatenate(rows).astype(np.int32), np.cumsum([0, *map(len, rows)]))


def tokens_of(batches: Iterable[Tensor]) -> float:
    return float(sum(tokens.numel() for tokens in batches))


def replay(products: list[Product], amount: float) -> Work:
    """The same matrix products and nothing else: what remains of the work when all the rest is free."""
    operands: dict[Product, tuple[Tensor, Tensor, Tensor]] = {}

    def work() -> float:
        for product in products:
            if product not in operands:
                operands[product] = product.operands()
            left, right, out = operands[product]
            for _ in range(product.times):
                torch.mm(left, right, out=out)
        return amount

    return work


if __name__ == "__main__":
    main()
