"""What a spec wants, checked to the last trial, and how much of it the store already has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import torch
from pydantic import ValidationError as PydanticError

from data.cache import load
from data.corpus import Corpus, CorpusConfig
from sweep.config import ConfigError, TrialConfig, explain, trial_key
from sweep.evaluation import Evaluation
from sweep.record import START, State, SweepRecord, TrialResult, WantedTrial
from sweep.search_plan import plan_studies
from sweep.spec import Cell, SpecFields, SweepSpec
from sweep.store import TrialStore

COPIES = 7
"""Of its weights that a running trial has at the most: two checkpoints and a third half written, each with the best
ones too, and those beside the result."""


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


@dataclass(frozen=True)
class Plan:
    """A checked sweep. costs, parameters: expected work, in multiplications, and size of each trial by key.

    Those of the trials that a search will suggest come to it as they are suggested.
    """

    record: SweepRecord
    fields: SpecFields
    corpora: Corpora
    costs: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)

    def weigh(self, key: str, config: TrialConfig) -> None:
        """Know the cost and the size of a trial."""
        if key not in self.costs:
            self.costs[key], self.parameters[key] = _work(config, self.corpora(config.data))

    def bytes_needed(self, key: str) -> int:
        """What a running trial has in the store at the most, all of it float32; one of `COPIES` stays in the end."""
        return COPIES * 4 * self.parameters[key]

    def missing(self, states: Mapping[str, State]) -> list[WantedTrial]:
        """Trials that are not done, longest expected first, so that none of the long ones is left to the end."""
        left = [trial for key, trial in self.record.wanted.items() if key in states and states[key] != "done"]
        # What others wait for is as urgent as they are.
        behind: dict[str, float] = {}
        for trial in left:
            behind[trial.after] = max(behind.get(trial.after, 0.0), self.costs[trial.key])
        return sorted(left, key=lambda trial: -self.costs[trial.key] - behind.get(trial.key, 0.0))

    def expected_seconds(self, store: TrialStore) -> float | None:
        """Slot-seconds that the missing trials will take, by the pace of this sweep's done ones; None before any."""
        done = store.results(self.record.wanted)
        if not done:
            return None
        pace = sum(result.cost["seconds"] for result in done.values()) / sum(self.costs[key] for key in done)
        return pace * sum(self.costs[key] for key in self.record.wanted if key not in done)


def make_plan(spec: SweepSpec, corpora: Path) -> Plan:
    """Check every trial of a spec without training: its fields, its corpus, its model for that corpus's vocabulary.

    Raises ValueError, one sentence with the place in the spec, at the first that cannot run.
    """
    fields, loaded = spec.fields, Corpora(corpora)
    trials: list[WantedTrial] = []
    costs: dict[str, float] = {}
    parameters: dict[str, int] = {}
    starts: dict[str, WantedTrial] = {}
    for cell in spec.cells():
        first = spec.trial_config(cell, spec.seeds[0])
        corpus = loaded(first.data)
        cost, size = _cost(spec, cell, first, corpus)
        for seed in spec.seeds if fields.search is None or fields.search.grid else ():
            config = spec.trial_config(cell, seed)
            key, after = trial_key(config, corpus.content_hash), ""
            if config.prerequisite is not None:
                start = _start(config.prerequisite, cell.labels, loaded)
                after = start.key
                starts.setdefault(after, start)
                if after not in costs:
                    costs[after], parameters[after] = _start_cost(spec, cell, config.prerequisite, corpus)
            trials.append(WantedTrial(key, cell.labels, seed, config.document(), after))
            costs[key], parameters[key] = cost, size
    studies = plan_studies(spec, lambda config: _checked(config, loaded(config.data)))
    document = {**spec.document.values, "last": dict(spec.last)} if spec.last else dict(spec.document.values)
    record = SweepRecord(
        fields.name, document, tuple(trials), fields.table.model_dump(), studies, starts=tuple(starts.values())
    )
    return Plan(record, fields, loaded, costs, parameters)


def _start(config: TrialConfig, labels: Mapping[str, str], corpora: Corpora) -> WantedTrial:
    """The trial that those of a cell start from. labels: of the cell."""
    key = trial_key(config, corpora(config.data).content_hash)
    return WantedTrial(key, {START: f"start of {' / '.join(labels.values())}"}, config.seed, config.document())


