"""Comparison tables and the table of corpora, by numbers worked out by hand."""

import dataclasses
import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from sweep.layout import PENDING, UNDEFINED, Number, Row, Summary, Table
from sweep.record import SweepRecord, TrialResult, WantedTrial
from sweep.render import FORMATS, render
from sweep.table import comparison_tables, data_table

LAYOUT = {"split_by": "dataset", "across": "setting"}
LATENTS = {"LSTM-LM": 0, "LSTM-VAE": 1, "LSTM-VAE-AVG (L = 5)": 5}
SENTENCES = {"train": 42068, "valid": 3370, "test": 3761}
TOKENS = {"train": 929589, "valid": 73760, "test": 82430}


def sweep(
    seeds: int = 3,
    *,
    methods: Iterable[str] = ("LSTM-VAE", "LSTM-LM"),
    settings: Iterable[str] = ("Standard", "Inputless"),
    corpus: str = "PTB",
    layout: Mapping[str, Any] = LAYOUT,
) -> SweepRecord:
    trials = [
        WantedTrial(
            f"{corpus}/{setting}/{method}/{seed}",
            {"dataset": corpus, "setting": setting, "method": method},
            seed,
            {"data": {"kind": corpus.lower()}},
        )
        for setting in settings
        for method in methods
        for seed in range(seeds)
    ]
    return SweepRecord("mine", {}, tuple(trials), layout)


def trial_result(trial: WantedTrial, nll: float, kl: float = 2.0, beta: float = 1.0, **facts: Any) -> TrialResult:
    """nll: what the paper would print. The perplexity is ten times it, which tells the two apart."""
    latents = LATENTS.get(trial.labels["method"], 1)
    strict = nll + max(latents - 1, 0) * kl
    test = {"nll": strict, "nelbo_paper": nll, "rec": nll - kl, "kl": kl, "ppl": strict * 10, "ppl_paper": nll * 10}
    corpus = {
        "title": trial.labels["dataset"],
        "content_hash": "0123456789abcdef",
        "vocabulary": 9999,
        "sentences": SENTENCES,
        "tokens": TOKENS,
        "source_nll": {},
    }
    return TrialResult(
        1, trial.key, trial.config, {**corpus, **facts}, 10, latents, 3, beta, {}, test, (), {}, {}, 0.0, 1.0
    )


def done(record: SweepRecord, nll: Mapping[str, list[float]], **given: Any) -> dict[str, TrialResult]:
    """Results of the first seeds of each cell. nll: by method or by 'setting method', one value a seed."""
    results = {}
    for trial in record.trials:
        method = trial.labels["method"]
        values = nll.get(f"{trial.labels['setting']} {method}", nll.get(method, []))
        if trial.seed < len(values):
            results[trial.key] = trial_result(trial, values[trial.seed], **given)
    return results


def only(tables: list[Table]) -> Table:
    (table,) = tables
    return table


def row(table: Table, label: str) -> Row:
    return next(row for row in table.rows if row.label == label)


def cell(table: Table, label: str, group: int = 0) -> Summary:
    found = row(table, label).cells[group]
    assert found is not None
    return found


def test_mean_and_sample_deviation_over_seeds() -> None:
    record = sweep()
    table = only(comparison_tables(record, done(record, {"LSTM-VAE": [98.0, 99.0, 100.0], "LSTM-LM": [1.0, 1.0, 4.0]})))
    assert [table.title, table.stub, table.seeds] == ["PTB", "method", 3]
    assert [group.heading for group in table.groups] == ["Standard", "Inputless"]
    assert [column.header for column in table.groups[0].columns] == ["NLL", "KL", "PPL"]
    assert [row.label for row in table.rows] == ["LSTM-VAE", "LSTM-LM"]
    assert cell(table, "LSTM-VAE").entries["nll"] == Number(99.0, 1.0)  # sqrt((1 + 0 + 1) / 2)
    assert cell(table, "LSTM-LM", 1).entries["ppl"] == Number(20.0, pytest.approx(math.sqrt(300)))
    assert cell(table, "LSTM-VAE").entries["kl"] == Number(2.0, 0.0)
    assert cell(table, "LSTM-LM").entries["kl"] == UNDEFINED
    text = render([table], "text")
    assert "n = 3." in text
    assert "/3)" not in text


