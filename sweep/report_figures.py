"""The drawer of the report's figures: one panel each, which a page can set beside or below one another."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from sweep.figures import COLOURS, DASHES, LOOK
from sweep.relations import Ladder, Ladders, Plane, Spectra

SIZE = (4.3, 3.3)
"""Of a panel, in inches: readable at its own size on a phone."""
SWATCH = (0.34, 0.16)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*", "h")
SOFT = "#888888"
"""Of what is only there to go by."""
SMALLEST = 0.01
"""Nats, below which the axis of a spectrum is linear down to 0: what a dimension has there is as good as nothing."""
LEAST_RATE = 0.5
"""Nats that the axis of the KL has at the least: posteriors that collapsed lie at its bottom, not all over it."""
DODGE = 0.012
"""Share of the axis by which ladders stand apart, where their error bars would cover one another."""


def draw_plane(plane: Plane) -> Figure:
    """KL against reconstruction, a point a seed; on a dotted line their sum is the same."""
    return _drawn(plane.title, lambda panel: _fill_plane(panel, plane))


def draw_spectra(spectra: Spectra) -> Figure:
    """KL of each dimension, the largest first, a line a method."""
    return _drawn(spectra.title, lambda panel: _fill_spectra(panel, spectra))


def draw_ladders(ladders: Ladders, places: Mapping[str, int]) -> Figure:
    """Perplexity against L: means over seeds, their sample deviation as a bar, and each seed as a small point.

    places: of the ladders' labels, by which they look the same in every panel.
    """
    return _drawn(ladders.title, lambda panel: _fill_ladders(panel, ladders.ladders, places))


def draw_swatch(place: int, *, is_line: bool) -> Figure:
    """How what has that place looks in the figures: a line, or a mark alone."""
    with style.context(LOOK):
        figure = Figure(SWATCH)
        look = _line(place) if is_line else _mark(place)
        figure.add_artist(Line2D([0.0, 0.5, 1.0], [0.5, 0.5, 0.5], markevery=[1], **look))
        return figure


def _drawn(title: str, fill: Callable[[Axes], None]) -> Figure:
    with style.context(LOOK):
        figure = Figure(SIZE, layout="constrained")
        panel = figure.subplots()
        panel.set_title(title)
        fill(panel)
        return figure


def _fill_plane(panel: Axes, plane: Plane) -> None:
    points = [point for rates in plane.rates for point in rates.points]
    panel.set_xlim(_around([rec for rec, _ in points], least=1.0))
    top = max(LEAST_RATE, 1.15 * max(kl for _, kl in points))
    panel.set_ylim(-0.05 * top, top)
    _draw_sums(panel)
    for rates in plane.rates:
        rec, kl = zip(*rates.points, strict=True)
        panel.plot(rec, kl, alpha=0.85, zorder=3, **_mark(rates.place))
    panel.set_xlabel("test reconstruction [nats per sentence]")
    panel.set_ylabel("test KL [nats per sentence]")


def _around(values: Sequence[float], least: float) -> tuple[float, float]:
    """Ends of an axis of at least that length, with room beside the values."""
    room = max(0.08 * (max(values) - min(values)), (least - max(values) + min(values)) / 2)
    return min(values) - room, max(values) + room


def _draw_sums(panel: Axes) -> None:
    """Lines on which reconstruction and KL have one sum, each with that sum at its upper end."""
    panel.grid(visible=False)
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    for total in MaxNLocator(nbins=6).tick_values(left + bottom, right + top):
        if not left + bottom < total < right + top:
            continue
        panel.axline((total, 0.0), slope=-1.0, color=SOFT, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1)
        x = max(left, total - top) + 0.015 * (right - left)
        if x < right - 0.1 * (right - left) and total - x > bottom + 0.1 * (top - bottom):
            panel.text(
                x + 0.01 * (right - left), total - x, f"{total:g}", color=SOFT, fontsize=7, va="bottom", ha="left",
                rotation=-45, rotation_mode="anchor", transform_rotates_text=True, zorder=2,
            )  # fmt: skip


def _fill_spectra(panel: Axes, spectra: Spectra) -> None:
    for spectrum in spectra.spectra:
        ranks = range(1, len(spectrum.values) + 1)
        every = max(1, len(spectrum.values) // 16)
        panel.plot(ranks, spectrum.values, markevery=every, **_line(spectrum.place))
    largest = max(max(spectrum.values) for spectrum in spectra.spectra)
    panel.set_yscale("symlog", linthresh=SMALLEST, linscale=0.5)
    panel.set_ylim(-0.1 * SMALLEST, max(1.5 * largest, 10 * SMALLEST))
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.yaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.set_xlabel("dimension of the latent, by its KL")
    panel.set_ylabel("KL [nats]")


def _fill_ladders(panel: Axes, ladders: Sequence[Ladder], places: Mapping[str, int]) -> None:
    counts = sorted({samples for ladder in ladders for samples in ladder.rungs})
    step = DODGE * (counts[-1] - counts[0])
    # So that one strict bound far above the rest does not squash it.
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(MaxNLocator(nbins=6))
    panel.yaxis.set_major_formatter(ScalarFormatter())
    panel.yaxis.set_minor_locator(NullLocator())
    for i, ladder in enumerate(ladders):
        look = _line(places[ladder.label])
        at = [samples + (i - (len(ladders) - 1) / 2) * step for samples in ladder.rungs]
        spread = [stdev(values) if len(values) > 1 else 0.0 for values in ladder.rungs.values()]
        panel.errorbar(at, [fmean(values) for values in ladder.rungs.values()], spread, capsize=3, **look)
        for x, values in zip(at, ladder.rungs.values(), strict=True):
            panel.plot(
                [x] * len(values), values, marker="o", markersize=2.5, linestyle="None", alpha=0.6, color=look["color"]
            )
    panel.set_xticks(counts)
    panel.set_xlabel("latent samples L")
    panel.set_ylabel("test PPL")


def _mark(place: int) -> dict[str, Any]:
    """Of the method with that place: told from the others by its shape alone."""
    is_open = place // len(MARKERS) % 2 == 1
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 5.5,
        "markerfacecolor": "none" if is_open else COLOURS[place % len(COLOURS)],
        "linestyle": "None",
    }


def _line(place: int) -> dict[str, Any]:
    return {**_mark(place), "markersize": 3.5, "linestyle": DASHES[place % len(DASHES)], "linewidth": 1.4}
