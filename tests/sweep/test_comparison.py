"""What can be told apart, by numbers worked out by hand; what is missing, in words; and the command on a store."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.comparison import Comparison, Rows, compare, ties_with_best
from sweep.evaluation import Evaluation, EvaluationSettings
from sweep.jobs import FAILURE, RESULT
from sweep.listing import Listing, text
from sweep.record import TUNED, SweepRecord, TrialFailure
from sweep.significance import (
    EXACT_SEEDS,
    attainable_p,
    holm,
    interval,
    permutation_p,
    seeds_needed,
    seeds_tested,
)
from sweep.store import EVALUATION, TrialStore
from tests.here import sweep_here
from tests.sweep.test_table import done, sweep

DIFFERENCES = st.lists(st.integers(-50, 50).map(float), min_size=2, max_size=8)
BASE = [100.0, 100.5, 99.5, 101.0, 99.0, 100.2, 99.9, 100.1, 100.8, 99.3]


def seeds(values: Sequence[float | str]) -> dict[int, float | str]:
    return dict(enumerate(values))


def above(*differences: float) -> dict[int, float | str]:
    """A row that is as much above `BASE`."""
    return seeds([base + difference for base, difference in zip(BASE, differences, strict=False)])


def below(num_seeds: int, row: int = 1) -> dict[int, float | str]:
    """A row that is above `BASE` in every seed, by another difference in each."""
    return above(*(row + seed / 7 for seed in range(num_seeds)))


def only(comparisons: Sequence[Comparison]) -> Comparison:
    (comparison,) = comparisons
    return comparison


def test_p_counts_the_changes_of_signs() -> None:
    assert permutation_p([-1, -2, -3, -4, -5, -6]) == 2 / 64
    # Of 16, three come to the sum of 5 or more: as they are, and with the sign of either 1 changed.
    assert permutation_p([1, 2, 3, -1]) == 2 * 3 / 16
    assert permutation_p([0.0] * 6) == 1
    assert permutation_p([98.3 - 98.1, 98.1 - 98.3, 98.5 - 98.3]) == 1  # ties up to rounding
    of_random_ones = permutation_p([1.0] * (EXACT_SEEDS + 1))
    assert attainable_p(EXACT_SEEDS + 1) <= of_random_ones < 2e-4
    assert permutation_p([1.0] * (EXACT_SEEDS + 1)) == of_random_ones


@given(DIFFERENCES, st.randoms())
@settings(max_examples=30, deadline=None)
def test_p_is_of_no_order_and_of_no_direction(differences: list[float], random: Random) -> None:
    p = permutation_p(differences)
    mixed = random.sample(differences, len(differences))
    assert permutation_p(mixed) == permutation_p([-each for each in differences]) == p
    assert attainable_p(len(differences)) <= p <= 1


@given(DIFFERENCES)
@settings(max_examples=20, deadline=None)
def test_interval_is_the_same_each_time_and_within_the_differences(differences: list[float]) -> None:
    found = interval(differences)
    assert interval(differences) == found
    if found is None:
        assert len(set(differences)) == 1
    else:
        assert min(differences) <= found[0] <= found[1] <= max(differences)
        low, high = interval([-each for each in differences]) or (math.nan, math.nan)
        assert (-high, -low) == pytest.approx(found)


def test_interval_needs_a_spread() -> None:
    assert interval([1.0]) is None
    assert interval([0.3, 0.1 + 0.2, 0.3]) is None


def test_holm_of_three() -> None:
    # 0.01 · 3; 0.03 · 2; then 0.04, but no less than the one before.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_seeds_that_a_family_needs() -> None:
    assert [seeds_needed(number) for number in (1, 2, 3, 5, 15)] == [6, 7, 7, 8, 10]  # 2^n ≥ 40 · number
    assert seeds_needed(2000) is None
    assert [seeds_tested(counts) for counts in ([5] * 3, [6], [6, 6], [7] * 3, [7] * 4)] == [6, 6, 7, 7, 8]
    assert seeds_tested([8, 5, 5]) == 8  # the others are not tested, and cost it nothing
    assert seeds_tested([8, 6]) == 6  # the second of Holm's steps is at 5 %
    assert seeds_tested([8, 6, 6]) == 8  # two at one step: neither
    assert (seeds_tested([]), seeds_tested([0, 1])) == (1, 2)


def test_a_baseline_and_one_row() -> None:
    family = compare({"base": seeds(BASE[:6]), "mine": above(-1, -2, -3, -4, -5, -6)}, baseline="base")
    found = only(family.comparisons)
    assert (found.row, found.reference, found.seeds) == ("mine", "base", (0, 1, 2, 3, 4, 5))
    assert (found.p, found.holm, found.verdict, found.notes) == (2 / 64, 2 / 64, "better", ())
    assert found.difference == pytest.approx(-3.5)
    assert found.interval is not None
    assert found.interval[0] < -3.5 < found.interval[1] < 0
    assert (family.best, family.size, family.tested, family.needed, family.notes) == (None, 1, 1, 6, ())


def test_the_rows_swapped() -> None:
    rows = {"a": seeds(BASE[:6]), "b": above(1, -2, 3, 4, 5.5, 6)}
    there, back = (only(compare(rows, baseline=name).comparisons) for name in rows)
    assert there.difference == -(back.difference or 0)
    assert (there.p, there.seeds, there.verdict) == (back.p, back.seeds, back.verdict)


def test_the_best_is_corrected_for_all_pairs() -> None:
    family = compare({"b": below(7), "a": seeds(BASE[:7]), "c": below(7, 3)})
    assert family.best is not None
    assert (family.best.row, family.best.seeds) == ("a", (0, 1, 2, 3, 4, 5, 6))
    assert family.best.mean == pytest.approx(700.1 / 7)
    assert [(each.row, each.reference, each.verdict) for each in family.comparisons] == [
        ("b", "a", "worse"),
        ("c", "a", "worse"),
    ]
    assert [each.holm for each in family.comparisons] == [3 * 2 / 128] * 2  # b and c differ, too
    assert (family.size, family.tested, family.needed) == (3, 3, 7)


def test_all_pairs() -> None:
    family = compare({"a": seeds(BASE), "b": below(10), "c": above(*[0.5, -0.5] * 5)}, all_pairs=True)
    verdicts = {(each.row, each.reference): each.verdict for each in family.comparisons}
    assert verdicts == {("a", "b"): "better", ("a", "c"): "tied", ("b", "c"): "worse"}
    assert [each.holm for each in family.comparisons] == pytest.approx([3 * 2 / 1024, 1, 3 * 2 / 1024])
    with pytest.raises(ValueError, match="give one of the two"):
        compare({}, baseline="a", all_pairs=True)


def test_what_ranks_nothing_is_lower_or_higher() -> None:
    rows = {"a": seeds(BASE), "b": below(10)}
    assert only(compare(rows, ranks=False).comparisons).verdict == "higher"
    assert only(compare(rows, baseline="b", ranks=False).comparisons).verdict == "lower"


def test_five_seeds_cannot_tell() -> None:
    rows = {"a": seeds(BASE[:5]), "b": below(5)}
    found = only(compare(rows).comparisons)
    assert found.verdict == "not testable at 5 % with 5 seeds"
    assert (found.p, found.holm) == (2 / 32, None)
    assert (compare(rows).tested, compare(rows).needed) == (0, 6)


def test_seeds_enough_for_one_are_too_few_for_a_family() -> None:
    rows = {"a": seeds(BASE[:6]), "b": below(6), "c": below(6, 3)}
    assert {each.verdict for each in compare(rows).comparisons} == {"not testable at 5 % with 6 seeds"}
    family = compare({"a": seeds(BASE), "b": below(10), "c": below(4, 3)}, baseline="a")
    assert [each.verdict for each in family.comparisons] == ["worse", "not testable at 5 % with 4 seeds"]
    assert (family.comparisons[0].holm, family.size, family.tested, family.needed) == (2 / 1024, 2, 1, 7)


def test_missing_and_failed_seeds_are_told() -> None:
    values = {**above(1, 2, 3), 3: "failed", 4: "failed"}
    found = compare({"base": seeds(BASE[:5]), "LSTM-VAE": values})
    assert only(found.comparisons).seeds == (0, 1, 2)
    assert only(found.comparisons).notes == (
        "seeds 3, 4 of LSTM-VAE are missing (failed): compared over 3 common seeds",
    )
    assert found.notes == ("base is the best over seeds 0, 1, 2 alone, which all rows have",)
    assert found.best is not None
    assert found.best.mean == pytest.approx(100)
    (note,) = only(compare({"base": seeds(BASE[:3]), "mine": {0: 1.0, 2: 3.0}}, baseline="base").comparisons).notes
    assert note == "seed 1 of mine is missing: compared over 2 common seeds"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_seed_that_is_not_finite_is_told(value: float) -> None:
    found = only(compare({"a": seeds(BASE[:4]), "X": {**above(1, 2, 3, 4), 2: value}}).comparisons)
    assert found.notes == ("seed 2 of X is not finite: left out of the comparison, not of the story",)
    assert found.seeds == (0, 1, 3)
    assert found.difference == pytest.approx(7 / 3)


def test_one_seed_and_none() -> None:
    found = only(compare({"a": seeds(BASE[:1]), "b": above(1)}).comparisons)
    assert (found.difference, found.interval, found.p, found.holm) == (1.0, None, None, None)
    assert found.verdict == "not testable at 5 % with 1 seed"
    assert found.notes == ("b and a have one common seed: no interval and no test",)
    apart = {"a": {0: 1.0}, "b": {1: 2.0}}
    none = compare(apart)
    assert none.comparisons == ()
    assert none.notes == (
        "no seed is common to all rows, so that none is the best; name a baseline, or compare all pairs",
    )
    found = only(compare(apart, all_pairs=True).comparisons)
    assert (found.difference, found.verdict) == (None, "not compared")
    assert "seed 1 of a is missing: not compared, no seed is common" in found.notes


def test_rows_without_a_number_are_told() -> None:
    family = compare({"a": seeds(BASE[:2]), "b": {0: "failed", 1: math.nan}, "c": {}})
    assert family.comparisons == ()
    assert family.notes == (
        "b has no number and is not compared (seed 0: missing (failed); seed 1: not finite)",
        "c has no number and is not compared",
        "a is alone: there is nothing to compare it with",
    )
    baseless = compare({"a": seeds(BASE[:2]), "b": above(1, 2)}, baseline="gone")
    assert baseless.comparisons == ()
    assert baseless.notes == ("the baseline gone has no number here, so that nothing is compared with it",)
    assert compare({}).comparisons == ()


def test_equal_differences_have_no_interval() -> None:
    found = only(compare({"a": seeds(BASE[:6]), "b": above(*[0.3] * 6)}).comparisons)
    assert (found.interval, found.p, found.verdict) == (None, 2 / 64, "worse")
    assert found.notes == ("b and a differ by as much in every common seed: no spread, and no interval",)
    same = only(compare({"a": seeds(BASE[:6]), "b": seeds(BASE[:6])}).comparisons)
    assert (same.difference, same.p, same.verdict) == (0, 1, "tied")


def test_ties_with_the_best() -> None:
    near = above(*[0.5, -0.4] * 5)
    ties = ties_with_best({"far": below(10), "a": seeds(BASE), "near": near, "few": below(5), "none": {}})
    assert ties.best is not None
    assert ties.best.row == "a"
    assert (ties.tied, ties.untestable) == (("near",), ("few",))
    assert ties_with_best({"a": seeds(BASE[:5]), "b": above(0, 0, 0, 0, 1)}).tied == ()
    assert ties_with_best({}).best is None


@given(st.permutations(range(7)), st.permutations(["a", "b", "c"]))
@settings(max_examples=5, deadline=None)
def test_no_order_matters(order: list[int], names: list[str]) -> None:
    rows = {"a": seeds(BASE[:7]), "b": below(7), "c": above(1, -1, 2, -2, 3, -3, 4)}
    mixed = {name: {seed: rows[name][seed] for seed in order} for name in names}
    expected = {each.row: each for each in compare(rows).comparisons}
    assert {each.row: each for each in compare(mixed).comparisons} == expected


def listed(rows: Rows, baseline: str | None = None) -> str:
    family = compare(rows, baseline=baseline)
    return " ".join(text([Listing("PTB", "", "ppl", baseline, False, family, True, ())]).split())


def test_a_listing_says_how_many_seeds_its_family_needs() -> None:
    few = {name: above(*(row + seed / 7 for seed in range(5))) for row, name in enumerate("abcdef")}
    said = listed(few)
    assert said.count("not testable at 5 % with 5 seeds") == 5
    assert "none of 15 comparisons can come to 5 %: that takes at least 10 common seeds for all of them." in said
    said = listed({**few, "a": seeds(BASE), "b": below(10)}, "a")
    assert "Holm p is corrected for the 1 of 5 comparisons that have seeds enough to come to 5 %" in said
    assert "the others have too few: that takes at least 8 common seeds for all of them." in said
    assert "nats" not in said
    many = {"a": seeds([0.0] * 16), "b": seeds([1.0 + seed for seed in range(16)])}
    assert "<0.0001 <0.0001 better" in listed(many, "b")
    assert listed({"a": seeds([1.0])}) == "PTB: ppl a is alone: there is nothing to compare it with."


class Place:
    """A folder with a store of a sweep, and the command on it."""

    def __init__(self, folder: Path, record: SweepRecord, nll: Mapping[str, list[float]]):
        self.folder, self.store, self.record = folder, TrialStore(folder / "results"), record
        self.store.record(record)
        for key, result in done(record, nll).items():
            self.store.trial(key).publish(RESULT, result.to_json().encode())

    def evaluate(self, values: Mapping[str, float]) -> None:
        """values: of `iw_strict`, by trial."""
        settings = EvaluationSettings(draws=50)
        self.store.sweep(self.record.name).publish(EVALUATION, settings.model_dump_json().encode())
        for key, value in values.items():
            evaluation = Evaluation(key, settings.model_dump(), 1, (), (), {}, {"iw_strict": value}, {}, {}, 0.0)
            self.store.evaluations(settings).trial(key).publish(RESULT, evaluation.to_json().encode())

    def fail(self, key: str) -> None:
        failure = TrialFailure(key, "non-finite", "", "", 1, "", 0.0)
        self.store.trial(key).publish(FAILURE, failure.to_json().encode())

    def compare(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What it says, as one line, and its errors."""
        environment = {**os.environ, "SWEEP_RESULTS": str(self.folder / "results")}
        ended = sweep_here("compare", "mine", *arguments, folder=self.folder, environment=environment, code=code)
        return " ".join(ended.stdout.split()), ended.stderr


