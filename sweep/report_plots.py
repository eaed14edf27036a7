"""The report's figures: drawn in the page's colours, each with a caption, a legend, and what it shows in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from markupsafe import Markup

from sweep.curves import Sheet, sheets
from sweep.evaluation import Evaluation
from sweep.figures import COLOURS, draw, image
from sweep.inline_svg import inline
from sweep.record import SweepRecord, TrialResult
from sweep.relations import Ladders, Plane, Spectra, ladders, places, planes, spectra
from sweep.report_figures import SOFT, draw_ladders, draw_plane, draw_spectra, draw_swatch
from sweep.statistics import over_seeds

SERIES = {colour.lower(): f"var(--series-{n})" for n, colour in enumerate(COLOURS, start=1)}
PAGE = {
    **SERIES,
    "#ffffff": "none",
    "#000000": "currentColor",
    "#dddddd": "var(--grid)",
    SOFT: "var(--soft)",
}
"""Colours that our figures are drawn in, to what the page has for them, which is another at night."""

RATES = (
    "Where each trained model spends its nats: KL, the rate, against reconstruction, the distortion, both on test; a "
    "point is a seed. On a dotted line their sum is the same, the NLL of the tables. A language model spends nothing "
    "on latents. Of averaged hidden states the KL is that of one of their L latents."
)
SPECTRUM = (
    "KL of each dimension of a latent on test, sorted within each seed, the largest first, and averaged over seeds. "
    "The axis is linear below 0.01 nats and logarithmic above: what lies at the bottom is not used."
)
LADDERS = (
    "Test perplexity against the number of latent samples L. A small point is a seed, a line goes through the means, a "
    "bar is one sample standard deviation; lines stand a little apart to be seen. “Averaged” is the paper’s number, "
    "which with L > 1 is no bound; “averaged, strict bound” has the same models by the bound that the tables show. The "
    "axis is logarithmic."
)


@dataclass(frozen=True)
class Key:
    """One line of a legend."""

    swatch: Markup
    label: str


@dataclass(frozen=True)
class Plot:
    """A figure of a page. images: side by side, or one that is wide. words: what they show, a sentence each."""

    title: str
    images: tuple[Markup, ...]
    caption: str
    words: tuple[str, ...]
    legend: tuple[Key, ...] = ()
    is_wide: bool = False


def plots(record: SweepRecord, results: Mapping[str, TrialResult], evaluations: Mapping[str, Evaluation]) -> list[Plot]:
    """Those for which the sweep has what they show."""
    return [
        *_curves(sheets(record, results)),
        *_rates(planes(record, results), places(record)),
        *_spectra(spectra(record, evaluations), places(record)),
        *_ladders(ladders(record, results, evaluations)),
    ]


def _curves(drawn: Sequence[Sheet]) -> Iterator[Plot]:
    for n, sheet in enumerate(drawn, start=1):
        title = f"Training curves, {sheet.title}"
        caption = (
            "KL weight, validation KL and validation NLL after each epoch, the NLL as the tables have it: the paper’s "
            "number. Scales leave out the first epoch and trainings that diverged."
        )
        yield Plot(
            title,
            (_image(image(draw(replace(sheet, title="")), "svg"), f"curves-{n}", title),),
            caption,
            tuple(_last(sheet)),
            is_wide=True,
        )


def _last(sheet: Sheet) -> Iterator[str]:
    for column in sheet.columns:
        for line in column.lines:
            nll, kl = line.curves["nll"], line.curves.get("kl")
            latent = "" if kl is None else f", KL {kl.mean[-1]:.2f}"
            where = ", ".join([*column.labels, line.label])
            yield f"{where}: after epoch {nll.epochs[-1]}, validation NLL {nll.mean[-1]:.2f}{latent} nats per sentence."


def _rates(drawn: Sequence[Plane], places: Mapping[str, int]) -> Iterator[Plot]:
    if not drawn:
        return
    beyond = [f"{plane.title}: {', '.join(plane.beyond)}" for plane in drawn if plane.beyond]
    left_out = f" Left out, since they diverged: {'; '.join(beyond)}." if beyond else ""
    words = [
        f"{plane.title}, {rates.method}: reconstruction {fmean(rec for rec, _ in rates.points):.2f}, "
        f"KL {fmean(kl for _, kl in rates.points):.2f} nats per sentence, {_seeds(len(rates.points))}."
        for plane in drawn
        for rates in plane.rates
    ]
    shown = {rates.method: places[rates.method] for plane in drawn for rates in plane.rates}
    images = [
        _image(image(draw_plane(plane), "svg"), f"rates-{n}", f"KL against reconstruction, {plane.title}")
        for n, plane in enumerate(drawn, start=1)
    ]
    yield Plot(
        "Rate and distortion", tuple(images), RATES + left_out, tuple(words), _legend("rate", shown, is_line=False)
    )


def _spectra(drawn: Sequence[Spectra], places: Mapping[str, int]) -> Iterator[Plot]:
    if not drawn:
        return
    words = [
        f"{panel.title}, {each.method}: the largest {', '.join(f'{value:.3g}' for value in each.values[:5])} nats; "
        f"{sum(value > 0.01 for value in each.values)} of {len(each.values)} dimensions above 0.01, "
        f"{_seeds(each.num_seeds)}."
        for panel in drawn
        for each in panel.spectra
    ]
    shown = {each.method: places[each.method] for panel in drawn for each in panel.spectra}
    images = [
        _image(image(draw_spectra(panel), "svg"), f"spectrum-{n}", f"KL by dimension, {panel.title}")
        for n, panel in enumerate(drawn, start=1)
    ]
    yield Plot("KL by dimension", tuple(images), SPECTRUM, tuple(words), _legend("spectrum", shown, is_line=True))


def _ladders(drawn: Sequence[Ladders]) -> Iterator[Plot]:
    if not drawn:
        return
    labels = dict.fromkeys(ladder.label for panel in drawn for ladder in panel.ladders)
    places = {label: place for place, label in enumerate(labels)}
    words = [
        f"{panel.title}, {ladder.label}: " + ", ".join(_rung(*rung) for rung in ladder.rungs.items()) + "."
        for panel in drawn
        for ladder in panel.ladders
    ]
    images = [
        _image(image(draw_ladders(panel, places), "svg"), f"ladder-{n}", f"Perplexity against L, {panel.title}")
        for n, panel in enumerate(drawn, start=1)
    ]
    yield Plot(
        "Perplexity by the number of latent samples", tuple(images), LADDERS, tuple(words),
        _legend("ladder", places, is_line=True),
    )  # fmt: skip


def _rung(samples: int, values: Sequence[float]) -> str:
    found = over_seeds(values)
    spread = "" if found.std is None else f" ± {found.std:.1f}"
    return f"PPL {found.mean:.1f}{spread} with L = {samples} ({_seeds(len(values))})"


def _seeds(num: int) -> str:
    return "one seed" if num == 1 else f"{num} seeds"


def _legend(name: str, places: Mapping[str, int], *, is_line: bool) -> tuple[Key, ...]:
    return tuple(
        Key(_image(image(draw_swatch(place, is_line=is_line), "svg"), f"{name}-key-{place}", ""), label)
        for label, place in places.items()
    )


def _image(svg: bytes, name: str, title: str) -> Markup:
    return inline(svg.decode(), name, title, PAGE)
