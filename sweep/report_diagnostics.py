"""The report's tables of what was measured after training: how latents are used, bounds, importance weighting."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

from sweep.evaluation import Evaluation
from sweep.formats.html import Block, Entry, Grid, Line, counted, number
from sweep.layout import NOT_FINITE, UNDEFINED
from sweep.measures import MEASURES, Trial, of_whom
from sweep.record import TrialResult, WantedTrial
from sweep.relations import Panel
from sweep.statistics import over_seeds

Measured = Callable[[Trial], float | None]
"""A number of an evaluated trial; None where its model has none of it, or it was not measured."""
DIGITS: Mapping[str, int] = {"active_units": 1}
"""Behind the point, where they are not 2."""


@dataclass(frozen=True)
class Header:
    """A column. has_spread: whether the deviation over seeds is shown. group: the heading above it."""

    text: str
    of: Measured
    digits: int = 2
    has_spread: bool = True
    group: str = ""


SEEDS = Header("n", lambda _: None)
USE = ("kl", "mi", "mi_b32", "kl_aggregate", "active_units", "swap", "jensen")
BOUNDS = ("nll", "joint", "exch", "l1")
WEIGHTED = {"joint": "strict", "exch": "exch", "l1": "l1"}
"""Measure of a bound to the evaluation's name of its form; the paper's is none, and neither is its weighted form."""
PAPERS = "NLL: the paper’s number, with one KL term, which is no bound where a likelihood is given several latents."
ERRORS = "s.e.: standard error over sentences. ESS: effective number of draws; near 1, IW leans on single ones."


def diagnostics(
    panels: Sequence[Panel], results: Mapping[str, TrialResult], evaluations: Mapping[str, Evaluation]
) -> list[Grid]:
    """Means over seeds of what was measured of done trials; a table without a number is left out."""
    trials = {key: Trial(results[key], evaluation) for key, evaluation in evaluations.items() if key in results}
    facts = of_whom(list(trials.values()))
    reconstruction = Header("rec.", lambda trial: trial.measured("rec"))
    use = [reconstruction, *(Header(MEASURES[key].column.header, _measure(key), DIGITS.get(key, 2)) for key in USE)]
    bounds = [Header(MEASURES[key].column.header, _measure(key)) for key in BOUNDS]
    grids = [
        _grid("How latents are used", use, _notes(USE, facts), panels, trials),
        _grid("Bounds", bounds, (PAPERS, *_notes(BOUNDS, facts)), panels, trials),
        _grid("Importance weighting", list(_weighted()), (*_notes(("strict_iw",), facts), ERRORS), panels, trials),
    ]
    return [grid for grid in grids if grid is not None]


def _measure(key: str) -> Measured:
    measure = MEASURES[key]

    def value(trial: Trial) -> float | None:
        has_it = trial.result.latents_per_sentence > 0 or not measure.of_latents
        return measure.of(trial, "strict") if has_it else None

    return value


def _weighted() -> Iterator[Header]:
    """The importance-weighted NLL of each bound, with how far it is to be trusted."""
    for key, form in WEIGHTED.items():
        group = MEASURES[key].column.header
        yield Header("IW", _later(f"iw_{form}"), group=group)
        yield Header("s.e.", _later(f"iw_{form}_se"), has_spread=False, group=group)
        yield Header("ESS", _later(f"iw_{form}_ess"), 1, has_spread=False, group=group)


def _later(name: str) -> Measured:
    return lambda trial: trial.measured(name)


def _notes(keys: Sequence[str], facts: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(MEASURES[key].note.format(**facts) for key in keys if MEASURES[key].note)


def _grid(
    title: str,
    headers: Sequence[Header],
    notes: tuple[str, ...],
    panels: Sequence[Panel],
    trials: Mapping[str, Trial],
) -> Grid | None:
    """Without the columns in which no model has a number; None where that leaves none."""
    shown = [header for header in headers if any(header.of(trial) is not None for trial in trials.values())]
    if not shown:
        return None
    blocks = [
        Block(tuple(_line(method, wanted, shown, trials) for method, wanted in panel.methods.items()), panel.title)
        for panel in panels
    ]
    every = (*shown, SEEDS)
    groups = tuple((group, len(list(each))) for group, each in groupby(every, key=attrgetter("group")))
    texts = tuple(header.text for header in every)
    return Grid(title, "method", texts, tuple(blocks), groups if len(groups) > 1 else (), notes)


def _line(method: str, wanted: Sequence[WantedTrial], headers: Sequence[Header], trials: Mapping[str, Trial]) -> Line:
    done = [trials[trial.key] for trial in wanted if trial.key in trials]
    entries = [_entry([header.of(trial) for trial in done], header) for header in headers]
    return Line(method, (*entries, counted(len(done), len(wanted))))


def _entry(values: Sequence[float | None], header: Header) -> Entry:
    known = [value for value in values if value is not None]
    if not known:
        return Entry(UNDEFINED)
    if not all(map(math.isfinite, known)):
        return Entry(NOT_FINITE)
    entry = number(over_seeds(known), header.digits)
    return entry if header.has_spread else replace(entry, spread="")
