"""What a spec wants, checked to the last trial, and how much of it the store already has."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from data.cache import load
from data.corpus import Corpus, CorpusConfig
from sweep.config import ConfigError, TrialConfig, trial_key
from sweep.record import State, SweepRecord, TrialResult, WantedTrial
from sweep.spec import Cell, SweepSpec
from sweep.store import TrialStore


@dataclass(frozen=True)
class Plan:
    """A checked sweep. costs: expected work of each trial by key, in multiplications."""

    record: SweepRecord
    costs: Mapping[str, float]

    @property
    def wanted(self) -> dict[str, WantedTrial]:
        """Trials by key, in the order of the grid; a trial that two cells share stands once."""
        wanted: dict[str, WantedTrial] = {}
        for trial in self.record.trials:
            wanted.setdefault(trial.key, trial)
        return wanted

    def missing(self, store: TrialStore) -> list[WantedTrial]:
        """Trials that are not done, longest expected first, so that none of the long ones is left to the end."""
        left = [trial for key, trial in self.wanted.items() if store.state(key) != "done"]
        return sorted(left, key=lambda trial: -self.costs[trial.key])

    def expected_seconds(self, store: TrialStore) -> float | None:
        """Slot-seconds that the missing trials will take, by the pace of this sweep's done ones; None before any."""
        done = store.results(self.wanted)
        if not done:
            return None
        pace = sum(result.cost["seconds"] for result in done.values()) / sum(self.costs[key] for key in done)
        return pace * sum(self.costs[trial.key] for trial in self.missing(store))


def make_plan(spec: SweepSpec, corpora: Path) -> Plan:
    """Check every trial of a spec without training: its fields, its corpus, its model for that corpus's vocabulary.

    Raises ValueError, one sentence with the place in the spec, at the first that cannot run.
    """
    loaded: dict[CorpusConfig, Corpus] = {}
    trials: list[WantedTrial] = []
    costs: dict[str, float] = {}
    for cell in spec.cells():
        first = spec.trial_config(cell, spec.seeds[0])
        if first.data not in loaded:
            loaded[first.data] = load(first.data, corpora)
        corpus = loaded[first.data]
        cost = _cost(spec, cell, first, corpus)
        for seed in spec.seeds:
            config = spec.trial_config(cell, seed)
            key = trial_key(config, corpus.content_hash)
            trials.append(WantedTrial(key, cell.labels, seed, config.document()))
            costs[key] = cost
    fields = spec.fields
    document = {**spec.document.values, "last": dict(spec.last)} if spec.last else dict(spec.document.values)
    return Plan(SweepRecord(fields.name, document, tuple(trials), fields.table.model_dump()), costs)


def _cost(spec: SweepSpec, cell: Cell, config: TrialConfig, corpus: Corpus) -> float:
    """Expected multiplications of a trial; building the model on the meta device checks that it can be built."""
    try:
        with torch.device("meta"):
            model = config.model.build(corpus.vocabulary)
            config.update.build(model)
    except ValueError as error:
        raise spec.misplaced(ConfigError(("model",), str(error)), cell.labels) from None
    # A step multiplies by each weight three times: forward, and for the gradients of inputs and weights.
    return 3.0 * model.operations_per_token * corpus.splits["train"].num_tokens * config.train.epochs


def count_states(store: TrialStore, keys: Iterable[str]) -> dict[str, int]:
    """How many trials are in each state."""
    counts = dict.fromkeys(get_args(State), 0)
    for key in keys:
        counts[store.state(key)] += 1
    return counts


def results_of(record: SweepRecord, store: TrialStore) -> dict[str, TrialResult]:
    """Results of the sweep's done trials by key."""
    return store.results(trial.key for trial in record.trials)
