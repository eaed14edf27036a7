"""How the numbers of a sweep stand to one another, for figures and tables, from records alone."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sweep.curves import DIVERGED
from sweep.evaluation import Evaluation
from sweep.measures import MEASURES, Measure, Trial, chosen_form
from sweep.part import parts
from sweep.record import TUNED, SweepRecord, TrialResult, WantedTrial


@dataclass(frozen=True)
class Panel:
    """What a sweep wants in one column group of one of its tables: its trials by row, a method, in their order.

    part: title of the table. setting: label of the group, empty where the sweep has no axis for that.
    """

    part: str
    setting: str
    methods: Mapping[str, Sequence[WantedTrial]]

    @property
    def title(self) -> str:
        return ", ".join(filter(None, (self.part, self.setting)))


def panels(record: SweepRecord) -> list[Panel]:
    """In the order of the sweep."""
    return [
        Panel(part.title, group, {row: trials for row in part.rows if (trials := part.cell(row, group))})
        for part in parts(record, {})
        for group in part.groups
    ]


def places(record: SweepRecord) -> dict[str, int]:
    """Of each method, by which it looks the same in every figure, whatever is done of the sweep."""
    methods = dict.fromkeys(row for part in parts(record, {}) for row in part.rows)
    return {method: place for place, method in enumerate(methods)}


@dataclass(frozen=True)
class Rates:
    """Where a method lies by what it spends: (reconstruction, KL) of each seed, nats per sentence, on test."""

    method: str
    place: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Plane:
    """The rates of one panel. beyond: trials that are left out since they diverged, by method and seed."""

    title: str
    rates: tuple[Rates, ...]
    beyond: tuple[str, ...]


def planes(record: SweepRecord, results: Mapping[str, TrialResult]) -> list[Plane]:
    """Of each panel in which a model with latent variables is done."""
    found = [_plane(panel, results, places(record)) for panel in panels(record) if _has_latent(panel, results)]
    return [plane for plane in found if plane.rates]


def _has_latent(panel: Panel, results: Mapping[str, TrialResult]) -> bool:
    done = [results[trial.key] for trials in panel.methods.values() for trial in trials if trial.key in results]
    return any(result.latents_per_sentence > 0 for result in done)


def _plane(panel: Panel, results: Mapping[str, TrialResult], places: Mapping[str, int]) -> Plane:
    done = {
        method: [(trial.seed, results[trial.key].test) for trial in trials if trial.key in results]
        for method, trials in panel.methods.items()
    }
    most = DIVERGED * min(test["rec"] + test["kl"] for tests in done.values() for _, test in tests)
    rates, beyond = [], []
    for method, tests in done.items():
        points = [(test["rec"], test["kl"]) for _, test in tests if test["rec"] + test["kl"] <= most]
        beyond += [f"{method}, seed {seed}" for seed, test in tests if test["rec"] + test["kl"] > most]
        if points:
            rates.append(Rates(method, places[method], tuple(points)))
    return Plane(panel.title, tuple(rates), tuple(beyond))


@dataclass(frozen=True)
class Spectrum:
    """KL of each dimension of a latent, nats, the largest first; mean over seeds of what is sorted by itself."""

    method: str
    place: int
    num_seeds: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class Spectra:
    title: str
    spectra: tuple[Spectrum, ...]


def spectra(record: SweepRecord, evaluations: Mapping[str, Evaluation]) -> list[Spectra]:
    """Of each panel that has an evaluated model with latent variables."""
    found = [Spectra(panel.title, tuple(_spectra(panel, evaluations, places(record)))) for panel in panels(record)]
    return [each for each in found if each.spectra]


def _spectra(panel: Panel, evaluations: Mapping[str, Evaluation], places: Mapping[str, int]) -> Iterator[Spectrum]:
    for method, trials in panel.methods.items():
        measured = [evaluations[trial.key].kl_by_dimension for trial in trials if trial.key in evaluations]
        by_seed = [sorted(values, reverse=True) for values in measured if values]
        if by_seed:
            values = tuple(fmean(ranked) for ranked in zip(*by_seed, strict=True))
            yield Spectrum(method, places[method], len(by_seed), values)


KINDS = ("plain", "averaged", "averaged, strict bound")
"""What is done with L latent samples: see `Ladder`."""


@dataclass(frozen=True)
class Ladder:
    """Perplexities by the number of latent samples L, one a seed, of models that are the same but for that.

    kind: of `KINDS`. `plain`, reconstruction is averaged over L draws; `averaged`, hidden states are, and the number
    is the paper's; `averaged, strict bound`, the same models by the bound that tables show. With L = 1 all are one.
    name: what else it is, where the panel has several.
    """

    kind: str
    name: str
    rungs: Mapping[int, tuple[float, ...]]

    @property
    def label(self) -> str:
        return ", ".join(filter(None, (self.name, self.kind)))


@dataclass(frozen=True)
class Ladders:
    title: str
    ladders: tuple[Ladder, ...]


def ladders(
    record: SweepRecord, results: Mapping[str, TrialResult], evaluations: Mapping[str, Evaluation]
) -> list[Ladders]:
    """Of each panel in which models differ in L, and in averaging, alone. What a search has tuned is left out."""
    trials = {key: Trial(result, evaluations.get(key)) for key, result in results.items()}
    found = [Ladders(panel.title, tuple(_ladders(panel, trials))) for panel in panels(record)]
    return [each for each in found if each.ladders]


def _ladders(panel: Panel, results: Mapping[str, Trial]) -> Iterator[Ladder]:
    families: dict[str, list[WantedTrial]] = {}
    for trials in panel.methods.values():
        for trial in trials:
            if trial.key in results and TUNED not in trial.labels and _samples(trial) is not None:
                families.setdefault(_family(trial), []).append(trial)
    found = [climb for family in families.values() for climb in _climbs(family, results)]
    has_several = len({id(family) for _, family, _ in found}) > 1
    for kind, family, rungs in found:
        yield Ladder(kind, _common(panel, family) if has_several else "", rungs)


def _climbs(
    family: list[WantedTrial], results: Mapping[str, Trial]
) -> Iterator[tuple[str, list[WantedTrial], dict[int, tuple[float, ...]]]]:
    """What a family has of each kind, with the family; nothing of a kind with a single L."""
    plain = [trial for trial in family if not _is_averaged(trial)]
    averaged = [trial for trial in family if _is_averaged(trial) or _samples(trial) == 1]
    columns = ("ppl", "ppl", "strict_ppl")
    for kind, trials, column in zip(KINDS, (plain, averaged, averaged), columns, strict=True):
        rungs = _rungs(trials, results, MEASURES[column])
        if len(rungs) > 1:
            yield kind, family, rungs


def _model(trial: WantedTrial) -> Mapping[str, Any]:
    model = trial.config.get("model")
    return model if isinstance(model, Mapping) else {}


def _samples(trial: WantedTrial) -> int | None:
    samples = _model(trial).get("samples")
    return samples if isinstance(samples, int) else None


def _is_averaged(trial: WantedTrial) -> bool:
    return bool(_model(trial).get("average", False)) and _samples(trial) != 1


def _family(trial: WantedTrial) -> str:
    """Equal for trials that differ in L, in averaging and in the seed alone."""
    model = {key: value for key, value in _model(trial).items() if key not in ("samples", "average")}
    rest = {key: value for key, value in trial.config.items() if key != "seed"}
    return json.dumps({**rest, "model": model}, sort_keys=True)


def _common(panel: Panel, trials: Sequence[WantedTrial]) -> str:
    """The labels that all of the trials have, besides those of the panel."""
    common = set.intersection(*(set(trial.labels.items()) for trial in trials))
    shared = [label for axis, label in trials[0].labels.items() if (axis, label) in common]
    return ", ".join(label for label in shared if label not in (panel.part, panel.setting))


def _rungs(
    trials: Sequence[WantedTrial], results: Mapping[str, Trial], measure: Measure
) -> dict[int, tuple[float, ...]]:
    rungs: dict[int, list[Trial]] = {}
    for trial in trials:
        rungs.setdefault(_samples(trial) or 1, []).append(results[trial.key])
    values = {samples: _finite(measure, rungs[samples]) for samples in sorted(rungs)}
    return {samples: numbers for samples, numbers in values.items() if numbers}


def _finite(measure: Measure, trials: Sequence[Trial]) -> tuple[float, ...]:
    form = chosen_form(trials)
    values = [measure.of(trial, form) for trial in trials]
    return tuple(value for value in values if value is not None and math.isfinite(value))
