"""What a spec wants, checked to the last trial, and how much of it the store already has."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError as PydanticError

from data.corpus import Corpus
from sweep.config import ConfigError, TrialConfig, explain, trial_key
from sweep.evaluation import Evaluation
from sweep.record import START, State, SweepRecord, TrialResult, WantedTrial
from sweep.search_plan import plan_studies
from sweep.spec import Cell, SpecFields, SweepSpec
from sweep.store import TrialStore
from sweep.weight import Corpora, Costs, Weight, checked, weight_of

COPIES = 7
"""Of its weights that a running trial has at the most: two checkpoints and a third half written, each with the best
ones too, and those beside the result."""


@dataclass(frozen=True)
class Plan:
    """A checked sweep. costs: expected work of each trial; those that a search suggests come to it as they do."""

    record: SweepRecord
    fields: SpecFields
    corpora: Corpora
    costs: Costs

    def weigh(self, key: str, config: TrialConfig) -> None:
        """Know the cost and the size of a trial."""
        if key not in self.costs:
            self.costs.put(key, weight_of(config, self.corpora(config.data)))

    def bytes_needed(self, key: str) -> int:
        """What a running trial has in the store at the most, all of it float32; one of `COPIES` stays in the end."""
        return COPIES * 4 * self.costs.weights[key].parameters

    def missing(self, states: Mapping[str, State]) -> list[WantedTrial]:
        """Trials that are not done, in the order in which they should start."""
        return self.longest_first(
            trial for key, trial in self.record.wanted.items() if key in states and states[key] != "done"
        )

    def longest_first(self, trials: Iterable[WantedTrial]) -> list[WantedTrial]:
        """By what is expected, so that none of the long ones is left to the end."""
        left = list(trials)
        # What others wait for is as urgent as they are.
        behind: dict[str, float] = {}
        for trial in left:
            behind[trial.after] = max(behind.get(trial.after, 0.0), self.costs[trial.key])
        return sorted(left, key=lambda trial: -self.costs[trial.key] - behind.get(trial.key, 0.0))

    def expected_seconds(self, store: TrialStore) -> float | None:
        """Slot-seconds that the missing trials will take: by the pace of this sweep's done ones, else by probes.

        None when there are neither, or some shape was not probed.
        """
        done = store.results(self.record.wanted)
        left = [key for key in self.record.wanted if key not in done]
        if done:
            pace = sum(result.cost["seconds"] for result in done.values()) / sum(self.costs[key] for key in done)
        elif all(self.costs.probe(key) for key in left):
            pace = 1.0
        else:
            return None
        return pace * sum(self.costs[key] for key in left)


def make_plan(spec: SweepSpec, corpora: Path) -> Plan:
    """Check every trial of a spec without training: its fields, its corpus, its model for that corpus's vocabulary.

    Raises ValueError, one sentence with the place in the spec, at the first that cannot run.
    """
    fields, loaded = spec.fields, Corpora(corpora)
    trials: list[WantedTrial] = []
    weights: dict[str, Weight] = {}
    starts: dict[str, WantedTrial] = {}
    for cell in spec.cells():
        configs = spec.trial_configs(cell, spec.seeds)
        first = next(configs)
        corpus = loaded(first.data)
        weight = _checked_weight(spec, cell, first, corpus)
        for config in chain([first], configs) if fields.search is None or fields.search.grid else ():
            prerequisite, after = spec.prerequisite(cell, config), ""
            if prerequisite is not None:
                after = trial_key(prerequisite, corpus.content_hash)
                starts.setdefault(after, _start(after, cell, prerequisite))
                if after not in weights:
                    weights[after] = _start_weight(spec, cell, prerequisite, corpus)
            key = trial_key(config, corpus.content_hash)
            trials.append(WantedTrial(key, cell.labels, config.seed, config.document(), after))
            weights[key] = weight
    studies = plan_studies(spec, lambda config: checked(config, loaded(config.data)))
    document = {**spec.document.values, "last": dict(spec.last)} if spec.last else dict(spec.document.values)
    record = SweepRecord(
        fields.name, document, tuple(trials), fields.table.model_dump(), studies, starts=tuple(starts.values())
    )
    return Plan(record, fields, loaded, Costs(weights))


def _start(key: str, cell: Cell, config: TrialConfig) -> WantedTrial:
    """The trial that one of a cell starts from."""
    return WantedTrial(key, {START: f"start of {' / '.join(cell.labels.values())}"}, config.seed, config.document())


def _start_weight(spec: SweepSpec, cell: Cell, config: TrialConfig, corpus: Corpus) -> Weight:
    try:
        return weight_of(config, checked(config, corpus))
    except ValueError as error:
        raise spec.misplaced(ConfigError(("start", "trained"), str(error)), cell.labels) from None


def plan_again(record: SweepRecord, corpora: Path) -> Plan:
    """The plan of a sweep as it was launched, without its spec's file.

    Raises ValueError when a trial would now be another one, since its corpus or this program has changed.
    """
    loaded = Corpora(corpora)
    weights: dict[str, Weight] = {}
    of_cell: dict[str, Weight] = {}
    for trial, config in _with_configs((*record.trials, *record.starts)):
        corpus = loaded(config.data)
        if trial_key(config, corpus.content_hash) != trial.key:
            raise ValueError(
                f"sweep '{record.name}', {trial.name}: with this corpus '{corpus.title}' and this version of the "
                f"program it is another trial; run the sweep's spec again"
            )
        if trial.cell not in of_cell:
            of_cell[trial.cell] = weight_of(config, corpus)
        weights[trial.key] = of_cell[trial.cell]
    for study in record.studies:
        corpus = loaded(TrialConfig.parse({**study.document, "seed": 0}).data)
        if corpus.content_hash != study.corpus:
            raise ValueError(
                f"sweep '{record.name}': the search of {study.cell} was begun on another corpus than this "
                f"'{corpus.title}'; run the sweep's spec again, which searches anew"
            )
    return Plan(record, fields_of(record), loaded, Costs(weights))


def _with_configs(trials: Iterable[WantedTrial]) -> Iterator[tuple[WantedTrial, TrialConfig]]:
    """Each with its config, checked once for those in a row that differ in nothing but the seed."""
    config: TrialConfig | None = None
    groups: Mapping[str, Any] = {}
    for trial in trials:
        own = {name: value for name, value in trial.config.items() if name != "seed"}
        config = config.with_seed(trial.config["seed"]) if config and own == groups else TrialConfig.parse(trial.config)
        groups = own
        yield trial, config


def fields_of(record: SweepRecord) -> SpecFields:
    """What was launched besides the trials. Raises ValueError when this program does not understand it any more."""
    written = {key: value for key, value in record.document.items() if key != "last"}
    try:
        return SpecFields.model_validate(written, strict=True)
    except PydanticError as error:
        raise ValueError(f"sweep '{record.name}': {explain(error, SpecFields, written)}; run its spec again") from None


def _checked_weight(spec: SweepSpec, cell: Cell, config: TrialConfig, corpus: Corpus) -> Weight:
    """Raises ValueError with the place in the spec when the trial cannot be built."""
    try:
        return weight_of(config, checked(config, corpus))
    except ValueError as error:
        raise spec.misplaced(ConfigError(("model",), str(error)), cell.labels) from None


def count_states(states: Mapping[str, State]) -> dict[str, int]:
    """How many trials are in each state."""
    counts = dict.fromkeys(get_args(State), 0)
    for state in states.values():
        counts[state] += 1
    return counts


def results_of(record: SweepRecord, store: TrialStore) -> dict[str, TrialResult]:
    """Results of the sweep's done trials by key."""
    return store.results(trial.key for trial in record.trials)


def brief_results_of(record: SweepRecord, store: TrialStore) -> dict[str, TrialResult]:
    """The same without their histories."""
    return store.brief_results(trial.key for trial in record.trials)


def evaluations_of(record: SweepRecord, store: TrialStore) -> dict[str, Evaluation]:
    """By key, of the sweep's trials that were evaluated as the sweep last was."""
    settings = store.evaluated(record.name)
    return {} if settings is None else store.evaluations(settings).results(record.wanted)
