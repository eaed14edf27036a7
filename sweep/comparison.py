"""Which rows of a column group can be told apart: each pair compared over the seeds that both have."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from sweep.significance import LEVEL, are_equal, holm, interval, permutation_p, seeds_needed, seeds_tested

Rows = Mapping[str, Mapping[int, float | str]]
"""By row, in the order of the sweep, and by seed: a number, the lower the better, or in words why there is none."""
Finite = Mapping[str, Mapping[int, float]]
"""The same of the rows that have a finite number: no other seeds, and those in ascending order."""
TIED = "tied"
NOT_FINITE = "not finite"


@dataclass(frozen=True)
class Comparison:
    """A row less its reference, over `seeds`: those of which both have a finite number.

    difference: the mean, below 0 where the row is lower. interval: of it at 95 %, by the bootstrap over seeds; None for
    one seed, and where all differences are equal. p: exact and two-sided, by permutation of the signs of the paired
    differences; None for fewer than two seeds. holm: p corrected within the family; None where that cannot come to
    5 %. verdict: by `holm`, in words. notes: which seeds are left out and why, and what else is to be known.
    """

    row: str
    reference: str
    seeds: tuple[int, ...]
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    holm: float | None
    verdict: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Best:
    """The row of the lowest mean over `seeds`, those of which all compared rows have a number; the first of equals."""

    row: str
    mean: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """The comparisons of one table part and one column group that are shown, and how many they are corrected for.

    best: which the rows are compared with, unless that is a baseline or each other. size: comparisons of the family.
    tested: those of them that can come to 5 %, the number which Holm's correction is for; see `seeds_tested`. needed:
    seeds that each pair must share at the least for all of the family to be tested; None where no number would do.
    notes: what concerns no pair alone.

    The family of a baseline is every row against it, and otherwise it is all pairs. So it is for the best row, too: the
    same numbers have chosen it, and could have chosen any. Holm over the pairs shown alone would tell equal rows apart
    too often: in simulations of six of them with 10 seeds, in 9 % of families in place of 5 %.
    """

    comparisons: tuple[Comparison, ...]
    best: Best | None
    size: int
    tested: int
    needed: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Ties:
    """tied: rows that were tested and not told apart from the best. untestable: those with too few seeds to tell.

    A row in neither is told apart from the best, or has no number.
    """

    best: Best | None
    tied: tuple[str, ...]
    untestable: tuple[str, ...]


@dataclass(frozen=True)
class _Pair:
    row: str
    reference: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]

    @property
    def rows(self) -> frozenset[str]:
        return frozenset((self.row, self.reference))


def compare(rows: Rows, *, baseline: str | None = None, all_pairs: bool = False, ranks: bool = True) -> Family:
    """Compare every row with the best one, with `baseline`, or with every other.

    ranks: whether lower is better; else a verdict says `lower` or `higher`. A baseline that has no number here is told
    in a note. Raises ValueError for a baseline together with all pairs.
    """
    if baseline is not None and all_pairs:
        raise ValueError(f"baseline '{baseline}' is one row, and all pairs have every row; give one of the two")
    finite = _with_numbers(rows)
    best = None if baseline is not None or all_pairs else _best(finite)
    against = _against(finite, baseline if best is None else best.row)
    every = list(combinations(finite, 2))
    family = every if all_pairs or best is not None else [(pair.row, pair.reference) for pair in against]
    corrected = _corrected(finite, family)
    words = ("better", "worse") if ranks else ("lower", "higher")
    compared = [_pair(finite, *two) for two in every] if all_pairs else against
    comparisons = [_comparison(rows, pair, corrected.get(pair.rows), words) for pair in compared]
    notes = [*_on_rows(rows, finite), *([] if all_pairs else _on_reference(finite, best, baseline))]
    return Family(tuple(comparisons), best, len(family), len(corrected), seeds_needed(len(family)), tuple(notes))


def ties_with_best(rows: Rows) -> Ties:
    """The rows to be marked in a table as tied with the best."""
    finite = _with_numbers(rows)
    best = _best(finite)
    if best is None:
        return Ties(None, (), ())
    against, corrected = _against(finite, best.row), _corrected(finite, list(combinations(finite, 2)))
    tied = tuple(pair.row for pair in against if corrected.get(pair.rows, 0.0) > LEVEL)
    return Ties(best, tied, tuple(pair.row for pair in against if pair.rows not in corrected))


def _with_numbers(rows: Rows) -> Finite:
    return {row: found for row, values in rows.items() if (found := _finite(values))}


def _finite(values: Mapping[int, float | str]) -> dict[int, float]:
    numbers = {seed: value for seed, value in sorted(values.items()) if not isinstance(value, str)}
    return {seed: number for seed, number in numbers.items() if math.isfinite(number)}


def _best(finite: Finite) -> Best | None:
    """None where there are no two rows, or no seed is common to all of them."""
    seeds = _common(*finite.values())
    if len(finite) < 2 or not seeds:
        return None
    means = {row: fmean(values[seed] for seed in seeds) for row, values in finite.items()}
    row = min(means, key=lambda row: means[row])
    return Best(row, means[row], seeds)


def _against(finite: Finite, reference: str | None) -> list[_Pair]:
    if reference is None or reference not in finite:
        return []
    return [_pair(finite, row, reference) for row in finite if row != reference]


def _pair(finite: Finite, row: str, reference: str) -> _Pair:
    seeds = _common(finite[row], finite[reference])
    return _Pair(row, reference, seeds, tuple(finite[row][seed] - finite[reference][seed] for seed in seeds))


def _common(*rows: Mapping[int, float]) -> tuple[int, ...]:
    return tuple(sorted(set(rows[0]).intersection(*rows[1:]))) if rows else ()


def _corrected(finite: Finite, family: Sequence[tuple[str, str]]) -> dict[frozenset[str], float]:
    """By the rows of a pair, of those that are tested: of hundreds of thousands, none as a rule."""
    counts = [len(finite[row].keys() & finite[reference].keys()) for row, reference in family]
    enough = seeds_tested(counts)
    tested = [_pair(finite, *two) for two, count in zip(family, counts, strict=True) if count >= enough]
    ps = holm([permutation_p(pair.differences) for pair in tested])
    return {pair.rows: p for pair, p in zip(tested, ps, strict=True)}


def _comparison(rows: Rows, pair: _Pair, corrected: float | None, words: tuple[str, str]) -> Comparison:
    """words: for a row that is lower than its reference, and one that is higher."""
    num_seeds = len(pair.seeds)
    difference = fmean(pair.differences) if num_seeds else None
    if difference is None:
        verdict = "not compared"
    elif corrected is None:
        verdict = f"not testable at 5 % with {counted(num_seeds, 'seed')}"
    else:
        verdict = TIED if corrected > LEVEL else words[difference > 0]
    return Comparison(
        pair.row,
        pair.reference,
        pair.seeds,
        difference,
        interval(pair.differences) if num_seeds else None,
        permutation_p(pair.differences) if num_seeds > 1 else None,
        corrected,
        verdict,
        tuple(_on_pair(rows, pair)),
    )


def _on_pair(rows: Rows, pair: _Pair) -> Iterator[str]:
    """Sentences on what is left out of a comparison, and on what it cannot give."""
    num_seeds = len(pair.seeds)
    over = f"compared over {counted(num_seeds, 'common seed')}" if num_seeds else "not compared, no seed is common"
    wanted = sorted({*rows[pair.row], *rows[pair.reference]})
    for row in (pair.row, pair.reference):
        for why, seeds in _left_out(rows[row], wanted).items():
            end = "left out of the comparison, not of the story" if why == NOT_FINITE else over
            is_why = f"{'is' if len(seeds) == 1 else 'are'} {why}"
            yield f"{_named(seeds)} of {row} {is_why}: {end}"
    if num_seeds == 1:
        yield f"{pair.row} and {pair.reference} have one common seed: no interval and no test"
    elif num_seeds and are_equal(pair.differences):
        yield f"{pair.row} and {pair.reference} differ by as much in every common seed: no spread, and no interval"


def _on_rows(rows: Rows, finite: Finite) -> Iterator[str]:
    for row, values in rows.items():
        if row not in finite:
            why = "; ".join(f"{_named(seeds)}: {why}" for why, seeds in _left_out(values, sorted(values)).items())
            yield f"{row} has no number and is not compared{f' ({why})' if why else ''}"
    if len(finite) == 1:
        yield f"{next(iter(finite))} is alone: there is nothing to compare it with"


def _on_reference(finite: Finite, best: Best | None, baseline: str | None) -> Iterator[str]:
    """Sentences on what the rows are compared with, where that is not as one would think."""
    every = sorted({seed for values in finite.values() for seed in values})
    if baseline is not None:
        if baseline not in finite:
            yield f"the baseline {baseline} has no number here, so that nothing is compared with it"
    elif best is None and len(finite) > 1:
        yield "no seed is common to all rows, so that none is the best; name a baseline, or compare all pairs"
    elif best is not None and len(best.seeds) < len(every):
        yield f"{best.row} is the best over {_named(best.seeds)} alone, which all rows have"


def _left_out(values: Mapping[int, float | str], wanted: Sequence[int]) -> dict[str, list[int]]:
    """Seeds without a finite number, by what they are instead."""
    left_out: dict[str, list[int]] = {}
    for seed in wanted:
        value = values.get(seed, "")
        if isinstance(value, str):
            left_out.setdefault(f"missing ({value})" if value else "missing", []).append(seed)
        elif not math.isfinite(value):
            left_out.setdefault(NOT_FINITE, []).append(seed)
    return left_out


def _named(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