METHODS = ("LSTM-VAE", "LSTM-LM", "LSTM-VAE-AVG (L = 5)")
NLL = {
    "LSTM-VAE": [value + 1 + seed / 7 for seed, value in enumerate(BASE)],
    "LSTM-LM": BASE,
    "LSTM-VAE-AVG (L = 5)": [value - 2 - seed / 7 for seed, value in enumerate(BASE)],
}


def test_the_command_lists_each_column_group(tmp_path: Path) -> None:
    place = Place(tmp_path, sweep(10, methods=METHODS), NLL)
    text, errors = place.compare()
    assert errors == ""
    assert text.count("strict against the best, LSTM-LM (mean 100.03 over 10 common seeds of all rows)") == 2
    assert text.startswith("PTB, Standard: strict")
    assert "LSTM-VAE 10 +1.64 [+1.39, +1.90] 0.0020 0.0059 worse" in text
    assert "LSTM-VAE-AVG (L = 5) 10 +5.36" in text  # the strict bound, not the paper's number
    assert "Holm p is corrected for 3 comparisons." in text
    assert "corrected for all pairs of rows: the same numbers have chosen" in text
    assert "by percentiles of 9,999 bootstrap resamples of the seeds, their generator seeded with 0" in text
    assert "Only strict NLLs" in text
    assert place.compare() == (text, "")