def test_missing_seeds_are_seen() -> None:
    record = sweep(3, methods=["LSTM-VAE", "LSTM-LM", "LSTM-VAE-AVG (L = 5)"], settings=["Standard"])
    some = {"LSTM-VAE": [98.0, 99.0], "LSTM-LM": [100.0]}
    table = only(comparison_tables(record, done(record, some)))
    assert (cell(table, "LSTM-VAE").done, cell(table, "LSTM-VAE").wanted) == (2, 3)
    assert cell(table, "LSTM-LM").entries["nll"] == Number(100.0, None)
    assert set(cell(table, "LSTM-VAE-AVG (L = 5)").entries.values()) == {PENDING}
    text = render([table], "text")
    assert "98.5 ± 0.7* (2/3)" in text
    assert "100.0 (1/3)" in text
    assert "… no seed is done yet." in text
    assert "leaves this combination out" not in text


def test_two_seeds_then_three() -> None:
    nll = {"LSTM-VAE": [98.0, 99.0], "LSTM-LM": [100.0, 101.0]}
    before, after = sweep(2), sweep(3)
    complete = only(comparison_tables(before, done(before, nll)))
    grown = only(comparison_tables(after, done(after, nll)))
    assert "n = 2." in render([complete], "text")
    assert "(2/3)" in render([grown], "text")
    assert cell(complete, "LSTM-VAE").entries == cell(grown, "LSTM-VAE").entries


def test_one_seed_has_no_deviation() -> None:
    record = sweep(1)
    text = render(comparison_tables(record, done(record, {"LSTM-VAE": [98.0], "LSTM-LM": [97.0]})), "text")
    assert "one seed, n = 1." in text
    assert not [line for line in text.splitlines() if line.startswith("LSTM") and "±" in line]


def test_excluded_combination_is_blank() -> None:
    record = sweep(1)
    kept = [trial for trial in record.trials if trial.key != "PTB/Inputless/LSTM-LM/0"]
    table = only(comparison_tables(dataclasses.replace(record, trials=tuple(kept)), {}))
    assert row(table, "LSTM-LM").cells[1] is None
    assert cell(table, "LSTM-LM", 0).entries["nll"] == PENDING
    assert "blank: the sweep leaves this combination out." in table.footnotes


def test_not_a_bound_is_marked_and_ranked_by_its_strict_number() -> None:
    record = sweep(2, methods=LATENTS, settings=["Standard"])
    nll = {"LSTM-LM": [100.0, 100.0], "LSTM-VAE": [101.0, 101.0], "LSTM-VAE-AVG (L = 5)": [94.0, 94.0]}
    table = only(comparison_tables(record, done(record, nll, kl=8.0)))
    assert [row.marks for row in table.rows] == ["", "", "†"]
    assert [column.header for column in table.groups[0].columns] == ["NLL", "KL", "PPL", "NLL ≤"]
    assert cell(table, "LSTM-VAE-AVG (L = 5)").mean("nll") == 94.0
    assert cell(table, "LSTM-VAE-AVG (L = 5)").mean("strict") == 94.0 + 4 * 8.0
    assert cell(table, "LSTM-LM").entries["strict"] == Number(100.0, 0.0, is_best=True)
    assert [best(row) for row in table.rows] == [["strict"], [], []]
    assert any(note.startswith("† reconstruction plus one KL term") for note in table.footnotes)


def best(row: Row) -> list[str]:
    cells = [cell for cell in row.cells if cell]
    return [key for c in cells for key, entry in c.entries.items() if isinstance(entry, Number) and entry.is_best]


