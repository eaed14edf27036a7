"""One process that trains one trial on a budget of tokens, and measures what that came to.

Tasks: `prepare`, `train` through the whole budget, `turn` through an even share of it, and `measure` on validation. A
trial that cannot be trained answers with the reason.
"""

import argparse
import json
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.batch import Batch, batches, drawn_batches
from data.cache import load
from data.corpus import Corpus, Split
from model import host
from model.core import LatentModel
from model.diagnostics import measure_use
from model.evaluate import evaluate
from model.measure import MI_BATCH
from model.randomness import generator
from model.start import StartsFromTrained
from model.tally import Tally
from model.train import Training, course_of
from model.update import NonFiniteError, Step
from sweep.config import TrialConfig
from sweep.trial import prepare
from tests.bench.process import peak, serve, timed

TURN = 3000
"""Tokens of a turn, about."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=json.loads, required=True, help="the document of a trial")
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--valid", type=int, required=True)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    host.set_up(options.threads)
    config = TrialConfig.parse(options.config)
    trial = BudgetTrial(config, load(config.data, options.corpora), options.tokens, options.valid)
    tasks = {"prepare": trial.prepare, "train": trial.train, "turn": trial.turn, "measure": trial.measure}
    serve(tasks, expected=(NonFiniteError, ValueError))


class BudgetTrial:
    """A trial whose training, first epoch to last, is squeezed into the first batches of its first epoch.

    Its schedule and its objective come to where they end when the budget does. Neither the learning rate nor an update
    learns of an epoch's end, as there is none.
    """

    def __init__(self, config: TrialConfig, corpus: Corpus, tokens: int, valid: int):
        """tokens: of training, rounded up to whole batches. valid: sentences of validation, or all if it has fewer."""
        self.config = config
        self.corpus = corpus
        self.at_least = tokens
        self.valid = evenly(corpus.splits["valid"], valid)
        self.course = course_of(corpus, config.train)
        drawn = {"size": config.train.batch_size, "seed": config.seed, "reshuffle": config.train.reshuffle}
        self._drawn: dict[str, Any] = {**drawn, "epoch": 1}
        self._beside = drawn_batches(corpus.splits["train"], **self._drawn)
        self._source = generator(config.seed, "train/epoch 1")

    @cached_property
    def batches(self) -> list[Batch]:
        """The budget. Raises ValueError when an epoch has less."""
        found, split, tokens = [], self.corpus.splits["train"], 0
        if self.at_least > split.num_tokens:
            raise ValueError(
                f"a budget of {self.at_least:,} tokens is more than an epoch of corpus {self.corpus.title}, which has "
                f"{split.num_tokens:,}; give fewer"
            )
        for batch in batches(split, **self._drawn):
            if tokens >= self.at_least:
                break
            found.append(batch)
            tokens += batch.tokens.numel()
        return found

    @cached_property
    def tokens(self) -> int:
        return sum(batch.tokens.numel() for batch in self.batches)

    @cached_property
    def training(self) -> Training:
        """As it is before its first step; a trial that it starts from was trained on the same budget."""
        training, prerequisite = prepare(self.config, self.corpus, "cpu"), self.config.prerequisite
        if prerequisite is not None:
            before = BudgetTrial(prerequisite, self.corpus, self.at_least, valid=1)
            before.train()
            assert isinstance(training.model, StartsFromTrained)
            training.model.start_from(before.training.model.state_dict())
        training.model.train()
        return training

    def prepare(self) -> dict[str, Any]:
        """Facts of the corpus and the budget, once all is ready for the first step. Raises ValueError."""
        assert self.training
        return {
            "corpus": self.corpus.title,
            "content_hash": self.corpus.content_hash,
            "vocabulary": len(self.corpus.vocabulary),
            "tokens": self.tokens,
            "batches": len(self.batches),
            "valid": self.valid.num_sentences,
            "threads": torch.get_num_threads(),
        }

    def train(self) -> dict[str, float]:
        """Time and amount of the budget, in tokens, and the peak of memory by then. Raises as `fit` does."""
        tally = Tally(torch.device("cpu"))

        def work() -> float:
            done = 0
            for number, batch in enumerate(self.batches, start=1):
                done += batch.tokens.numel()
                tally.add(number, self._step(number, batch, done / self.tokens), *batch.tokens.shape)
            return done

        taken, steps = timed(work), len(self.batches)
        if tally.skipped.item() > min(self.config.train.max_skipped_steps, steps - 1):
            raise NonFiniteError(
                f"{int(tally.skipped)} of {steps} steps had a loss or gradient that is not finite, the first in batch "
                f"{int(tally.first_skipped)}"
            )
        return {**taken, **peak(), "batches": steps}

    def turn(self) -> dict[str, float]:
        """Time and amount of a share of the budget that has short and long sentences as all of it has."""
        by_length = sorted(enumerate(self.batches, start=1), key=lambda each: each[1].tokens.shape[1])
        apart = max(1, round(self.tokens / TURN))
        share = by_length[apart // 2 :: apart]

        def work() -> float:
            for number, batch in share:
                self._step(number, batch, 1.0)
            return sum(batch.tokens.numel() for _, batch in share)

        return timed(work)

    def _step(self, number: int, batch: Batch, done: float) -> Step:
        """done: the part of the training that is over after this step."""
        now = self.config.train.epochs * done
        loss = self.config.objective.at(now, self.config.schedule(now, self.course))
        return self.training.update.step(batch, loss, self._source, self._beside(number))

    def measure(self) -> dict[str, float]:
        """Nats per sentence by name; of a language model no more than its NLL. Raises NonFiniteError."""
        model, evaluation, seed = self.training.model.eval(), self.config.evaluate, self.config.seed
        found = evaluate(model, self.valid, evaluation, seed, "valid")
        if isinstance(model, LatentModel):
            found |= measure_use(model, self.valid, seed, "valid/use", evaluation.tokens_at_once, MI_BATCH)[0]
        else:
            found = {name: found[name] for name in ("nll", "nelbo_paper", "ppl")}
        odd = [name for name, value in found.items() if not math.isfinite(value)]
        if odd:
            raise NonFiniteError(f"{', '.join(odd)} of validation are not finite")
        return found


def evenly(split: Split, sentences: int) -> Split:
    """So many sentences of a split, evenly spaced over it, or all when it has fewer."""
    number = min(sentences, split.num_sentences)
    return split.subset(np.arange(number) * split.num_sentences // number)


if __name__ == "__main__":
    main()
