"""The report of a sweep: one page, from records alone, that needs nothing but itself; the same bytes for the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from sweep.evaluation import Evaluation, EvaluationSettings
from sweep.formats.html import Grid, grid
from sweep.jobs import each
from sweep.layout import Table
from sweep.markup import filled
from sweep.plan import evaluations_of, results_of
from sweep.record import State, SweepRecord, TrialFailure, TrialResult
from sweep.relations import Panel, panels
from sweep.report_diagnostics import diagnostics
from sweep.report_plots import plots
from sweep.report_tables import chosen_grid, cost, duration, environment, search_grid
from sweep.report_words import causes, commits, evaluated, missing, standing, when
from sweep.search_state import SearchState, searches, training_seconds
from sweep.status import failure_groups
from sweep.store import REPORT, TrialStore
from sweep.table import comparison_tables, data_table


@dataclass(frozen=True)
class Facts:
    """Everything that a report is made of. results, evaluations, readings: by the trials' keys; of those that have any.

    settings: how trials were evaluated; None when they never were. failures: by cause. searches, search_seconds: one a
    search. readings: file name to text.
    """

    record: SweepRecord
    states: Mapping[str, State]
    results: Mapping[str, TrialResult]
    settings: EvaluationSettings | None
    evaluations: Mapping[str, Evaluation]
    failures: Sequence[Sequence[TrialFailure]]
    searches: Sequence[SearchState]
    search_seconds: Sequence[float]
    readings: Mapping[str, Mapping[str, str]]

    @property
    def panels(self) -> list[Panel]:
        return panels(self.record)


def write_report(record: SweepRecord, store: TrialStore, *, paper: bool = False) -> str:
    """Put the page into the sweep's folder of the store; its name there. paper: published numbers beside ours."""
    store.sweep(record.name).publish(REPORT, page(read_facts(record, store), paper=paper).encode())
    return REPORT


def read_facts(record: SweepRecord, store: TrialStore) -> Facts:
    """Raises ValueError when a record is damaged."""
    return Facts(
        record,
        store.states(record.wanted),
        results_of(record, store),
        store.evaluated(record.name),
        evaluations_of(record, store),
        failure_groups(store, record),
        searches(record, store),
        [training_seconds(study, record, store) for study in record.studies],
        {key: texts for key, texts in each(lambda key: _readings(store, key), record.wanted).items() if texts},
    )


def _readings(store: TrialStore, key: str) -> dict[str, str]:
    files, names = store.trial(key), [name for name in store.readings(key) if name.endswith(".txt")]
    return {name.rpartition("/")[2]: files.read(name).decode(errors="replace") for name in names}


def page(facts: Facts, *, paper: bool = False) -> str:
    """The whole page as text."""
    record, results = facts.record, facts.results
    return filled(
        "report.html",
        name=record.name,
        about=str(record.document.get("about", "")),
        standing=standing(record, facts.states),
        when=when(results.values()),
        commits=commits(results.values()),
        tables=[grid(table) for table in _comparison(facts, paper=paper)],
        plots=plots(record, results, facts.evaluations),
        evaluated=_evaluated(facts),
        diagnostics=diagnostics(facts.panels, results, facts.evaluations),
        searches=_searches(facts),
        missing=missing(facts.panels, facts.states),
        causes=causes(record, facts.failures),
        spent=_spent(facts),
        cost=cost(facts.panels, results),
        environment=environment(results.values()),
        corpora=_corpora(facts, paper=paper),
        hashes=_hashes(results),
        readings=_named_readings(facts),
        readable=next((trial.key[:12] for trial in record.trials if trial.key in results), ""),
        spec=spec_text(record.document),
    )


def _comparison(facts: Facts, *, paper: bool) -> list[Table]:
    failed = [key for key, state in facts.states.items() if state == "failed"]
    return comparison_tables(facts.record, facts.results, facts.evaluations, paper=paper, failed=failed)


def _evaluated(facts: Facts) -> str:
    if facts.settings is None:
        return ""
    return evaluated(facts.settings, len(facts.evaluations), len(facts.record.wanted))


def _searches(facts: Facts) -> list[Grid]:
    if not facts.searches:
        return []
    chosen = chosen_grid(facts.record)
    return [search_grid(facts.searches, facts.search_seconds), *([] if chosen is None else [chosen])]


def _spent(facts: Facts) -> list[str]:
    """What all of it took, a clause for each kind of work."""
    kinds = {
        "training": [result.cost["seconds"] for result in facts.results.values()],
        "evaluation": [evaluation.cost["seconds"] for evaluation in facts.evaluations.values()],
        "the trainings of searches": list(facts.search_seconds),
    }
    return [f"{duration(sum(seconds))} of {kind}" for kind, seconds in kinds.items() if seconds]


def _corpora(facts: Facts, *, paper: bool) -> Grid | None:
    return grid(data_table(facts.results.values(), paper=paper)) if facts.results else None


def _hashes(results: Mapping[str, TrialResult]) -> list[tuple[str, str]]:
    """Titles of the corpora, and the hashes of what is in them."""
    return sorted({(result.corpus["title"], result.corpus["content_hash"]) for result in results.values()})


def _named_readings(facts: Facts) -> list[tuple[str, Mapping[str, str]]]:
    """By the names of the trials, in the order of the sweep."""
    return [(trial.name, facts.readings[key]) for key, trial in facts.record.wanted.items() if key in facts.readings]


def spec_text(document: Mapping[str, object]) -> str:
    """The spec as it was launched, as YAML."""
    return str(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100))
