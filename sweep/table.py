"""Tables from records alone: the paper's comparison (its Table 2) and its corpora (its Table 1)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweep import footnotes
from sweep.evaluation import Evaluation
from sweep.layout import NOT_A_BOUND, SMALL_BETA, UNDEFINED, Column, Group, Number, Row, Summary, Table
from sweep.measures import MEASURES, PRESETS
from sweep.part import Part, parts
from sweep.published import PublishedCorpus, published
from sweep.record import SweepRecord, TrialResult
from sweep.statistics import mark_best, mark_tied, summarize

NLL_STAR = Column("nll_star", "NLL*")
SPLITS = tuple(Column(split, split) for split in ("train", "valid", "test"))
TYPES = (Column("vocabulary", "types"),)

Cells = list[Summary | None]
"""Of one column group, from the first row to the last."""


def comparison_tables(
    record: SweepRecord,
    results: Mapping[str, TrialResult],
    evaluations: Mapping[str, Evaluation] | None = None,
    *,
    paper: bool = False,
    columns: Sequence[str] = PRESETS["paper"],
    failed: Iterable[str] = (),
) -> list[Table]:
    """One table a label of the axis `split_by`, in the order of the sweep; `paper` puts published numbers beside ours.

    results, evaluations: of done trials by key; those that the sweep does not want are ignored. The order of mappings
    is, too. columns: keys of measures; where a row has a number that is no bound, the strict one is added. failed: keys
    of failed trials.
    """
    return [_comparison(part, paper, columns) for part in parts(record, results, evaluations, failed)]


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


def _comparison(part: Part, paper: bool, wanted: Sequence[str]) -> Table:
    marks = [_marks(part.results(row)) for row in part.rows]
    is_strict_apart = any(NOT_A_BOUND in signs for signs in marks)
    columns = tuple(dict.fromkeys((*wanted, "strict"))) if is_strict_apart else tuple(wanted)
    by_group = [_cells(part, group, columns) for group in part.groups]
    rows = [Row(*fields) for fields in zip(part.rows, zip(*by_group, strict=True), marks, strict=True)]
    notes = footnotes.of_comparison(rows, part.seeds, part.results())
    notes += footnotes.of_cells(part, rows, columns)
    notes += footnotes.of_measures(part, columns)
    notes += [footnotes.of_tuned(*each) for each in part.tuned()]
    entropies = [_entropy(part.corpus(group), columns) for group in part.groups]
    if any(entropies):
        rows.append(Row("entropy of the source", tuple(entropies), opens_block=True))
        notes.append(footnotes.ENTROPY)
    headers = tuple(MEASURES[key].column for key in columns)
    groups = tuple(Group(label, headers) for label in part.groups)
    table = Table(part.title, ", ".join(part.axes) or "sweep", groups, tuple(rows), tuple(notes), part.seeds)
    return _with_published(table, part.corpus_title, part.corpus(), columns) if paper else table


def _cells(part: Part, group: str, columns: Sequence[str]) -> Cells:
    """Of one group, the best marked in the column of the strict bound, or of the NLL where they are the same."""
    every = (*columns, "strict")
    cells = [
        summarize(part.done(row, group), len(wanted), part.failed(row, group), every)
        if (wanted := part.cell(row, group))
        else None
        for row in part.rows
    ]
    ranking = next((key for key in ("strict", "nll") if key in columns), None)
    if ranking is None:
        return cells
    strict = {row: part.by_seed(row, group) for row in part.rows if part.cell(row, group)}
    best = mark_best(cells, ranking)
    return list(mark_tied(dict(zip(part.rows, best, strict=True)), strict, ranking).values())


def _marks(results: Sequence[TrialResult]) -> str:
    not_a_bound = not all(result.is_bound for result in results)
    small_beta = any(map(footnotes.has_small_beta, results))
    return (NOT_A_BOUND if not_a_bound else "") + (SMALL_BETA if small_beta else "")


def _entropy(corpus: Mapping[str, Any], columns: Sequence[str]) -> Summary | None:
    """The true NLL of the test split and its perplexity, where the distribution of the text is known."""
    nll = corpus.get("source_nll", {}).get("test")
    if nll is None:
        return None
    ppl = math.exp(nll * corpus["sentences"]["test"] / corpus["tokens"]["test"])
    known = {"nll": nll, "strict": nll, "strict_iw": nll, "ppl": ppl, "strict_ppl": ppl}
    entries = {key: Number(known[key]) if key in known else UNDEFINED for key in (*columns, "strict")}
    return Summary(entries)


def _with_published(table: Table, title: str, facts: Mapping[str, Any], wanted: Sequence[str]) -> Table:
    """The table with the published numbers of the corpus: beside our rows, and above them where we have no such row."""
    corpus = published().get(title)
    if corpus is None:
        note = f"no published numbers are known for the corpus {title}."
        return replace(table, footnotes=(*table.footnotes, note))
    beside = [corpus.counterpart(row.label) for row in table.rows]
    labels = [group.label for group in table.groups]
    alone = [
        row for row in corpus.rows_with(wanted) if row not in beside and any(label in row.settings for label in labels)
    ]
    ours = [Row(row.system, (None,) * len(labels)) for row in alone] + list(table.rows)
    if alone:
        ours[len(alone)] = replace(table.rows[0], opens_block=True)
    groups: list[Group] = []
    columns: list[Cells] = []
    for i, group in enumerate(table.groups):
        groups.append(group)
        columns.append([row.cells[i] for row in ours])
        # A combination that the sweep leaves out has no counterpart.
        cells = [row.summary(group.label) for row in alone] + [
            row.summary(group.label) if row is not None and own.cells[i] is not None else None
            for row, own in zip(beside, table.rows, strict=True)
        ]
        if any(cells):
            groups.append(_published_group(group.label, cells, wanted))
            columns.append(cells)
    rows = [replace(row, cells=cells) for row, cells in zip(ours, zip(*columns, strict=True), strict=True)]
    shown = [cell for group, cells in zip(groups, columns, strict=True) if group.is_published for cell in cells if cell]
    notes = [
        *footnotes.of_published(corpus, shown, "iw" in wanted),
        *footnotes.of_other_sizes(corpus.sizes.sentences, facts),
    ]
    return replace(table, groups=tuple(groups), rows=tuple(rows), footnotes=(*table.footnotes, *notes))


def _published_group(label: str, cells: Cells, columns: Sequence[str]) -> Group:
    """Of the columns that something was published for."""
    found = [MEASURES[key].column for key in columns if any(cell.entries.get(key) for cell in cells if cell)]
    has_star = any(cell.mean(NLL_STAR.key) is not None for cell in cells if cell)
    return Group(label, (*found, *((NLL_STAR,) if has_star else ())), is_published=True)