def test_the_command_ranks_nothing_by_the_number_of_the_paper(tmp_path: Path) -> None:
    place = Place(tmp_path, sweep(10, methods=METHODS, settings=["Standard"]), NLL)
    text, errors = place.compare("--metric", "nelbo_paper", "--baseline", "LSTM-LM")
    assert "warning: nelbo_paper ranks nothing beside LSTM-VAE-AVG (L = 5), of which it is no bound" in errors
    assert "PTB, Standard: nelbo_paper against LSTM-LM" in text
    assert "LSTM-VAE 10 +1.64 [+1.39, +1.90] 0.0020 0.0039 higher" in text
    assert "LSTM-VAE-AVG (L = 5) 10 -2.64 [-2.90, -2.39] 0.0020 0.0039 lower" in text
    assert "better" not in text
    assert "worse" not in text
    (group,) = json.loads(place.compare("--metric", "nelbo_paper", "--all-pairs", "--json")[0])
    assert (group["ranks"], group["unbounded"], len(group["comparisons"])) == (False, ["LSTM-VAE-AVG (L = 5)"], 3)
    alone = Place(tmp_path / "alone", sweep(10), NLL)
    assert alone.compare("--metric", "nelbo_paper")[1] == ""


def test_the_command_tells_what_is_missing_and_what_failed(tmp_path: Path) -> None:
    record = sweep(5, settings=["Standard"])
    place = Place(tmp_path, record, {"LSTM-LM": BASE[:5], "LSTM-VAE": NLL["LSTM-VAE"][:3]})
    place.fail("PTB/Standard/LSTM-VAE/4")
    text, _ = place.compare()
    assert "not testable at 5 % with 3 seeds" in text
    assert "seed 3 of LSTM-VAE is missing (not done): compared over 3 common seeds." in text
    assert "seed 4 of LSTM-VAE is missing (failed): compared over 3 common seeds." in text
    assert "LSTM-LM is the best over seeds 0, 1, 2 alone, which all rows have." in text
    assert "with so few seeds the one comparison cannot come to 5 %: that takes at least 6 common seeds." in text