def test_ties_as_printed_are_all_best_and_a_lone_number_is_not() -> None:
    record = sweep(1, methods=["LSTM-VAE", "LSTM-LM", "other"], settings=["Standard"])
    nll = {"LSTM-VAE": [98.01], "LSTM-LM": [98.04], "other": [98.06]}
    table = only(comparison_tables(record, done(record, nll)))
    assert [best(row) for row in table.rows] == [["nll"], ["nll"], []]
    alone = only(comparison_tables(record, done(record, {"other": [98.0]})))
    assert [best(row) for row in alone.rows] == [[], [], []]
    assert not any("ranked" in note for note in alone.footnotes)


def test_small_beta_is_flagged_and_counted() -> None:
    record = sweep(2, settings=["Standard"])
    results = done(record, {"LSTM-VAE": [98.0, 98.0], "LSTM-LM": [97.0, 97.0]}, beta=0.5)
    first = next(iter(results))
    results[first] = dataclasses.replace(results[first], beta_at_best=1.0)
    table = only(comparison_tables(record, results))
    assert [row.marks for row in table.rows] == ["‡", ""]  # no KL, nothing to weigh
    assert any(note.startswith("‡ the KL weight") and "1 of 4 trials" in note for note in table.footnotes)


def test_entropy_of_the_source_stands_in_every_group() -> None:
    record = sweep(1, corpus="Grammar")
    given = {"source_nll": {"test": 30.0}, "sentences": {"test": 100}, "tokens": {"test": 1000}}
    results = done(record, {"Standard LSTM-LM": [31.0]}, **given)
    table = only(comparison_tables(record, results, paper=True))
    last = table.rows[-1]
    assert last.label == "entropy of the source"
    for group in (0, 1):
        entries = cell(table, last.label, group).entries
        assert entries["nll"] == entries["strict"] == Number(30.0)
        assert entries["ppl"] == Number(pytest.approx(math.exp(3.0)))
        assert entries["kl"] == UNDEFINED
    assert table.footnotes[-1] == "no published numbers are known for the corpus Grammar."
    assert table.footnotes[:-1] == only(comparison_tables(record, results)).footnotes
    assert best(last) == []


def test_layout_follows_the_axes() -> None:
    record = sweep(1, settings=["Standard"], layout={"split_by": "nothing", "across": None})
    table = only(comparison_tables(record, {}))
    assert (table.title, table.stub) == ("mine", "dataset, setting, method")
    assert [group.heading for group in table.groups] == [""]
    assert [row.label for row in table.rows] == ["PTB, Standard, LSTM-VAE", "PTB, Standard, LSTM-LM"]
    across = sweep(1, layout={"split_by": "method", "across": "dataset"})
    assert [table.title for table in comparison_tables(across, {})] == ["LSTM-VAE", "LSTM-LM"]
    assert comparison_tables(SweepRecord("none", {}, (), LAYOUT), {}) == []


UNMATCHED = [
    *(" (Kruengkrai)", " (L = 5, Kruengkrai)", " (L = 10, Kruengkrai)"),
    *("-AVG (L = 5, Kruengkrai)", "-AVG (L = 10, Kruengkrai)"),
]


def test_paper_stands_beside_ours() -> None:
    record = sweep(1, methods=["LSTM-LM", "mine"])
    table = only(comparison_tables(record, done(record, {"LSTM-LM": [101.0], "mine": [99.0]}), paper=True))
    headings = [group.heading for group in table.groups]
    assert headings == ["Standard", "Standard, published", "Inputless", "Inputless, published"]
    assert cell(table, "LSTM-LM", 1).entries["nll"] == Number(100.8, 0.2)
    assert cell(table, "LSTM-LM", 3).entries["ppl"] == Number(592.3, 0.5)
    assert row(table, "mine").cells[1] is None
    labels = [row.label for row in table.rows]
    assert labels[0] == "LSTM-LM (Bowman et al.)"
    assert labels[5:] == [*(f"LSTM-VAE{kind}" for kind in UNMATCHED), "LSTM-LM", "mine"]
    bowman = cell(table, "LSTM-LM (Bowman et al.)", 1)
    assert bowman.entries["nll_star"] == Number(104.2)
    assert row(table, "LSTM-LM (Bowman et al.)").cells[0] is None
    text = render([table], "text")
    assert "100.8 ± 0.2" in text
    assert "NLL* = 21.917·ln PPL" in " ".join(text.split())
    assert "Kruengkrai (ACL 2019), Table 2a" in text


