"""Columns that an evaluation fills, the choice of a strict bound, and what a cell says when a number is missing."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import pytest

from sweep.evaluation import Evaluation
from sweep.layout import NOT_FINITE, PENDING, UNDEFINED, Number, Table
from sweep.measures import CHOSEN, MEASURES, PRESETS, columns_of
from sweep.part import parts
from sweep.record import SweepRecord, TrialResult
from sweep.render import FORMATS, render
from sweep.table import comparison_tables
from tests.sweep.test_table import LATENTS, best, cell, done, only, row, sweep

AVG = "LSTM-VAE-AVG (L = 5)"
NLL = {"LSTM-LM": [100.0, 101.0], "LSTM-VAE": [102.0, 103.0], AVG: [94.0, 95.0]}


def evaluated(
    results: Mapping[str, TrialResult],
    settings: Mapping[str, object] | None = None,
    valid: Mapping[str, float] | None = None,
    **test: float,
) -> dict[str, Evaluation]:
    """Of each trial: exact for a language model, for the others by what its result has, and `test` on top of that.

    valid: bounds of averaged states on validation, by form.
    """
    found = {}
    for key, result in results.items():
        nll, kl, latents = result.test["nelbo_paper"], result.test["kl"], result.latents_per_sentence
        forms = {"paper": nll, "strict": nll + max(latents - 1, 0) * kl, "exch": nll, "l1": nll}
        if latents > 1:
            forms |= {"exch": nll + 6.0, "l1": nll + 9.0}
        metrics = {f"nelbo_{form}": value for form, value in forms.items()}
        metrics |= {f"ppl_{form}": 10 * value for form, value in forms.items()}
        metrics |= {f"iw_{form}": value - 1 for form, value in forms.items()}
        metrics["jensen"] = forms["l1"] - nll
        if latents:
            metrics |= {"mi": 1.234, "mi_b32": 1.1, "kl_aggregate": 0.5, "active_units": 3.0, "swap": 2.0}
            metrics |= {f"iw_{form}_ess": 12.5 for form in forms}
            metrics |= test
        on_valid = metrics | (
            {f"nelbo_{form}": value for form, value in valid.items()} if valid and latents > 1 else {}
        )
        used = {"samples": 10, "draws": 500, "fit": "train", "mi_batch": 32, **(settings or {})}
        found[key] = Evaluation(key, used, latents, (), (), on_valid, metrics, {"seconds": 1.0}, {}, 0.0)
    return found


def three(seeds: int = 2) -> SweepRecord:
    return sweep(seeds, methods=LATENTS, settings=["Standard"])


def table(columns: str, nll: Mapping[str, Sequence[float]] = NLL, **test: float) -> Table:
    record = three()
    results = done(record, {method: list(values) for method, values in nll.items()}, kl=8.0)
    return only(comparison_tables(record, results, evaluated(results, **test), columns=columns_of(columns)))


def text_of(found: Table) -> str:
    return " ".join(render([found], "text").split())


def test_the_strict_bound_is_the_lowest_on_validation_and_its_test_number_is_shown() -> None:
    record = three()
    results = done(record, NLL, kl=8.0)
    for form, more, how in (
        ("exch", 6.0, "the exchangeable prior"),
        ("l1", 9.0, "one latent"),
        ("strict", 32.0, "a KL"),
    ):
        valid = {name: 1.0 if name == form else 500.0 for name in ("strict", "exch", "l1")}
        found = only(comparison_tables(record, results, evaluated(results, valid=valid)))
        assert cell(found, AVG).mean("strict") == 94.5 + more
        assert cell(found, "LSTM-VAE").mean("strict") == 102.5
        [note] = [note for note in found.footnotes if note.startswith("strict bounds of averaged states")]
        assert f"lowest of three on validation: {how}" in note
        assert f"for {AVG} (Standard)" in note


def test_without_an_evaluation_every_latent_is_charged() -> None:
    record = three()
    found = only(comparison_tables(record, done(record, NLL, kl=8.0)))
    assert cell(found, AVG).mean("strict") == 94.5 + 4 * 8.0
    assert not any("of three on validation" in note for note in found.footnotes)


def test_a_strict_bound_can_win_where_it_really_is_lower() -> None:
    record = three()
    results = done(record, NLL | {AVG: [90.0, 91.0]}, kl=8.0)
    found = only(comparison_tables(record, results, evaluated(results)))
    assert [best(each) for each in found.rows] == [[], [], ["strict"]]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_column_is_explained_and_has_a_sign_where_there_is_no_number(preset: str) -> None:
    found = table(preset)
    entries = cell(found, "LSTM-LM").entries
    for key in PRESETS[preset]:
        expected = UNDEFINED if MEASURES[key].of_latents else Number
        assert entries[key] == UNDEFINED if expected is UNDEFINED else isinstance(entries[key], Number)
        assert isinstance(cell(found, AVG).entries[key], Number)
    notes = " ".join(found.footnotes)
    for key in PRESETS[preset]:
        if MEASURES[key].note:
            assert MEASURES[key].note.format(draws="500", fit="train") in notes
    for form in FORMATS:
        render([found], form)


def test_what_a_family_has_none_of_is_told_from_what_is_not_measured() -> None:
    """Directions have no active units, an evaluation without draws no weights yet."""
    record, columns = three(), columns_of("active_units,strict_iw")
    results = done(record, NLL, kl=8.0)
    evaluations = {
        key: dataclasses.replace(
            each, test={name: value for name, value in each.test.items() if name[:3] not in ("act", "iw_")}
        )
        for key, each in evaluated(results).items()
    }
    entries = cell(only(comparison_tables(record, results, evaluations, columns=columns)), "LSTM-VAE").entries
    assert (entries["active_units"], entries["strict_iw"]) == (UNDEFINED, PENDING)
    before = cell(only(comparison_tables(record, results, columns=columns)), "LSTM-VAE").entries
    assert (before["active_units"], before["strict_iw"]) == (PENDING, PENDING)


def test_the_papers_third_table_stands_beside_ours() -> None:
    record = three()
    results = done(record, NLL, kl=8.0)
    found = only(comparison_tables(record, results, evaluated(results), columns=columns_of("iw"), paper=True))
    assert [column.header for column in found.groups[0].columns] == ["NLL", "IW", "NLL ≤", "IW ≤"]
    assert [column.header for column in found.groups[1].columns] == ["NLL", "IW"]
    assert cell(found, AVG, 1).entries["iw"] == Number(95.1, 0.8)
    assert cell(found, AVG).mean("iw") == 93.5
    assert cell(found, AVG).mean("strict_iw") == 94.5 + 6.0 - 1.0
    assert "importance-weighted NLL of 500 draws" in text_of(found)
    # Rows of the paper's second table that have no such number stay away, its Table 3 is named.
    assert not any("Bowman" in each.label for each in found.rows)
    assert "Table 3" in text_of(found)


def test_what_is_not_measured_of_every_seed_is_pending() -> None:
    record = three()
    results = done(record, NLL, kl=8.0)
    evaluations = evaluated(results)
    gone = next(key for key in evaluations if AVG in key)
    del evaluations[gone]
    found = only(comparison_tables(record, results, evaluations, columns=columns_of("nll,strict,mi,iw")))
    assert cell(found, AVG).entries["mi"] == cell(found, AVG).entries["iw"] == PENDING
    assert cell(found, AVG).mean("strict") == 94.5 + 4 * 8.0  # of all seeds by the bound that all have
    assert "… beside numbers: not measured of every seed that is done; 'sweep evaluate' does it." in found.footnotes
    assert isinstance(cell(found, "LSTM-VAE").entries["mi"], Number)


def test_a_number_that_is_not_finite_is_said_in_its_cell_and_ranks_nothing() -> None:
    found = table("nll,strict,mi", nll={**NLL, "LSTM-VAE": [1.0, math.nan]})
    assert cell(found, "LSTM-VAE").entries["nll"] == NOT_FINITE
    assert best(row(found, "LSTM-VAE")) == []
    assert best(row(found, "LSTM-LM")) == ["strict"]
    text = text_of(found)
    assert "NaN: not a finite number in one seed at least, so that there is no mean." in text
    assert "not over the same seeds (Standard): LSTM-VAE lacks seed 1." in text
    assert table("nll,mi", mi=math.inf).rows[1].cells[0].entries["mi"] == NOT_FINITE  # type: ignore[union-attr]


def test_a_failed_trial_is_counted_in_its_cell() -> None:
    record = three(3)
    results = done(record, {**NLL, AVG: []}, kl=8.0)
    failed = [trial.key for trial in record.trials if trial.key not in results and trial.seed == 2]
    found = only(comparison_tables(record, results, failed=failed))
    assert (cell(found, "LSTM-VAE").done, cell(found, "LSTM-VAE").failed) == (2, 1)
    text = render([found], "text")
    assert "102.5 ± 0.7 (2/3, 1 failed)" in text
    assert "… (0/3, 1 failed)" in text
    assert "failed: of the seeds that are missing, so many have failed; 'sweep failures' says why." in found.footnotes
    for form in ("md", "tex", "html"):
        assert "1 failed" in render([found], form)


def test_seeds_that_one_method_lacks_are_named() -> None:
    record = three(3)
    results = done(record, {"LSTM-LM": [1.0, 2.0, 3.0], "LSTM-VAE": [2.0, 3.0], AVG: [3.0]})
    found = only(comparison_tables(record, results))
    assert f"not over the same seeds (Standard): LSTM-VAE lacks seed 2; {AVG} lacks seeds 1, 2." in found.footnotes
    even = only(comparison_tables(record, done(record, {method: [1.0, 2.0] for method in LATENTS})))
    assert not any("same seeds" in note for note in even.footnotes)


def test_a_single_seed_says_that_it_tells_nothing() -> None:
    record = sweep(1, methods=["LSTM-VAE", "LSTM-LM"], settings=["Standard"])
    found = only(comparison_tables(record, done(record, {"LSTM-VAE": [98.0], "LSTM-LM": [97.0]})))
    assert cell(found, "LSTM-VAE").entries["nll"] == Number(98.0, None)
    assert "one seed, n = 1." in found.footnotes
    assert any("not testable at 5 % with one seed" in note for note in found.footnotes)


def test_five_seeds_cannot_tell_and_ten_can() -> None:
    record = sweep(5, methods=["LSTM-VAE", "LSTM-LM"], settings=["Standard"])
    nll = {"LSTM-LM": [1.0, 2.0, 3.0, 4.0, 5.0], "LSTM-VAE": [11.0, 12.0, 13.0, 14.0, 15.0]}
    found = only(comparison_tables(record, done(record, nll)))
    assert any("not testable at 5 % with 5 seeds" in note for note in found.footnotes)
    more = sweep(10, methods=["LSTM-LM", "LSTM-VAE", "alike"], settings=["Standard"])
    values = [float(seed) for seed in range(10)]
    away = [value + 5 + seed / 10 for seed, value in enumerate(values)]
    alike = [value + 0.3 * (-1) ** seed + 0.06 for seed, value in enumerate(values)]
    results = done(more, {"LSTM-LM": values, "LSTM-VAE": away, "alike": alike})
    found = only(comparison_tables(more, results))
    entries = [cell(found, each.label).entries["nll"] for each in found.rows]
    assert [isinstance(each, Number) and (each.is_best, each.is_tied) for each in entries] == [
        (True, False), (False, False), (False, True),
    ]  # fmt: skip
    assert any(note.startswith("≈ not told apart from the best at 5 %") for note in found.footnotes)
    assert "4.6 ± 3.0 ≈" in render([found], "text")
    assert r"$\approx$" in render([found], "tex")


def test_settings_that_differ_are_both_named() -> None:
    record = three()
    results = done(record, NLL)
    evaluations = evaluated(results)
    first = next(iter(evaluations))
    used = {**evaluations[first].settings, "draws": 50}
    evaluations[first] = dataclasses.replace(evaluations[first], settings=used)
    found = only(comparison_tables(record, results, evaluations, columns=columns_of("iw")))
    assert any("of 50 or 500 draws" in note for note in found.footnotes)


def test_columns_are_named_or_refused() -> None:
    assert columns_of("nll, kl ,nll") == ("nll", "kl")
    assert columns_of("paper,iw") == ("nll", "kl", "ppl", "iw", "strict", "strict_iw")
    with pytest.raises(ValueError, match="unknown column 'nl'; did you mean 'nll'\\? known: .*active_units"):
        columns_of("nl")


def test_what_is_compared_is_what_the_table_shows() -> None:
    record = three()
    results = done(record, NLL, kl=8.0)
    evaluations = evaluated(results)
    found = only(comparison_tables(record, results, evaluations, columns=columns_of("iw")))
    [part] = parts(record, results, evaluations)
    for column in CHOSEN[:2]:
        numbers = part.by_seed(AVG, "Standard", column)
        assert list(numbers) == [0, 1]
        assert cell(found, AVG).mean(column) == pytest.approx(sum(float(value) for value in numbers.values()) / 2)
    one = next(key for key in evaluations if AVG in key)
    without = {key: each for key, each in evaluations.items() if key != one}
    assert parts(record, results, without)[0].by_seed(AVG, "Standard", "strict_iw")[0] == "not evaluated"
