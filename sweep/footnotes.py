"""The sentences below a table: each only where something in the table needs it."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sweep.layout import NOT_A_BOUND, NOT_FINITE, PENDING, SMALL_BETA, TIED, Number, Row, Summary
from sweep.measures import MEASURES, STRICT_FORMS, chosen_form, of_whom
from sweep.part import Part
from sweep.published import PublishedCorpus
from sweep.record import TrialResult, Tuned
from sweep.statistics import SEEDS_TO_TELL, over_seeds

QUANTITIES = (
    "NLL (of a VAE, its −ELBO at KL weight 1) and KL in nats per sentence, the end symbol counted; "
    "PPL = exp(total NLL / total predicted tokens)."
)
SELECTION = "Test numbers are read once, at the epoch that was best on the validation split."
TIES = (
    f"{TIED} not told apart from the best at 5 %: exact paired permutation over common seeds, Holm's correction; "
    "'sweep compare' says more."
)
DAGGER = (
    f"{NOT_A_BOUND} reconstruction plus one KL term, the paper's −ELBO: not a bound on the negative log-likelihood "
    "when L > 1; the strict bound stands in the column NLL ≤."
)
BEST = "* or bold: the lowest strict NLL (exact or a bound) of our rows in a column group; only strict NLLs are ranked."
PUBLISHED_IW = (
    "published IW: Kruengkrai (ACL 2019), Table 3, 500 draws; of averaged states it can only be weighted as the paper "
    "charges them, so that it bounds nothing."
)
OBJECTIVES = {
    "nll": "strict NLL",
    "nelbo_paper": "NLL",
    "rec": "reconstruction",
    "ppl": "strict PPL",
    "ppl_paper": "PPL",
}
ENTROPY = (
    "entropy of the source: −log p of the test text under the distribution that generated it; "
    "a model comes below it only by chance."
)


def of_comparison(rows: Sequence[Row], seeds: int | None, results: Sequence[TrialResult]) -> list[str]:
    """Notes of our rows. seeds: what every cell wants, None when they differ. results: of the table's done trials."""
    marks = "".join(row.marks for row in rows)
    cells = [cell for row in rows for cell in row.cells]
    trained = [cell for cell in cells if cell is not None]
    notes = [QUANTITIES, SELECTION, _of_seeds(trained, seeds)]
    if NOT_A_BOUND in marks:
        notes.append(DAGGER)
    if SMALL_BETA in marks:
        num_small = sum(has_small_beta(result) for result in results)
        notes.append(
            f"{SMALL_BETA} the KL weight was still below 1 at the best epoch of {num_small} of {len(results)} trials; "
            "the numbers are measured at weight 1."
        )
    if any(getattr(entry, "is_best", False) for cell in trained for entry in cell.entries.values()):
        notes.append(BEST)
    if any(cell.done == 0 for cell in trained):
        notes.append(f"{PENDING} no seed is done yet.")
    if len(trained) < len(cells):
        notes.append("blank: the sweep leaves this combination out.")
    return notes


def of_cells(part: Part, rows: Sequence[Row], columns: Sequence[str]) -> Iterator[str]:
    """What a reader of single cells has to know: which seeds they are over, and what is no number."""
    cells = [cell for row in rows for cell in row.cells if cell is not None]
    entries = [entry for cell in cells for entry in cell.entries.values()]
    if any(cell.failed for cell in cells):
        yield "failed: of the seeds that are missing, so many have failed; 'sweep failures' says why."
    if NOT_FINITE in entries:
        yield f"{NOT_FINITE}: not a finite number in one seed at least, so that there is no mean."
    if any(cell.done and PENDING in cell.entries.values() for cell in cells):
        yield f"{PENDING} beside numbers: not measured of every seed that is done; 'sweep evaluate' does it."
    for group in part.groups:
        have = {row: _finite_seeds(part.by_seed(row, group)) for row in part.rows if part.cell(row, group)}
        if len({frozenset(each) for each in have.values() if each}) > 1:
            every = set().union(*have.values())
            lacking = [f"{row} lacks {_listed(every - each)}" for row, each in have.items() if each < every]
            where = f" ({group})" if group else ""
            yield f"not over the same seeds{where}: {'; '.join(lacking)}."
    if any(isinstance(entry, Number) and entry.is_tied for entry in entries):
        yield TIES
    elif any(isinstance(entry, Number) and entry.is_best for entry in entries):
        most = max(cell.done for cell in cells)
        if most < SEEDS_TO_TELL:
            with_seeds = "one seed" if most == 1 else f"{most} seeds"
            yield (
                f"differences between rows are not testable at 5 % with {with_seeds}: an exact paired test takes "
                f"{SEEDS_TO_TELL} of them or more; 'sweep compare' says how many."
            )


