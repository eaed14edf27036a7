"""The command that says which methods of a sweep can be told apart by their test numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.config import unknown
from sweep.evaluation import Evaluation
from sweep.measures import CHOSEN
from sweep.options import DEFAULT_RESULTS, Json, Name, Results, say, say_json
from sweep.part import Part, parts
from sweep.plan import evaluations_of, results_of
from sweep.record import SweepRecord, TrialResult
from sweep.store import TrialStore

if TYPE_CHECKING:
    from sweep.listing import Listing

RANKED = ("nll", "nelbo_", "ppl", "iw_")
"""How metrics begin that are the better the lower they are, if they do not end as `UNRANKED` do."""
UNRANKED = ("_se", "_ess")
PAPER = "_paper"
"""How metrics end that bound nothing where a likelihood is given several latents."""

app = typer.Typer(rich_markup_mode="rich")


@app.command("compare")
def compare_command(
    name: Name,
    metric: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(CHOSEN)}, as tables have them, or a name in a result or an evaluation, e.g. nelbo_paper."
        ),
    ] = "strict",
    baseline: Annotated[str | None, typer.Option(help="The row to compare with; the best one by default.")] = None,
    all_pairs: Annotated[bool, typer.Option("--all-pairs", help="Compare every row with every other.")] = False,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Which methods differ by more than their seeds do. Example: [bold]sweep compare ptb --baseline LSTM-LM[/]

    For each column group of the sweep's tables: mean differences over the seeds that two rows have in common, their
    95 % intervals, and exact tests corrected for their number.
    """
    store = TrialStore(results)
    record = store.recorded(name)
    done = results_of(record, store)
    if not done:
        say_json([]) if as_json else say("nothing is done yet that could be compared")
        return
    # SciPy and statsmodels take a second to import, which the other commands need not pay.
    from sweep.listing import text

    numbers = None if metric in CHOSEN else _read(record, store, metric, done)
    states = store.states(key for key in record.wanted if key not in done)
    failed = [key for key, state in states.items() if state == "failed"]
    found = parts(record, done, evaluations_of(record, store), failed)
    rows = dict.fromkeys(row for part in found for row in part.rows)
    if baseline is not None and baseline not in rows:
        raise ValueError(unknown("row", baseline, rows))
    asked = _Asked(metric, baseline, all_pairs)
    listings = [_listing(part, group, asked, numbers) for part in found for group in part.groups]
    unbounded = [row for row in rows if any(row in listing.unbounded for listing in listings)]
    if unbounded:
        typer.echo(
            f"warning: {metric} ranks nothing beside {', '.join(unbounded)}, of which it is no bound; "
            "--metric strict is",
            err=True,
        )
    if as_json:
        say_json([listing.facts() for listing in listings])
        return
    say(text(listings, _source(record, store, metric) if numbers is None or numbers.is_later else ""))


@dataclass(frozen=True)
class _Asked:
    """What was asked for. baseline: a row; the best one without."""

    metric: str
    baseline: str | None
    all_pairs: bool


@dataclass(frozen=True)
class _Numbers:
    """One metric of the test split. values: by a trial's key. absent: of the others, in words, why they have none.

    unbounded: trials of which it bounds nothing. is_later: whether it was measured after training.
    """

    values: Mapping[str, float]
    absent: Mapping[str, str]
    unbounded: frozenset[str]
    is_later: bool

    def of(self, key: str) -> float | str:
        return self.absent[key] if key in self.absent else self.values[key]


def _read(record: SweepRecord, store: TrialStore, metric: str, done: Mapping[str, TrialResult]) -> _Numbers:
    """Raises ValueError for a metric that no trial has."""
    found: Mapping[str, TrialResult | Evaluation] = done
    is_later = not any(metric in result.test for result in done.values())
    if is_later:
        found = evaluations_of(record, store)
        if not any(metric in each.test for each in found.values()):
            known = {*CHOSEN, *(name for tests in (done, found) for each in tests.values() for name in each.test)}
            more = "" if found else f"; 'sweep evaluate {record.name}' measures more"
            raise ValueError(f"{unknown('metric', metric, known)}{more}")
    states = store.states(key for key in record.wanted if key not in done)
    absent = {key: "failed" if state == "failed" else "not done" for key, state in states.items()}
    absent |= {key: "not evaluated" for key in done if key not in found}
    absent |= {key: f"without {metric}" for key, each in found.items() if metric not in each.test}
    values = {key: each.test[metric] for key, each in found.items() if metric in each.test}
    of_several = {key for key in values if metric.endswith(PAPER) and found[key].latents_per_sentence > 1}
    return _Numbers(values, absent, frozenset(of_several), is_later)


def _source(record: SweepRecord, store: TrialStore, metric: str) -> str:
    """How a metric was measured after training; nothing where none was."""
    settings = store.evaluated(record.name)
    if settings is None:
        return "strict: of averaged states, reconstruction and a KL for each latent; 'sweep evaluate' has tighter ones."
    named = ", ".join(f"{key} {value}" for key, value in settings.model_dump().items())
    chosen = "; of averaged states the bound that is lowest on validation" if metric in CHOSEN else ""
    return f"{metric}: as 'sweep evaluate' measured it, with {named}{chosen}."


def _listing(part: Part, group: str, asked: _Asked, numbers: _Numbers | None) -> "Listing":
    """numbers: of a metric that tables do not have."""
    from sweep.comparison import compare
    from sweep.listing import Listing

    cells = {row: cell for row in part.rows if (cell := part.cell(row, group))}
    metric, unbounded = asked.metric, tuple[str, ...]()
    if numbers is None:
        rows = {row: part.by_seed(row, group, metric) for row in cells}
    else:
        rows = {row: {trial.seed: numbers.of(trial.key) for trial in cell} for row, cell in cells.items()}
        unbounded = tuple(row for row, cell in cells.items() if any(t.key in numbers.unbounded for t in cell))
    ranks = metric in CHOSEN or (metric.startswith(RANKED) and not metric.endswith(UNRANKED) and not unbounded)
    family = compare(rows, baseline=asked.baseline, all_pairs=asked.all_pairs, ranks=ranks)
    return Listing(part.title, group, metric, asked.baseline, asked.all_pairs, family, ranks, unbounded)
