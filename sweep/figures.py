"""The only drawer of ours: training curves as Matplotlib figures, the same bytes for the same records."""

import io
import math
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sweep.curves import Column, Sheet, limits

FORMATS = ("png", "svg")
ROWS = {
    "beta": "KL weight β",
    "kl": "validation KL\n[nats per sentence]",
    "nll": "validation NLL\n[nats per sentence]",
}
"""Measure to the label of its row of panels, from top to bottom."""
HEIGHTS = (1.1, 1.7, 2.3)
"""Of the rows, in inches."""
# Okabe and Ito's, without the yellow that paper swallows, and three more.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F", "#6A3D9A")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("None", "o", "s", "^")
POINTS = ("o", "s", "^", "D", "v")
"""Markers of lines of one epoch, in place of dashes."""
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so that figures do not depend on the host's fonts
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # a $ in a label is a $
    "svg.hashsalt": "sweep",
}
LOOK = ["default", STYLE]
"""Whatever the host's own settings of Matplotlib are."""
EDGE, GAP, LETTER = 0.9, 0.75, 0.065
"""Inches: beside the panels, and of each column of the legend its line and space, and a letter of its text, about."""
MARKS = 8
"""Markers along a line, where it has any, about."""


def draw(sheet: Sheet) -> Figure:
    """A column of panels a combination of axes, in each one line a label; rows as in `ROWS`, against epochs.

    A line is the mean over seeds, the band around it one sample standard deviation.
    """
    with style.context(LOOK):
        return _figure(sheet)


def image(figure: Figure, form: str) -> bytes:
    """A figure in one of `FORMATS`."""
    content = io.BytesIO()
    # Neither the time nor the version of the program, which would make other bytes of the same figure.
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[form]
    with style.context(LOOK):
        figure.savefig(content, format=form, dpi=150, metadata=metadata)
    return content.getvalue()


def _figure(sheet: Sheet) -> Figure:
    num, num_labels = len(sheet.columns), len(sheet.labels)
    width = EDGE + num * (4.6 if num == 1 else 3.2 if num < 4 else 2.5)
    num_down = math.ceil(num_labels / max(1, int(width / (GAP + LETTER * max(map(len, sheet.labels))))))
    figure = Figure((width, sum(HEIGHTS) + 1.3 + 0.2 * num_down), layout="constrained")
    grid = figure.subplots(len(ROWS), num, sharex=True, sharey="row", squeeze=False, height_ratios=HEIGHTS)
    ends = limits(sheet)
    for (name, label), panels in zip(ROWS.items(), grid, strict=True):
        panels[0].set_ylabel(label)
        panels[0].set_ylim(ends.get(name))
        for column, panel in zip(sheet.columns, panels, strict=True):
            _fill(panel, column, name)
    for column, top, bottom in zip(sheet.columns, grid[0], grid[-1], strict=True):
        top.set_title("\n".join(column.labels))
        bottom.set_xlabel("epoch")
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, steps=[1, 2, 5, 10], min_n_ticks=1))
    figure.align_ylabels(grid[:, 0])
    figure.suptitle(sheet.title, fontsize=11, fontweight="bold")
    _explain(figure, sheet, math.ceil(num_labels / num_down))
    return figure


def _fill(panel: Axes, column: Column, name: str) -> None:
    """Draw the lines that have the measure."""
    _, top = panel.get_ylim()
    for line in column.lines:
        if (curve := line.curves.get(name)) is None:
            continue
        first = line.place % MARKS if len(curve.epochs) > MARKS else 0
        every = max(1, len(curve.epochs) // MARKS)
        panel.plot(
            curve.epochs, curve.mean, label=line.label, markevery=(first, every), **_look(line.place, len(curve.epochs))
        )
        if any(curve.std):
            ends = [(mean - std, mean + std) for mean, std in zip(curve.mean, curve.std, strict=True)]
            low, high = zip(*ends, strict=True)
            # Where a seed diverged, the line has left the panel, and its band would cover all the others.
            shown = [mean <= top for mean in curve.mean]
            panel.fill_between(curve.epochs, low, high, where=shown, color=_colour(line.place), alpha=0.15, linewidth=0)
    if not any(name in line.curves for line in column.lines):
        panel.text(0.5, 0.5, "no latent variable", transform=panel.transAxes, ha="center", color="#888888")


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _look(place: int, num_epochs: int) -> dict[str, Any]:
    """Of the line with that place: told from the others by its colour, and without colours by dashes and markers."""
    is_point = num_epochs == 1
    return {
        "color": _colour(place),
        "linestyle": "None" if is_point else DASHES[place % len(DASHES)],
        "marker": POINTS[place % len(POINTS)] if is_point else MARKERS[place // len(DASHES) % len(MARKERS)],
        "markersize": 3.5,
        "linewidth": 1.5,
    }


def _explain(figure: Figure, sheet: Sheet, num_across: int) -> None:
    """One legend for all panels, below them."""
    longest = max(len(line.curves["nll"].epochs) for column in sheet.columns for line in column.lines)
    handles = [Line2D([], [], **_look(place, longest)) for place in sheet.labels.values()]
    figure.legend(
        handles, list(sheet.labels), title=_note(sheet), loc="outside lower center", ncols=num_across, handlelength=3.2
    )


def _note(sheet: Sheet) -> str:
    numbers = sorted(sheet.nums_seeds)
    if numbers == [1]:
        what = "one seed each"
    else:
        seeds = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
        what = f"mean and, as a band, sample standard deviation over {seeds} seeds"
    return f"{sheet.axis}: {what}" if sheet.axis else what
