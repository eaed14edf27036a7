"""What is known of a trial before it is trained: that it can be, its shape, and how much work it will be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from data.cache import load
from data.corpus import Corpus, CorpusConfig
from data.vocabulary import Vocabulary
from model.core import ModelConfig, TextModel
from sweep.config import TrialConfig
from sweep.probe import Probe, shape_of


class Corpora:
    """The corpora of a folder, each loaded once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._loaded: dict[CorpusConfig, Corpus] = {}

    def __call__(self, config: CorpusConfig) -> Corpus:
        """Raises ValueError when it is not there."""
        if config not in self._loaded:
            self._loaded[config] = load(config, self.folder)
        return self._loaded[config]

    @property
    def loaded(self) -> Mapping[CorpusConfig, Corpus]:
        """So far."""
        return self._loaded


@dataclass(frozen=True)
class Weight:
    """What is known of a trial before it is trained.

    operations: multiplications, roughly. trained, evaluated: predicted tokens, in all epochs together; of evaluation
    the test split's too.
    """

    shape: str
    operations: float
    parameters: int
    trained: int
    evaluated: int

    def seconds(self, probe: Probe) -> float:
        """Of one trial that runs to its last epoch; one that stops before takes less."""
        return self.trained * probe.train_rate + self.evaluated * probe.evaluate_rate


class Costs(Mapping[str, float]):
    """Expected work of each trial by key: in slot-seconds once anything was probed, in multiplications before.

    probes: what was measured, by shape.
    """

    def __init__(self, weights: Mapping[str, Weight]):
        self.weights = dict(weights)
        self.probes: dict[str, Probe] = {}
        self._pace = 1.0  # slot-seconds a multiplication

    def put(self, key: str, weight: Weight) -> None:
        self.weights[key] = weight

    def learn(self, probes: Mapping[str, Probe]) -> None:
        """Take in what was measured, by shape."""
        self.probes |= probes
        known = [weight for weight in self.weights.values() if weight.shape in self.probes]
        if known:
            seconds = sum(weight.seconds(self.probes[weight.shape]) for weight in known)
            self._pace = seconds / sum(weight.operations for weight in known)

    def probe(self, key: str) -> Probe | None:
        """Of a trial's shape; None where that was not measured."""
        return self.probes.get(self.weights[key].shape)

    def seconds(self, key: str) -> float | None:
        """Of one trial, by the probe of its shape."""
        probe = self.probe(key)
        return None if probe is None else self.weights[key].seconds(probe)

    def __getitem__(self, key: str) -> float:
        seconds = self.seconds(key)
        return self.weights[key].operations * self._pace if seconds is None else seconds

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def checked(config: TrialConfig, corpus: Corpus) -> Corpus:
    """The corpus of a trial that can be trained. Raises ValueError for one that cannot."""
    try:
        model = _blueprint(config.model, corpus.vocabulary)
        with torch.device("meta"):
            config.objective.check(model)
            config.train.check(model)
            config.start.check(model)
            config.update.build(model)
    except (ValueError, RuntimeError) as error:  # of PyTorch: sizes whose product is beyond 64 bits
        raise ValueError(str(error).splitlines()[0]) from None
    return corpus


@lru_cache(maxsize=64)
def _blueprint(config: ModelConfig, vocabulary: Vocabulary) -> TextModel:
    """A model without memory, not to be changed: trials of a sweep have few models, and many rates and schedules."""
    with torch.device("meta"):
        return config.build(vocabulary)


def weight_of(config: TrialConfig, corpus: Corpus) -> Weight:
    model = _blueprint(config.model, corpus.vocabulary)
    tokens, epochs = {name: split.num_tokens for name, split in corpus.splits.items()}, config.train.epochs
    return Weight(
        shape=shape_of(config, corpus.content_hash),
        # A step multiplies by each weight three times: forward, and for the gradients of inputs and weights.
        operations=3.0 * model.operations_per_token * tokens["train"] * epochs,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trained=epochs * tokens["train"],
        evaluated=epochs * tokens["valid"] + (tokens["test"] if config.evaluate.test else 0),
    )
