"""What few paired differences can tell: an exact test, an interval, and Holm's correction of a family of tests."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, permutation_test
from statsmodels.stats.multitest import multipletests

LEVEL = 0.05
"""Of a whole family: the chance that something in it is told apart which does not differ."""
EXACT_SEEDS = 16
PERMUTATIONS = 2**EXACT_SEEDS
"""Sign changes that a test goes through: all there are of up to `EXACT_SEEDS`, and as many random ones of more."""
RESAMPLES = 9_999
GENERATOR_SEED = 0
"""Of every random draw here: the same differences give the same numbers each time."""
RESOLUTION = 1e-9
"""Differences that are closer count as one: rounding must not break the ties that an exact test counts."""


def permutation_p(differences: Sequence[float]) -> float:
    """Two-sided, of two or more paired differences: were nothing different, each could as well have the other sign."""
    test = permutation_test(
        (_in_units(differences),),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        rng=np.random.default_rng(GENERATOR_SEED),
    )
    return float(test.pvalue)


def attainable_p(num_seeds: int) -> float:
    """The smallest p-value that so many differences can have: that of differences which all have one sign."""
    if num_seeds < 2:
        return 1.0
    # Of random sign changes, the observed ones count as one more: Phipson and Smyth (2010).
    return 2 * (0.5**num_seeds if num_seeds <= EXACT_SEEDS else 1 / (PERMUTATIONS + 1))


def interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """Of the mean at 95 %, by percentiles of the bootstrap; None of one difference, or of equal ones.

    Of few differences it is narrower than its name says. In simulations with normal ones it has the true mean in it in
    75 % of cases for 3 of them, 82 % for 5, 90 % for 10 and 93 % for 20; BCa in as many.
    """
    if are_equal(differences):
        return None
    rng = np.random.default_rng(GENERATOR_SEED)
    found = bootstrap((differences,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng).confidence_interval
    return float(found.low), float(found.high)


def are_equal(differences: Sequence[float]) -> bool:
    """Whether they tell of no spread."""
    return len(np.unique(_in_units(differences))) < 2


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values corrected for how many there are, in their order."""
    return [float(p) for p in multipletests(ps, LEVEL, method="holm")[1]] if ps else []


def seeds_needed(num_comparisons: int) -> int | None:
    """Differences that each comparison of a family must have, at the least, for all of them to be tested.

    None where no number would do, since random sign changes cannot come to a p-value as small as that.
    """
    numbers = range(2, EXACT_SEEDS + 2)
    return next((number for number in numbers if num_comparisons * attainable_p(number) <= LEVEL), None)


def seeds_tested(counts: Sequence[int]) -> int:
    """How many differences a comparison of a family must have to be tested in it. counts: those of each comparison.

    The fewest with which all that are tested would be significant, by Holm over them alone, if each came to its
    smallest p-value. So a comparison that can never be significant costs the others nothing (Tarone 1990), and those
    of as many differences share one fate. As it goes by no value, only by how many there are, the family's level holds.
    """
    for enough in sorted(set(counts)):
        if max(holm([attainable_p(count) for count in counts if count >= enough])) <= LEVEL:
            return enough
    return max(counts, default=0) + 1


def _in_units(differences: Sequence[float]) -> NDArray[np.float64]:
    """Whole numbers of `RESOLUTION`, whose sums are exact."""
    return np.rint(np.asarray(differences, dtype=np.float64) / RESOLUTION)
