"""What the trials of one cell come to over their seeds, and which cells of a column are best."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev

from sweep.layout import PENDING, UNDEFINED, Number, Summary
from sweep.record import TrialResult

METRICS = {"nll": "nelbo_paper", "kl": "kl", "ppl": "ppl_paper", "strict": "nll"}
"""Column of a comparison to the metric of a result's test split that it shows."""


def summarize(results: Sequence[TrialResult], wanted: int) -> Summary:
    """The test numbers of a cell of `wanted` seeds over those that are done, the same in whichever order."""
    entries: dict[str, Number | str] = {
        column: over_seeds([result.test[metric] for result in results]) if results else PENDING
        for column, metric in METRICS.items()
    }
    if results and all(result.latents_per_sentence == 0 for result in results):
        entries["kl"] = UNDEFINED
    return Summary(entries, len(results), wanted)


def over_seeds(values: Sequence[float]) -> Number:
    """Mean and sample standard deviation, which one value has none of."""
    return Number(fmean(values), stdev(values) if len(values) > 1 else None)


def mark_best(summaries: Sequence[Summary | None], column: str) -> list[Summary | None]:
    """The summaries with the lowest strict bound marked in `column`; ties as printed all are, a lone number is not."""
    printed = [None if summary is None else _printed(summary.mean("strict")) for summary in summaries]
    ranked = [value for value in printed if value is not None]
    if len(ranked) < 2:
        return list(summaries)
    return [
        _marked(summary, column) if summary is not None and value == min(ranked) else summary
        for summary, value in zip(summaries, printed, strict=True)
    ]


def _printed(mean: float | None) -> float | None:
    return None if mean is None else float(f"{mean:.1f}")


def _marked(summary: Summary, column: str) -> Summary:
    number = summary.entries[column]
    assert isinstance(number, Number)
    return replace(summary, entries={**summary.entries, column: replace(number, is_best=True)})
