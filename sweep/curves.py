"""Training curves from records alone: mean and deviation over seeds, epoch by epoch, in the sweep's order."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from sweep.config import unknown
from sweep.record import TUNED, EpochRecord, SweepRecord, TrialResult, WantedTrial


@dataclass(frozen=True)
class Measure:
    """of_latent: whether a language model has none of it; it then counts from 0. may_diverge: see `limits`."""

    of: Callable[[EpochRecord], float]
    of_latent: bool
    may_diverge: bool = True


MEASURES: Mapping[str, Measure] = {
    "beta": Measure(lambda record: record.beta, of_latent=True, may_diverge=False),
    "kl": Measure(lambda record: record.valid["kl"], of_latent=True),
    "nll": Measure(lambda record: record.valid["nelbo_paper"], of_latent=False),
}
"""KL weight; KL and NLL on validation, nats per sentence, the NLL as the tables have it."""
DIVERGED = 3.0
"""Times the lowest NLL of its panel: what is above it is a training that went wrong, and no scale is made for it."""


@dataclass(frozen=True)
class Curve:
    """One measure after each epoch, counted from 1: over the seeds that have the epoch, and 0 as deviation of one."""

    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Line:
    """What is drawn in one look. place: of its label among all labels of the axis. curves: by measure.

    A language model has no KL weight and no KL.
    """

    label: str
    place: int
    num_seeds: int
    curves: Mapping[str, Curve]


@dataclass(frozen=True)
class Column:
    """The lines of one combination of the axes that are not told apart by lines. labels: of that combination."""

    labels: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Sheet:
    """What one figure shows. axis: whose labels its lines are; None where the sweep has no axis for that."""

    title: str
    axis: str | None
    columns: tuple[Column, ...]

    @property
    def labels(self) -> dict[str, int]:
        """Of every line in it, with their places, in the order of those."""
        places = {line.label: line.place for column in self.columns for line in column.lines}
        return dict(sorted(places.items(), key=lambda item: item[1]))

    @property
    def nums_seeds(self) -> set[int]:
        return {line.num_seeds for column in self.columns for line in column.lines}


def sheets(record: SweepRecord, results: Mapping[str, TrialResult], lines: str | None = None) -> list[Sheet]:
    """One a label of the axis `split_by` of the sweep's tables, in the order of the sweep, of what is done.

    results: of done trials by key. lines: the axis that has one line a label, by default the last that a table does not
    have side by side; when it is `split_by`, one sheet has all. What a search has tuned is left out. Raises ValueError
    on an unknown axis.
    """
    trials = [trial for trial in record.trials if TUNED not in trial.labels]
    axes = list(dict.fromkeys(axis for trial in trials for axis in trial.labels))
    if lines is not None and lines not in axes:
        raise ValueError(unknown("axis", lines, axes) if axes else f"no axis '{lines}': sweep '{record.name}' has none")
    split_by = record.table.get("split_by") if record.table.get("split_by") != lines else None
    # What a table has side by side is side by side here too, unless there is nothing else.
    last = sorted(axes, key=lambda axis: axis != record.table.get("across"))
    lines = lines or next((axis for axis in reversed(last) if axis != split_by), None)
    labels = list(dict.fromkeys(trial.labels.get(lines or "", record.name) for trial in trials))
    parts: dict[str, list[WantedTrial]] = {}
    for trial in trials:
        if trial.key in results:
            parts.setdefault(trial.labels.get(split_by or "", record.name), []).append(trial)
    columns = [axis for axis in axes if axis not in (split_by, lines)]
    return [
        Sheet(title, lines, tuple(_columns(part, columns, lines, labels, results))) for title, part in parts.items()
    ]


def _columns(
    trials: Sequence[WantedTrial],
    axes: Collection[str],
    lines: str | None,
    labels: Sequence[str],
    results: Mapping[str, TrialResult],
) -> Iterator[Column]:
    """labels: of all lines of the sweep; the only one there is where it has no axis for them."""
    grid: dict[tuple[str, ...], dict[str, list[TrialResult]]] = {}
    for trial in trials:
        column = grid.setdefault(tuple(label for axis, label in trial.labels.items() if axis in axes), {})
        column.setdefault(trial.labels.get(lines or "", labels[0]), []).append(results[trial.key])
    for combination, found in grid.items():
        yield Column(combination, tuple(_line(label, labels.index(label), each) for label, each in found.items()))


def _line(label: str, place: int, results: Sequence[TrialResult]) -> Line:
    has_latent = all(result.latents_per_sentence > 0 for result in results)
    curves = {name: _curve(each.of, results) for name, each in MEASURES.items() if has_latent or not each.of_latent}
    return Line(label, place, len(results), curves)


def _curve(measure: Callable[[EpochRecord], float], results: Sequence[TrialResult]) -> Curve:
    values: dict[int, list[float]] = {}
    for result in results:
        for record in result.history:
            values.setdefault(record.epoch, []).append(measure(record))
    epochs = tuple(sorted(values))
    return Curve(
        epochs,
        tuple(fmean(values[epoch]) for epoch in epochs),
        tuple(stdev(values[epoch]) if len(values[epoch]) > 1 else 0.0 for epoch in epochs),
    )


def limits(sheet: Sheet) -> dict[str, tuple[float, float]]:
    """Ends of the y axes by measure, so that neither the first epoch nor a training that diverged squashes the others.

    A measure of which there is nothing to go by is not among them.
    """
    bands: dict[str, list[np.ndarray]] = {name: [] for name in MEASURES}
    for column in sheet.columns:
        lowest = min(min(line.curves["nll"].mean) for line in column.lines)
        for line in column.lines:
            sound = _sound(line.curves["nll"], DIVERGED * lowest)
            for name, curve in line.curves.items():
                bands[name].append(_ends(curve, sound if MEASURES[name].may_diverge else curve.epochs))
    found = {name: _limits(MEASURES[name], [band for band in lines if len(band)]) for name, lines in bands.items()}
    return {name: ends for name, ends in found.items() if ends is not None}


def _sound(nll: Curve, most: float) -> set[int]:
    """Epochs by which a scale is made: after the first, where there is more, and not of a divergence."""
    judged = list(zip(nll.epochs, nll.mean, nll.std, strict=True))
    return {epoch for epoch, mean, std in judged[1:] or judged if mean + std <= most}


def _ends(curve: Curve, epochs: Collection[int]) -> np.ndarray:
    """Lower and upper ends of the band around a curve, (epochs, 2)."""
    points = zip(curve.epochs, curve.mean, curve.std, strict=True)
    return np.array([(mean - std, mean + std) for epoch, mean, std in points if epoch in epochs]).reshape(-1, 2)


def _limits(measure: Measure, bands: Sequence[np.ndarray]) -> tuple[float, float] | None:
    if not bands:
        return None
    if measure.of_latent:
        bottom, top = 0.0, max(float(band[:, 1].max()) for band in bands)
    else:
        # The early fall of each line is cut, but of each by itself: one among many is to be seen as well.
        bottom = min(float(band[:, 0].min()) for band in bands)
        top = max(float(np.percentile(band[:, 1], 95)) for band in bands)
    margin = 0.05 * (top - bottom) or 0.05 * abs(top) or 0.05
    return bottom - margin, top + margin
