"""The report's tables of what training cost, where it ran, and what the searches came to."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from sweep.footnotes import settings
from sweep.formats.html import Block, Entry, Grid, Line
from sweep.layout import UNDEFINED
from sweep.record import SweepRecord, TrialResult
from sweep.relations import Panel
from sweep.search_state import SearchState


def cost(panels: Sequence[Panel], results: Mapping[str, TrialResult]) -> Grid | None:
    """Of the done trials of each method, apart by dataset and by what they ran on; None before any is done."""
    found: dict[str, dict[str, list[TrialResult]]] = {}
    for panel in panels:
        for method, trials in panel.methods.items():
            for result in (results[trial.key] for trial in trials if trial.key in results):
                where = " · ".join(filter(None, (panel.part, machine(result))))
                found.setdefault(where, {}).setdefault(method, []).append(result)
    blocks = [
        Block(tuple(_cost_line(method, done) for method, done in methods.items()), where)
        for where, methods in found.items()
    ]
    columns = ("trials", "in all", "a trial", "epochs", "tokens/s")
    note = "Wall-clock of the trainings themselves, validation included; tokens/s: of the training split, a trial."
    return Grid("Cost of training", "method", columns, tuple(blocks), notes=(note,)) if blocks else None


def _cost_line(method: str, done: Sequence[TrialResult]) -> Line:
    seconds = [result.cost["seconds"] for result in done]
    rates = [result.cost["train_tokens_per_second"] for result in done]
    epochs = fmean(result.cost["epochs"] for result in done)
    return Line(
        method,
        (
            Entry(f"{len(done)}", value=len(done)),
            Entry(duration(sum(seconds)), value=sum(seconds)),
            Entry(duration(fmean(seconds)), value=fmean(seconds)),
            Entry(f"{epochs:.1f}".removesuffix(".0"), value=epochs),
            Entry(f"{fmean(rates):,.0f}", value=fmean(rates)),
        ),
    )


def machine(result: TrialResult) -> str:
    """What a trial ran on, in words; without the host's name, which is nobody else's business."""
    facts = result.environment
    threads = facts.get("threads", "")
    return ", ".join(
        [
            facts.get("device", "unknown device"),
            *([f"{threads} thread{'' if threads == '1' else 's'}"] if threads else []),
        ]
    )


def duration(seconds: float) -> str:
    """In the unit that reads best."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:,.1f} h"


def search_grid(states: Sequence[SearchState], seconds: Sequence[float]) -> Grid:
    """How the search of each cell stands. seconds: of training its suggestions."""
    columns = ("tried", "of", "complete", "pruned", "failed", "under way", "training", "best no.", "its value")
    lines = [_search_line(state, spent) for state, spent in zip(states, seconds, strict=True)]
    note = "value: of the search’s objective on validation, lower is better. training: of the suggestions themselves."
    return Grid("How the searches stand", "cell", columns, (Block(tuple(lines)),), notes=(note,))


def _search_line(state: SearchState, seconds: float) -> Line:
    counts = (state.told, state.budget, state.complete, state.pruned, state.failed, state.under_way)
    return Line(
        state.cell or "the only cell",
        (
            *(Entry(str(count), value=count) for count in counts),
            Entry(duration(seconds), value=seconds),
            Entry(UNDEFINED if state.best is None else str(state.best), value=state.best),
            Entry(UNDEFINED if state.value is None else f"{state.value:.2f}", value=state.value),
        ),
    )


def chosen_grid(record: SweepRecord) -> Grid | None:
    """What was chosen by the searches that came to their end; None before any has."""
    lines = [
        Line(
            " / ".join(tuned.labels.values()),
            (
                Entry(str(tuned.number), value=tuned.number),
                Entry(str(tuned.searched), value=tuned.searched),
                Entry(f"{tuned.value:.2f}", value=tuned.value),
                Entry(settings(tuned.params), value=settings(tuned.params)),
            ),
        )
        for tuned in record.tuned
    ]
    columns = ("suggestion", "of", "value", "settings")
    note = "What stands in the comparison was trained again, with these settings, on the report’s own seeds."
    return Grid("What was chosen", "cell", columns, (Block(tuple(lines)),), notes=(note,)) if lines else None


def environment(results: Iterable[TrialResult]) -> list[tuple[str, str]]:
    """Facts of where trials ran, each with how many of them where they differ. Hosts are counted, not named."""
    done = list(results)
    facts = dict.fromkeys(fact for result in done for fact in result.environment if fact != "host")
    hosts = {result.environment["host"] for result in done if "host" in result.environment}
    told = [(fact, _counted([result.environment.get(fact, "not recorded") for result in done])) for fact in facts]
    return [*([("hosts", str(len(hosts)))] if hosts else []), *told]


def _counted(values: Sequence[str]) -> str:
    counts = {value: values.count(value) for value in dict.fromkeys(sorted(values))}
    if len(counts) == 1:
        return values[0]
    return "; ".join(f"{value} ({count} {'trial' if count == 1 else 'trials'})" for value, count in counts.items())
