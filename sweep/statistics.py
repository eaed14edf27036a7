"""What the trials of one cell come to over their seeds, and which cells of a column are best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev

from sweep.layout import NOT_FINITE, PENDING, UNDEFINED, Number, Summary
from sweep.measures import MEASURES, Measure, Trial, chosen_form

SEEDS_TO_TELL = 6
"""The fewest with which the smallest p-value of an exact paired test, 2 / 2^n, is below 5 %."""


def summarize(trials: Sequence[Trial], wanted: int, failed: int, columns: Sequence[str]) -> Summary:
    """The test numbers of a cell of `wanted` seeds over those that are done, the same in whichever order.

    columns: keys of measures.
    """
    form = chosen_form(trials)
    entries = {key: _entry(MEASURES[key], trials, form) for key in columns}
    return Summary(entries, len(trials), wanted, failed=failed)


def _entry(measure: Measure, trials: Sequence[Trial], form: str) -> Number | str:
    if not trials:
        return PENDING
    if measure.is_undefined(trials):
        return UNDEFINED
    values = [value for trial in trials if (value := measure.of(trial, form)) is not None]
    # A mean over some of the seeds would stand beside means over all of them.
    if len(values) < len(trials):
        return PENDING
    return over_seeds(values) if all(map(math.isfinite, values)) else NOT_FINITE


def over_seeds(values: Sequence[float]) -> Number:
    """Mean and sample standard deviation of finite values; one value has no deviation."""
    return Number(fmean(values), stdev(values) if len(values) > 1 else None)


def mark_best(summaries: Sequence[Summary | None], column: str) -> list[Summary | None]:
    """The summaries with the lowest strict bound marked in `column`; ties as printed all are, a lone number is not."""
    printed = [None if summary is None else _printed(summary.mean("strict")) for summary in summaries]
    ranked = [value for value in printed if value is not None]
    if len(ranked) < 2:
        return list(summaries)
    return [
        _marked(summary, column, is_best=True) if summary is not None and value == min(ranked) else summary
        for summary, value in zip(summaries, printed, strict=True)
    ]


def mark_tied(
    summaries: Mapping[str, Summary | None], strict: Mapping[str, Mapping[int, float | str]], column: str
) -> dict[str, Summary | None]:
    """By row, with those marked that were tested and not told apart from the best, where there are seeds to tell.

    strict: by row and seed, the strict number, or in words why there is none.
    """
    if max((len(values) for values in strict.values()), default=0) < SEEDS_TO_TELL:
        return dict(summaries)
    # SciPy and statsmodels take a second to import, which sweeps of few seeds need not pay.
    from sweep.comparison import ties_with_best

    tied = ties_with_best(strict).tied
    return {
        row: _marked(summary, column, is_tied=True) if summary is not None and row in tied else summary
        for row, summary in summaries.items()
    }


def _printed(mean: float | None) -> float | None:
    return None if mean is None else float(f"{mean:.1f}")


def _marked(summary: Summary, column: str, *, is_best: bool = False, is_tied: bool = False) -> Summary:
    number = summary.entries[column]
    assert isinstance(number, Number)
    marked = replace(number, is_best=number.is_best or is_best, is_tied=is_tied and not number.is_best)
    return replace(summary, entries={**summary.entries, column: marked})
