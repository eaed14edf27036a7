"""Comparisons of rows as a listing for an appendix: lines of a column group, and the footnotes of all."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sweep.comparison import Comparison, Family
from sweep.footnotes import SELECTION
from sweep.formats.text import WIDTH
from sweep.significance import EXACT_SEEDS, GENERATOR_SEED, PERMUTATIONS, RESAMPLES

HEADER = ("row", "n", "difference", "95 % CI", "p", "Holm p", "verdict")
NOTHING = "–"
UNITLESS = ("ppl", "active_units")
"""How metrics begin that are not in nats."""


@dataclass(frozen=True)
class Listing:
    """The comparisons of one column group of a table part.

    baseline, all_pairs: as they were asked for. ranks: whether lower is better. unbounded: rows of which the metric is
    no bound.
    """

    part: str
    group: str
    metric: str
    baseline: str | None
    all_pairs: bool
    family: Family
    ranks: bool
    unbounded: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """As plain values, those of the family beside the others."""
        facts = asdict(self)
        return {**{key: facts[key] for key in facts if key != "family"}, **facts["family"]}

    def lines(self) -> Iterator[str]:
        """A heading, a line for each comparison, and notes."""
        yield _wrapped(f"{', '.join(filter(None, (self.part, self.group)))}: {self.metric}{self._against()}")
        if self.family.comparisons:
            header, *body = _aligned([HEADER, *map(self._entries, self.family.comparisons)])
            rule = "─" * max(map(len, [header, *body]))
            yield from ("", header, rule, *body, rule)
        of_pairs = [note for each in self.family.comparisons for note in each.notes]
        for note in dict.fromkeys([*self.family.notes, *of_pairs, *_correction(self.family)]):
            yield _wrapped(f"{note}.")

    def _against(self) -> str:
        best = self.family.best
        if best is not None:
            what, num_seeds = "best" if self.ranks else "lowest", len(best.seeds)
            over = f"{num_seeds} common seeds" if num_seeds > 1 else "one common seed"
            return f" against the {what}, {best.row} (mean {best.mean:.2f} over {over} of all rows)"
        if self.all_pairs:
            return ", every two rows"
        return "" if self.baseline is None else f" against {self.baseline}"

    def _entries(self, each: Comparison) -> tuple[str, ...]:
        low_and_high = [] if each.interval is None else [f"{end:+.2f}" for end in each.interval]
        return (
            f"{each.row} − {each.reference}" if self.all_pairs else each.row,
            str(len(each.seeds)),
            NOTHING if each.difference is None else f"{each.difference:+.2f}",
            f"[{', '.join(low_and_high)}]" if low_and_high else NOTHING,
            *map(_shown, (each.p, each.holm)),
            each.verdict,
        )


def text(listings: Sequence[Listing], source: str = "") -> str:
    """The listings one below the other, then what was done. source: a sentence on how the metric was measured."""
    blocks = ["\n".join(listing.lines()) for listing in listings]
    notes = [note for note in (*_footnotes(listings), source) if note]
    return "\n\n".join([*blocks, *(["\n".join(map(_wrapped, notes))] if notes else [])])


def _footnotes(listings: Sequence[Listing]) -> list[str]:
    """What was done, of listings of one metric. Each only where something in them needs it."""
    every = [each for listing in listings for each in listing.family.comparisons]
    if not every:
        return []
    metric = listings[0].metric
    unit = "" if metric.startswith(UNITLESS) else ", in nats per sentence"
    more = f"; for more than {EXACT_SEEDS} seeds, by {PERMUTATIONS:,} random ones"
    is_random = any(len(each.seeds) > EXACT_SEEDS for each in every)
    notes = [
        f"difference: {metric} of the row less that of the row it is compared with{unit}, mean over the n seeds that "
        "both have; below 0, the row is lower.",
        SELECTION,
        f"95 % CI: of that mean, by percentiles of {RESAMPLES:,} bootstrap resamples of the seeds, their generator "
        f"seeded with {GENERATOR_SEED}. With few seeds it is too narrow (with 5, about 82 % of such intervals have the "
        "true mean in them), so that verdicts do not go by it.",
        f"p: exact two-sided permutation test of the paired differences, by all 2^n changes of their signs"
        f"{more if is_random else ''}.",
        "Holm p: corrected for all comparisons of a column group; a verdict holds at 5 % for all of them together.",
    ]
    if any(listing.family.best is not None and listing.family.size > 1 for listing in listings):
        notes.append(
            "The comparisons with the best are corrected for all pairs of rows: the same numbers have chosen which row "
            "that is, and could have chosen any."
        )
    if any(each.verdict == "tied" for each in every):
        notes.append("tied: not told apart at 5 %, which does not show that two rows are equal.")
    if all(listing.ranks for listing in listings):
        notes.append("better: lower. Only strict NLLs, exact or a bound, are ranked.")
    else:
        notes.append(f"lower, higher: {metric} is no strict bound of every row, and ranks none of a column group then.")
    return notes


def _correction(family: Family) -> Iterator[str]:
    """How many comparisons the p-values are corrected for, and how many seeds that takes."""
    takes = "" if family.needed is None else f": that takes at least {family.needed} common seeds"
    if family.tested and family.tested == family.size:
        yield f"Holm p is corrected for {'one comparison' if family.size == 1 else f'{family.size} comparisons'}"
    elif family.tested:
        yield (
            f"Holm p is corrected for the {family.tested} of {family.size} comparisons that have seeds enough to come "
            f"to 5 %; the others have too few{takes} for all of them"
        )
    elif family.size == 1:
        yield f"with so few seeds the one comparison cannot come to 5 %{takes}"
    elif family.size:
        yield f"with so few seeds none of {family.size} comparisons can come to 5 %{takes} for all of them"


def _shown(p: float | None) -> str:
    if p is None:
        return NOTHING
    return f"{p:.4f}" if p >= 0.0001 else "<0.0001"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The first and the last column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "   ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:-1], widths[1:-1]), line[-1]]) for line in lines
    ]


def _wrapped(note: str) -> str:
    return textwrap.fill(note, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
