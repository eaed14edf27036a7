"""Tables from records alone: the paper's comparison (its Table 2) and its corpora (its Table 1)."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweep import footnotes
from sweep.layout import NOT_A_BOUND, SMALL_BETA, UNDEFINED, Column, Group, Number, Row, Summary, Table
from sweep.published import PublishedCorpus, published
from sweep.record import TUNED, SweepRecord, TrialResult, Tuned, WantedTrial
from sweep.statistics import mark_best, summarize

LIKELIHOOD = (Column("nll", "NLL"), Column("kl", "KL"), Column("ppl", "PPL"))
STRICT = Column("strict", "NLL ≤")
NLL_STAR = Column("nll_star", "NLL*")
SPLITS = tuple(Column(split, split) for split in ("train", "valid", "test"))
TYPES = (Column("vocabulary", "types"),)

Cells = list[Summary | None]
"""Of one column group, from the first row to the last."""


def comparison_tables(record: SweepRecord, results: Mapping[str, TrialResult], *, paper: bool = False) -> list[Table]:
    """One table a label of the axis `split_by`, in the order of the sweep; `paper` puts published numbers beside ours.

    results: of done trials by key; those that the sweep does not want are ignored. The order of mappings is, too.
    """
    parts: dict[str, list[WantedTrial]] = {}
    for trial in record.trials:
        parts.setdefault(trial.labels.get(record.table.get("split_by") or "", record.name), []).append(trial)
    return [_comparison(_Part(title, record, trials, results), paper) for title, trials in parts.items()]


def data_table(results: Iterable[TrialResult], *, paper: bool = False) -> Table:
    """The corpora that trials were trained on; `paper` puts the published sizes beside ours. The order is by title."""
    corpora = {result.corpus["content_hash"]: result.corpus for result in results}
    facts = sorted(corpora.values(), key=lambda corpus: (corpus["title"], corpus["content_hash"]))
    titles = [corpus["title"] for corpus in facts]
    known = published() if paper else {}
    groups = [Group("sentences", SPLITS), Group("vocabulary", TYPES), Group("tokens per sentence", SPLITS)]
    rows = [
        Row(
            # Two versions of a corpus have one title, and are told apart by what is in them.
            title if titles.count(title) == 1 else f"{title} ({corpus['content_hash'][:8]})",
            (*_sizes(corpus), *(_published_sizes(known.get(title)) if paper else ())),
        )
        for title, corpus in zip(titles, facts, strict=True)
    ]
    notes = ["vocabulary: types that are predicted. tokens: predicted ones, words and one end symbol a sentence."]
    if paper:
        groups += [Group("sentences", SPLITS, is_published=True), Group("vocabulary", TYPES, is_published=True)]
        nothing: Cells = [None, None, None]
        rows += [Row(title, (*nothing, *_published_sizes(known[title]))) for title in known if title not in titles]
        notes.append(f"published: {'; '.join(dict.fromkeys(corpus.sizes.source for corpus in known.values()))}.")
    return Table("Corpora", "corpus", tuple(groups), tuple(rows), tuple(notes))


def _sizes(corpus: Mapping[str, Any]) -> Cells:
    sentences, tokens = corpus["sentences"], corpus["tokens"]
    return [
        Summary({split.key: Number(sentences[split.key]) for split in SPLITS}),
        Summary({"vocabulary": Number(corpus["vocabulary"])}),
        Summary({split.key: Number(tokens[split.key] / sentences[split.key]) for split in SPLITS}),
    ]


def _published_sizes(corpus: PublishedCorpus | None) -> Cells:
    if corpus is None:
        return [None, None]
    sizes = corpus.sizes
    sentences = Summary({split: Number(size) for split, size in sizes.sentences.items()}, source=sizes.source)
    return [sentences, Summary({"vocabulary": Number(sizes.vocabulary)}, source=sizes.source)]


class _Part:
    """The trials of one table, each in a row and in a column group, both in the order of the sweep."""

    def __init__(
        self, title: str, record: SweepRecord, trials: Sequence[WantedTrial], results: Mapping[str, TrialResult]
    ) -> None:
        split_by, self._across = record.table.get("split_by"), record.table.get("across")
        self.title, self.trials = title, trials
        self.axes = [axis for axis in trials[0].labels if axis not in (split_by, self._across, TUNED)]
        self._sweep, self._results, self._tuned = record.name, results, record.tuned
        self.rows = list(dict.fromkeys(map(self._row, trials)))
        self.groups = list(dict.fromkeys(map(self._group, trials)))
        self._corpora = {_source_of_text(trial): self._results[trial.key].corpus for trial in self._done(trials)}

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
                yield name, tuned, [self._results[trial.key] for trial in self._done(trials)]

    def _done(self, trials: Iterable[WantedTrial]) -> list[WantedTrial]:
        return [trial for trial in trials if trial.key in self._results]

    def cell(self, row: str, group: str) -> list[WantedTrial]:
        return [trial for trial in self.trials if (self._row(trial), self._group(trial)) == (row, group)]

    def results(self, row: str | None = None) -> list[TrialResult]:
        """Of the trials that are done, in one row or in all."""
        return [self._results[trial.key] for trial in self._done(self.trials) if row in (None, self._row(trial))]

    def summary(self, row: str, group: str) -> Summary | None:
        trials = self.cell(row, group)
        return summarize([self._results[trial.key] for trial in self._done(trials)], len(trials)) if trials else None

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


def _comparison(part: _Part, paper: bool) -> Table:
    marks = [_marks(part.results(row)) for row in part.rows]
    is_strict_apart = any(NOT_A_BOUND in signs for signs in marks)
    ranking = STRICT.key if is_strict_apart else LIKELIHOOD[0].key
    columns = [mark_best([part.summary(row, group) for row in part.rows], ranking) for group in part.groups]
    rows = [Row(*fields) for fields in zip(part.rows, zip(*columns, strict=True), marks, strict=True)]
    notes = footnotes.of_comparison(rows, part.seeds, part.results())
    notes += [footnotes.of_tuned(*each) for each in part.tuned()]
    entropies = [_entropy(part.corpus(group)) for group in part.groups]
    if any(entropies):
        rows.append(Row("entropy of the source", tuple(entropies), opens_block=True))
        notes.append(footnotes.ENTROPY)
    headers = (*LIKELIHOOD, STRICT) if is_strict_apart else LIKELIHOOD
    groups = tuple(Group(label, headers) for label in part.groups)
    table = Table(part.title, ", ".join(part.axes) or "sweep", groups, tuple(rows), tuple(notes), part.seeds)
    return _with_published(table, part.corpus_title, part.corpus()) if paper else table


def _marks(results: Sequence[TrialResult]) -> str:
    not_a_bound = not all(result.is_bound for result in results)
    small_beta = any(map(footnotes.has_small_beta, results))
    return (NOT_A_BOUND if not_a_bound else "") + (SMALL_BETA if small_beta else "")


def _entropy(corpus: Mapping[str, Any]) -> Summary | None:
    """The true NLL of the test split and its perplexity, where the distribution of the text is known."""
    nll = corpus.get("source_nll", {}).get("test")
    if nll is None:
        return None
    ppl = math.exp(nll * corpus["sentences"]["test"] / corpus["tokens"]["test"])
    return Summary({"nll": Number(nll), "kl": UNDEFINED, "ppl": Number(ppl), "strict": Number(nll)})


def _with_published(table: Table, title: str, facts: Mapping[str, Any]) -> Table:
    """The table with the published numbers of the corpus: beside our rows, and above them where we have no such row."""
    corpus = published().get(title)
    if corpus is None:
        note = f"no published numbers are known for the corpus {title}."
        return replace(table, footnotes=(*table.footnotes, note))
    beside = [corpus.counterpart(row.label) for row in table.rows]
    labels = [group.label for group in table.groups]
    alone = [row for row in corpus.rows if row not in beside and any(label in row.settings for label in labels)]
    ours = [Row(row.system, (None,) * len(labels)) for row in alone] + list(table.rows)
    if alone:
        ours[len(alone)] = replace(table.rows[0], opens_block=True)
    groups: list[Group] = []
    columns: list[Cells] = []
    for i, group in enumerate(table.groups):
        groups.append(group)
        columns.append([row.cells[i] for row in ours])
        cells = [row.summary(group.label) if row else None for row in (*alone, *beside)]
        if any(cells):
            groups.append(_published_group(group.label, cells))
            columns.append(cells)
    rows = [replace(row, cells=cells) for row, cells in zip(ours, zip(*columns, strict=True), strict=True)]
    shown = [cell for group, cells in zip(groups, columns, strict=True) if group.is_published for cell in cells if cell]
    notes = [*footnotes.of_published(corpus, shown), *footnotes.of_other_sizes(corpus.sizes.sentences, facts)]
    return replace(table, groups=tuple(groups), rows=tuple(rows), footnotes=(*table.footnotes, *notes))


def _published_group(label: str, cells: Cells) -> Group:
    has_star = any(cell.mean(NLL_STAR.key) is not None for cell in cells if cell)
    return Group(label, (*LIKELIHOOD, NLL_STAR) if has_star else LIKELIHOOD, is_published=True)
