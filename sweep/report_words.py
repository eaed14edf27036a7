"""What the report says in sentences: how much is done, when and by which code, what is missing, and what failed."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sweep.environment import UNKNOWN
from sweep.evaluation import EvaluationSettings
from sweep.record import State, SweepRecord, TrialFailure, TrialResult, WantedTrial
from sweep.relations import Panel

LAST_LINES = 5
"""Of a traceback or a log, which say the most."""
WHY: Mapping[State, str] = {"failed": "failed", "started": "not at its end yet", "missing": "not begun yet"}


@dataclass(frozen=True)
class Cause:
    """Failures with one cause. trials: names of those that failed. tail: the last lines that the first one left."""

    kind: str
    message: str
    trials: tuple[str, ...]
    first: str
    tail: str
    retry: str


def standing(record: SweepRecord, states: Mapping[str, State]) -> str:
    """How much of the sweep is done."""
    wanted = record.wanted
    done = sum(states[key] == "done" for key in wanted)
    if done == len(wanted):
        return f"all {_trials(done)} done" if done > 1 else f"{_trials(done)} done"
    return f"{done} of {_trials(len(wanted))} done"


def when(results: Iterable[TrialResult]) -> str:
    """From the first start to the last end of the done trials; empty before any is done."""
    done = list(results)
    if not done:
        return ""
    begin, end = min(result.started for result in done), max(result.finished for result in done)
    first, last = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) for at in (begin, end))
    is_one_day = first[:10] == last[:10]
    return f"{first} to {last[11:] if is_one_day else last} UTC"


def commits(results: Iterable[TrialResult]) -> list[str]:
    """Commits of the code that made the results, each with whether it was changed after; the most used one first."""
    codes = [_code(result.environment) for result in results]
    counts = sorted({code: codes.count(code) for code in codes}.items(), key=lambda item: (-item[1], item[0]))
    if len(counts) == 1:
        return [counts[0][0]]
    return [f"{code} ({_trials(count)})" for code, count in counts]


def _code(environment: Mapping[str, str]) -> str:
    commit = environment.get("commit", UNKNOWN)
    if commit == UNKNOWN:
        return "an unknown commit"
    is_dirty = environment.get("dirty") == "yes"
    return f"{commit[:12]}, with changes that were not committed" if is_dirty else commit[:12]


def missing(panels: Sequence[Panel], states: Mapping[str, State]) -> list[str]:
    """The seeds that each method lacks, and why, a sentence each."""
    return [
        f"{', '.join(filter(None, (panel.title, method)))}: {_lacking(trials, states)}."
        for panel in panels
        for method, trials in panel.methods.items()
        if any(states[trial.key] != "done" for trial in trials)
    ]


def _lacking(trials: Sequence[WantedTrial], states: Mapping[str, State]) -> str:
    lacking = [trial for trial in trials if states[trial.key] != "done"]
    reasons = "; ".join(_reason(lacking, states))
    if len(lacking) == len(trials):
        return f"no seed is done ({reasons})"
    return f"{len(lacking)} of {len(trials)} seeds missing ({reasons})"


def _reason(lacking: Sequence[WantedTrial], states: Mapping[str, State]) -> Iterator[str]:
    for state, why in WHY.items():
        seeds = [str(trial.seed) for trial in lacking if states[trial.key] == state]
        if seeds:
            yield f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)} {why}"


def causes(record: SweepRecord, groups: Sequence[Sequence[TrialFailure]]) -> list[Cause]:
    """Failures by cause, in the order of the groups, with the command that tries them again."""
    return [_cause(record, group) for group in groups]


def _cause(record: SweepRecord, group: Sequence[TrialFailure]) -> Cause:
    first = group[0]
    lines = [line for line in (first.traceback or first.log_tail).splitlines() if line.strip()]
    where = f"in epoch {first.epoch}" if first.epoch else "before the first epoch"
    return Cause(
        first.kind,
        first.message,
        tuple(record.wanted[failure.key].name for failure in group),
        f"{record.wanted[first.key].name}, {where}, attempt {first.attempt}",
        "\n".join(lines[-LAST_LINES:]),
        " ".join(["sweep retry", record.name, *(failure.key[:12] for failure in group)]),
    )


def evaluated(settings: EvaluationSettings, num: int, wanted: int) -> str:
    """How many trials were evaluated, and how."""
    draws = f"K = {settings.draws} importance draws of each test sentence" if settings.draws else "no importance draws"
    return (
        f"{num} of {_trials(wanted)} evaluated, with S = {settings.samples} draws of the latents a sentence for the "
        f"bounds, {draws}, and the exchangeable prior fitted on the {settings.fit} split."
    )


def _trials(num: int) -> str:
    return "1 trial" if num == 1 else f"{num} trials"