def test_the_command_reads_evaluations(tmp_path: Path) -> None:
    record = sweep(3, settings=["Standard"])
    place = Place(tmp_path, record, {method: values[:3] for method, values in NLL.items()})
    _, errors = place.compare("--metric", "iw_strict", code=2)
    assert (
        "unknown metric 'iw_strict'; did you mean 'strict'? known: kl, nelbo_paper, nll, ppl, ppl_paper, rec, strict, "
        in errors
    )
    assert "'sweep evaluate mine' measures more" in errors
    some = [trial.key for trial in record.trials if trial.labels["method"] == "LSTM-LM" or trial.seed < 2]
    place.evaluate({**dict.fromkeys(some, 90.0), some[-1]: math.nan})
    text, _ = place.compare("--metric", "iw_strict", "--baseline", "LSTM-LM")
    assert "seed 2 of LSTM-VAE is missing (not evaluated): compared over 2 common seeds." in text
    assert "seed 2 of LSTM-LM is not finite: left out of the comparison, not of the story." in text
    assert "iw_strict: as 'sweep evaluate' measured it, with samples 10, draws 50, fit train." in text


def test_the_command_on_a_tuned_row_a_wrong_row_and_nothing(tmp_path: Path) -> None:
    record = sweep(2, settings=["Standard"])
    tuned = [
        replace(trial, key=f"{trial.key}t", labels={**trial.labels, TUNED: "tuned"})
        for trial in record.trials
        if trial.labels["method"] == "LSTM-VAE"
    ]
    place = Place(tmp_path, replace(record, trials=(*record.trials, *tuned)), {"LSTM-LM": [1, 2], "LSTM-VAE": [3, 5]})
    assert "LSTM-VAE, tuned 2 +2.50" in place.compare("--baseline", "LSTM-LM")[0]
    _, errors = place.compare("--baseline", "LSTM-L", code=2)
    assert errors == "error: unknown row 'LSTM-L'; did you mean 'LSTM-LM'? known: LSTM-LM, LSTM-VAE, LSTM-VAE, tuned\n"
    empty = Place(tmp_path / "empty", record, {})
    assert empty.compare()[0] == "nothing is done yet that could be compared"
    assert empty.compare("--json")[0] == "[]"