def _start_cost(spec: SweepSpec, cell: Cell, config: TrialConfig, corpus: Corpus) -> tuple[float, int]:
    try:
        return _work(config, _checked(config, corpus))
    except ValueError as error:
        raise spec.misplaced(ConfigError(("start", "trained"), str(error)), cell.labels) from None


def plan_again(record: SweepRecord, corpora: Path) -> Plan:
    """The plan of a sweep as it was launched, without its spec's file.

    Raises ValueError when a trial would now be another one, since its corpus or this program has changed.
    """
    loaded = Corpora(corpora)
    costs: dict[str, float] = {}
    parameters: dict[str, int] = {}
    of_cell: dict[str, tuple[float, int]] = {}
    for trial in (*record.trials, *record.starts):
        config = TrialConfig.parse(trial.config)
        corpus = loaded(config.data)
        if trial_key(config, corpus.content_hash) != trial.key:
            raise ValueError(
                f"sweep '{record.name}', {trial.name}: with this corpus '{corpus.title}' and this version of the "
                f"program it is another trial; run the sweep's spec again"
            )
        if trial.cell not in of_cell:
            of_cell[trial.cell] = _work(config, corpus)
        costs[trial.key], parameters[trial.key] = of_cell[trial.cell]
    for study in record.studies:
        corpus = loaded(TrialConfig.parse({**study.document, "seed": 0}).data)
        if corpus.content_hash != study.corpus:
            raise ValueError(
                f"sweep '{record.name}': the search of {study.cell} was begun on another corpus than this "
                f"'{corpus.title}'; run the sweep's spec again, which searches anew"
            )
    return Plan(record, fields_of(record), loaded, costs, parameters)


def fields_of(record: SweepRecord) -> SpecFields:
    """What was launched besides the trials. Raises ValueError when this program does not understand it any more."""
    written = {key: value for key, value in record.document.items() if key != "last"}
    try:
        return SpecFields.model_validate(written, strict=True)
    except PydanticError as error:
        raise ValueError(f"sweep '{record.name}': {explain(error, SpecFields, written)}; run its spec again") from None


def _cost(spec: SweepSpec, cell: Cell, config: TrialConfig, corpus: Corpus) -> tuple[float, int]:
    """Expected work and size of a trial. Raises ValueError with the place in the spec when it cannot be built."""
    try:
        return _work(config, _checked(config, corpus))
    except ValueError as error:
        raise spec.misplaced(ConfigError(("model",), str(error)), cell.labels) from None


def _checked(config: TrialConfig, corpus: Corpus) -> Corpus:
    """The corpus of a trial that can be trained. Raises ValueError for one that cannot."""
    try:
        with torch.device("meta"):
            model = config.model.build(corpus.vocabulary)
            config.objective.check(model)
            config.train.check(model)
            config.start.check(model)
            config.update.build(model)
    except (ValueError, RuntimeError) as error:  # of PyTorch: sizes whose product is beyond 64 bits
        raise ValueError(str(error).splitlines()[0]) from None
    return corpus


def _work(config: TrialConfig, corpus: Corpus) -> tuple[float, int]:
    """Expected multiplications of a trial, and its parameters."""
    with torch.device("meta"):
        model = config.model.build(corpus.vocabulary)
    # A step multiplies by each weight three times: forward, and for the gradients of inputs and weights.
    operations = 3.0 * model.operations_per_token * corpus.splits["train"].num_tokens * config.train.epochs
    return operations, sum(parameter.numel() for parameter in model.parameters())


def count_states(states: Mapping[str, State]) -> dict[str, int]:
    """How many trials are in each state."""
    counts = dict.fromkeys(get_args(State), 0)
    for state in states.values():
        counts[state] += 1
    return counts


def results_of(record: SweepRecord, store: TrialStore) -> dict[str, TrialResult]:
    """Results of the sweep's done trials by key."""
    return store.results(trial.key for trial in record.trials)


def evaluations_of(record: SweepRecord, store: TrialStore) -> dict[str, Evaluation]:
    """By key, of the sweep's trials that were evaluated as the sweep last was."""
    settings = store.evaluated(record.name)
    return {} if settings is None else store.evaluations(settings).results(record.wanted)