def test_paper_without_a_shared_setting_or_on_other_text() -> None:
    record = sweep(1, settings=["Half"])
    table = only(comparison_tables(record, {}, paper=True))
    assert len(table.rows) == 2
    assert "no published number fits a row and a column of this table." in table.footnotes
    small = sweep(1)
    results = done(small, {"LSTM-LM": [1.0]}, sentences={"train": 100, "valid": 10, "test": 3761})
    notes = only(comparison_tables(small, results, paper=True)).footnotes
    assert any("100/10/3,761 sentences" in note and "42,068/3,370/3,761 published" in note for note in notes)
    notes = only(comparison_tables(small, done(small, {"LSTM-LM": [1.0]}), paper=True)).footnotes
    assert not any("not the same text" in note for note in notes)


def test_title_of_the_corpus_decides_what_is_published() -> None:
    record = sweep(1)
    mine = done(record, {"LSTM-LM": [100.0]}, title="my text")
    table = only(comparison_tables(record, mine, paper=True))
    assert table.footnotes[-1] == "no published numbers are known for the corpus my text."
    assert len(only(comparison_tables(record, {}, paper=True)).groups) == 4


def test_data_table() -> None:
    record = sweep(1)
    results = list(done(record, {"LSTM-LM": [1.0], "LSTM-VAE": [1.0]}).values())
    table = data_table(results)
    (ptb,) = table.rows
    assert [cell.entries for cell in ptb.cells if cell][:2] == [
        {split: Number(count) for split, count in SENTENCES.items()},
        {"vocabulary": Number(9999)},
    ]
    assert cell(table, "PTB", 2).mean("test") == pytest.approx(21.9170, abs=1e-4)
    assert "42,068" in render([table], "text")
    beside = data_table(results, paper=True)
    assert cell(beside, "PTB", 4).entries == {"vocabulary": Number(10000)}
    assert row(beside, "Yahoo").cells[:3] == (None, None, None)
    assert cell(beside, "Yahoo", 3).mean("train") == 100000
    other = dataclasses.replace(results[0], corpus={**results[0].corpus, "content_hash": "fedcba9876543210"})
    assert [row.label for row in data_table([other, *results]).rows] == ["PTB (01234567)", "PTB (fedcba98)"]
    assert data_table([]).rows == ()


@pytest.mark.parametrize("form", FORMATS)
def test_same_bytes_in_whichever_order(form: str) -> None:
    record = sweep(3, methods=LATENTS)
    nll = {method: [90.1 + i, 95.7 + i / 3, 100.3] for i, method in enumerate(LATENTS)}
    results = done(record, nll)
    expected = render([*comparison_tables(record, results, paper=True), data_table(results.values())], form)
    for seed in range(3):
        items = list(results.items())
        random.Random(seed).shuffle(items)
        mixed = dict(items)
        tables = [*comparison_tables(record, mixed, paper=True), data_table(mixed.values())]
        assert render(tables, form) == expected


def test_unwanted_results_are_ignored() -> None:
    record = sweep(2)
    wider = done(sweep(5), {"LSTM-LM": [1.0, 3.0, 500.0, 500.0, 500.0]})
    table = only(comparison_tables(record, wider))
    assert cell(table, "LSTM-LM").mean("nll") == 2.0
