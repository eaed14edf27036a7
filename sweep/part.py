"""A sweep's trials as its tables have them: one part a label of `split_by`, in it rows, and column groups across."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sweep.evaluation import Evaluation
from sweep.measures import MEASURES, Trial, chosen_form
from sweep.record import TUNED, SweepRecord, TrialResult, Tuned, WantedTrial


def parts(
    record: SweepRecord,
    results: Mapping[str, TrialResult],
    evaluations: Mapping[str, Evaluation] | None = None,
    failed: Iterable[str] = (),
) -> list["Part"]:
    """In the order of the sweep. Arguments: of done trials by key, of these evaluated ones, and keys of failed ones.

    Those that the sweep does not want are ignored.
    """
    trials: dict[str, list[WantedTrial]] = {}
    for trial in record.trials:
        trials.setdefault(trial.labels.get(record.table.get("split_by") or "", record.name), []).append(trial)
    return [Part(title, record, each, results, evaluations or {}, set(failed)) for title, each in trials.items()]


class Part:
    """The trials of one table, each in a row and in a column group, both in the order of the sweep."""

    def __init__(
        self,
        title: str,
        record: SweepRecord,
        trials: Sequence[WantedTrial],
        results: Mapping[str, TrialResult],
        evaluations: Mapping[str, Evaluation],
        failed: set[str],
    ) -> None:
        split_by, self._across = record.table.get("split_by"), record.table.get("across")
        self.title, self.trials = title, trials
        self.axes = [axis for axis in trials[0].labels if axis not in (split_by, self._across, TUNED)]
        self._sweep, self._results, self._tuned = record.name, results, record.tuned
        self._evaluations, self._failed = evaluations, failed
        self._cells: dict[tuple[str, str], list[WantedTrial]] = {}
        for trial in trials:
            self._cells.setdefault((self._row(trial), self._group(trial)), []).append(trial)
        self.rows = list(dict.fromkeys(row for row, _ in self._cells))
        self.groups = list(dict.fromkeys(group for _, group in self._cells))
        self._corpora = {_source_of_text(trial): results[trial.key].corpus for trial in trials if trial.key in results}

    def _row(self, trial: WantedTrial) -> str:
        named = ", ".join(trial.labels[axis] for axis in self.axes) or self._sweep
        return f"{named}, {trial.labels[TUNED]}" if TUNED in trial.labels else named

    def _group(self, trial: WantedTrial) -> str:
        return trial.labels.get(self._across or "", "")

    def tuned(self) -> Iterator[tuple[str, Tuned, list[TrialResult]]]:
        """What searches have chosen for the table, each with the row and group that it stands in, and its results."""
        for tuned in self._tuned:
            trials = [trial for trial in self.trials if trial.labels == tuned.labels]
            if trials:
                row, group = self._row(trials[0]), self._group(trials[0])
                name = f"{row} ({group})" if group else row
                yield name, tuned, [self._results[trial.key] for trial in trials if trial.key in self._results]

    def cell(self, row: str, group: str) -> list[WantedTrial]:
        return self._cells.get((row, group), [])

    def failed(self, row: str, group: str) -> int:
        """How many trials of a cell have failed."""
        return sum(trial.key in self._failed for trial in self.cell(row, group))

    def done(self, row: str | None = None, group: str | None = None) -> list[Trial]:
        """The trials that are done, in one row or in all, in one group or in all."""
        rows, groups = [row] if row is not None else self.rows, [group] if group is not None else self.groups
        cells = [self.cell(row, group) for row in rows for group in groups]
        return [self._trial(trial) for cell in cells for trial in cell if trial.key in self._results]

    def _trial(self, trial: WantedTrial) -> Trial:
        return Trial(self._results[trial.key], self._evaluations.get(trial.key))

    def results(self, row: str | None = None) -> list[TrialResult]:
        """Of the trials that are done, in one row or in all."""
        return [trial.result for trial in self.done(row)]

    def by_seed(self, row: str, group: str, column: str = "strict") -> dict[int, float | str]:
        """A number of a cell by seed, as its column has it; of a seed that has none, in words why."""
        form = chosen_form(self.done(row, group))
        numbers: dict[int, float | str] = {}
        for trial in self.cell(row, group):
            if trial.key in self._results:
                value = MEASURES[column].of(self._trial(trial), form)
                numbers[trial.seed] = "not evaluated" if value is None else value
            else:
                numbers[trial.seed] = "failed" if trial.key in self._failed else "not done"
        return numbers

    def corpus(self, group: str | None = None) -> Mapping[str, Any]:
        """Facts of the corpus of a group, or of the whole table; empty when it has several, or none is known yet."""
        texts = {_source_of_text(trial) for trial in self.trials if group in (None, self._group(trial))}
        return self._corpora.get(texts.pop(), {}) if len(texts) == 1 else {}

    @property
    def corpus_title(self) -> str:
        """As the corpus calls itself; while no trial is done, as the sweep does."""
        title: str = self.corpus().get("title", self.title)
        return title

    @property
    def seeds(self) -> int | None:
        """How many every cell wants; None when they differ."""
        numbers = {len(self.cell(row, group)) for row in self.rows for group in self.groups} - {0}
        return numbers.pop() if len(numbers) == 1 else None


def _source_of_text(trial: WantedTrial) -> str:
    """Equal for trials that read the same corpus, which is known before any is done."""
    return json.dumps(trial.config.get("data"), sort_keys=True)