def _finite_seeds(numbers: Mapping[int, float | str]) -> set[int]:
    return {seed for seed, value in numbers.items() if not isinstance(value, str) and math.isfinite(value)}


def _listed(seeds: Iterable[int]) -> str:
    numbers = sorted(seeds)
    return f"{'seed' if len(numbers) == 1 else 'seeds'} {', '.join(map(str, numbers))}"


def of_measures(part: Part, columns: Sequence[str]) -> Iterator[str]:
    """What the columns beyond the usual ones show, and which strict bounds were chosen."""
    trials = part.done()
    facts = of_whom(trials)
    yield from dict.fromkeys(MEASURES[key].note.format(**facts) for key in columns if MEASURES[key].note)
    chosen: dict[str, list[str]] = {}
    for row in part.rows:
        for group in part.groups:
            cell = part.done(row, group)
            if any(not trial.result.is_bound for trial in cell) and all(trial.evaluation for trial in cell):
                form = STRICT_FORMS[chosen_form(cell)]
                chosen.setdefault(form, []).append(f"{row} ({group})" if group else row)
    if chosen and "strict" in columns:
        which = "; ".join(f"{form} for {', '.join(cells)}" for form, cells in chosen.items())
        yield f"strict bounds of averaged states, each the lowest of three on validation: {which}."


def of_tuned(name: str, tuned: Tuned, results: Sequence[TrialResult]) -> str:
    """What a searched row is, and how much of its validation number was luck of the search. results: that report it."""
    seeds = "one seed" if tuned.seeds == 1 else f"{tuned.seeds} seeds each"
    note = (
        f"{name}: no. {tuned.number} of {tuned.searched} suggestions of a search on validation, with {seeds} of "
        f"their own: {settings(tuned.params)}. Its "
        f"validation {OBJECTIVES[tuned.objective]} was {tuned.value:.2f} in the search"
    )
    if not results:
        return f"{note}."
    fresh = over_seeds([result.valid[tuned.objective] for result in results])
    spread = "" if fresh.std is None else f" ± {fresh.std:.2f}"
    return f"{note} and is {fresh.mean:.2f}{spread} on fresh seeds: a selection bias of {fresh.mean - tuned.value:.2f}."


def settings(params: Mapping[str, Any]) -> str:
    """What a search suggested, by the names of its dimensions."""
    return ", ".join(f"{param} {_shown(value)}" for param, value in params.items())


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def has_small_beta(result: TrialResult) -> bool:
    """Whether the best epoch was trained with a KL weight below 1; no matter where there is no KL."""
    return result.latents_per_sentence > 0 and result.beta_at_best < 1


def _of_seeds(cells: Sequence[Summary], seeds: int | None) -> str:
    note = "mean ± sample standard deviation over seeds"
    if seeds is None:
        return f"{note}; (k/n): k of n seeds are done."
    note = f"{note}, n = {seeds}" if seeds > 1 else "one seed, n = 1"
    is_partial = any(0 < cell.done < seeds for cell in cells)
    return note + (f"; (k/{seeds}): only k seeds are done." if is_partial else ".")


def of_published(corpus: PublishedCorpus, cells: Sequence[Summary], has_iw: bool) -> list[str]:
    """Where the published numbers shown come from, in order of appearance, and what to know of them.

    has_iw: whether importance-weighted ones are shown.
    """
    if not cells:
        return ["no published number fits a row and a column of this table."]
    sources = list(dict.fromkeys(cell.source for cell in cells))
    notes = [f"published: {'; '.join(sources)}; ± as printed there, over five runs.", *corpus.notes]
    return [*notes, PUBLISHED_IW] if has_iw and any(cell.mean("iw") is not None for cell in cells) else notes


def of_other_sizes(published: Mapping[str, int], facts: Mapping[str, Any]) -> list[str]:
    """A warning when our corpus is not the published one. facts: `Corpus.facts()`, or empty while unknown."""
    ours = facts.get("sentences", published)
    if all(ours[split] == size for split, size in published.items()):
        return []
    sizes = ["/".join(f"{counts[split]:,}" for split in published) for counts in (ours, published)]
    return [f"not the same text: {sizes[0]} sentences ({'/'.join(published)}) here, {sizes[1]} published."]
