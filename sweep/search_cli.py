"""The commands that look at what was trained: figures of it, and how its searches stand."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import typer

from sweep.additions import add
from sweep.footnotes import OBJECTIVES, settings
from sweep.mirror import default_uri
from sweep.options import (
    DEFAULT_RESULTS,
    Json,
    Name,
    NoTracking,
    Results,
    SearchStorage,
    Tracking,
    say,
    say_json,
)
from sweep.plan import results_of
from sweep.points import mark_of, read_points
from sweep.record import StudyPlan, SweepRecord
from sweep.run import default_storage
from sweep.search_fields import SearchFields
from sweep.search_state import SearchState, searches, training_seconds
from sweep.store import FIGURES, TrialStore

app = typer.Typer(rich_markup_mode="rich")


@app.command("figures")
def figures_command(
    name: Name,
    lines: Annotated[
        str | None,
        typer.Option(help="The axis with one line a label; by default the last that tables do not have side by side."),
    ] = None,
    results: Results = DEFAULT_RESULTS,
    search_storage: SearchStorage = None,
    tracking: Tracking = None,
    no_tracking: NoTracking = False,
) -> None:
    """Draw training curves, and Optuna's plots of searches, into the store. Example: [bold]sweep figures demo[/]"""
    store = TrialStore(results)
    record, uri = store.recorded(name), None if no_tracking else tracking or default_uri(results)
    written = [*_write_curves(record, store, lines), *_write_plots(record, store, search_storage)]
    for figure in written:
        say(f"{store.sweep(name)}/{figure}")
    if not written:
        say("nothing is done yet that could be drawn")
    elif uri is not None and (problem := add(uri, record, store, lambda mlflow: mlflow.keep(written), "the figures")):
        _warn([problem])


def _write_curves(record: SweepRecord, store: TrialStore, lines: str | None) -> list[str]:
    # Matplotlib takes a second to import, which the other commands need not pay.
    from sweep.curves import sheets
    from sweep.figures import FORMATS, draw, image

    drawn = sheets(record, results_of(record, store), lines)
    written = []
    for part, sheet in zip(file_names([sheet.title for sheet in drawn]), drawn, strict=True):
        figure = draw(sheet)
        for form in FORMATS:
            written.append(f"{FIGURES}/curves-{part}.{form}")
            store.sweep(record.name).publish(written[-1], image(figure, form))
    return written


def _write_plots(record: SweepRecord, store: TrialStore, url: str | None) -> list[str]:
    """Those of the searches that can be read; of others, a warning says why not."""
    if not record.studies:
        return []
    # So does Optuna.
    from sweep.study_plots import read_study

    written, problems = [], []
    for part, plan in zip(file_names([plan.id for plan in record.studies]), record.studies, strict=True):
        mark = mark_of(store, plan.id)
        try:
            plots = read_study(url or default_storage(store.location), record.name, plan, mark).plots()
        except ValueError as error:
            problems.append(f"a search is not drawn: {error}")
            continue
        for kind, content in plots.items():
            written.append(f"{FIGURES}/{part}-{kind}.png")
            store.sweep(record.name).publish(written[-1], content)
    _warn(problems)
    return written


def file_names(labels: Sequence[str]) -> list[str]:
    """A part of a file's name for each: the labels where all are fit for that on any disk, else their numbers."""
    are_fit = all(re.fullmatch(r"\w[\w.+-]{0,63}", label, re.ASCII) for label in labels)
    is_unique = len({label.lower() for label in labels}) == len(labels)
    return list(labels) if are_fit and is_unique else [str(n) for n in range(1, len(labels) + 1)]


@app.command("search")
def search_command(
    name: Name, results: Results = DEFAULT_RESULTS, search_storage: SearchStorage = None, as_json: Json = False
) -> None:
    """How a sweep's searches stand, and which fields mattered. Example: [bold]sweep search tune-demo[/]

    Hours are those of the trainings of the suggestions themselves, as the store has them. Importance is Optuna's, of
    the complete suggestions; it is left out before there are two, and where Optuna's storage cannot be read.
    """
    store = TrialStore(results)
    record = store.recorded(name)
    if not record.studies:
        raise ValueError(f"sweep '{name}' has no search; its spec has none under 'search:'")
    problems: list[str] = []
    found = [
        _report(record, store, search_storage, plan, state, problems)
        for plan, state in zip(record.studies, searches(record, store), strict=True)
    ]
    _warn(problems)
    if as_json:
        say_json([{**asdict(each.state), "told": each.state.told, **each.facts()} for each in found])
        return
    for each in found:
        for line in each.lines():
            say(line)


@dataclass(frozen=True)
class _Report:
    """params: of the best suggestion. importance: of each field, the largest first; None where it is not known."""

    state: SearchState
    objective: str
    params: Mapping[str, Any] | None
    importance: Mapping[str, float] | None
    hours: float

    def facts(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "state"}

    def lines(self) -> Iterator[str]:
        state = self.state
        yield (
            f"{state.cell or 'the only cell'}: {state.told} of {state.budget} suggestions tried: {state.complete} "
            f"complete, {state.pruned} pruned, {state.failed} failed; {state.under_way} under way; "
            f"{self.hours:.3g} hours of training"
        )
        if self.params is not None:
            what = OBJECTIVES[self.objective]
            yield f"  best: no. {state.best}, validation {what} {state.value:.2f}: {settings(self.params)}"
        if self.importance is not None:
            yield "  importance: " + ", ".join(f"{name} {share:.2f}" for name, share in self.importance.items())


def _report(
    record: SweepRecord, store: TrialStore, url: str | None, plan: StudyPlan, state: SearchState, problems: list[str]
) -> _Report:
    """problems: to which is added why an importance is not known."""
    importance = None
    if state.complete > 1:
        # Optuna takes a second to import.
        from sweep.study_plots import read_study

        try:
            mark = mark_of(store, plan.id)
            study = read_study(url or default_storage(store.location), record.name, plan, mark)
            importance = study.importances() or None
        except ValueError as error:
            problems.append(f"importance is not known: {error}")
    params = {point.number: point.params for point in read_points(store, record.name, plan.id)}
    objective = SearchFields.model_validate(record.document["search"]).objective
    hours = training_seconds(plan, record, store) / 3600
    return _Report(state, objective, None if state.best is None else params[state.best], importance, hours)


def _warn(sentences: Iterable[str]) -> None:
    for sentence in dict.fromkeys(sentences):
        typer.echo(f"warning: {sentence}", err=True)
