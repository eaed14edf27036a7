"""The sentences below a table: each only where something in the table needs it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sweep.layout import NOT_A_BOUND, PENDING, SMALL_BETA, Row, Summary
from sweep.published import PublishedCorpus
from sweep.record import TrialResult, Tuned
from sweep.statistics import over_seeds

MEASURES = (
    "NLL (of a VAE, its −ELBO at KL weight 1) and KL in nats per sentence, the end symbol counted; "
    "PPL = exp(total NLL / total predicted tokens)."
)
SELECTION = "Test numbers are read once, at the epoch that was best on the validation split."
DAGGER = (
    f"{NOT_A_BOUND} reconstruction plus one KL term, the paper's −ELBO: not a bound on the negative log-likelihood "
    "when L > 1; the strict bound stands in the column NLL ≤."
)
BEST = "* or bold: the lowest strict NLL (exact or a bound) of our rows in a column group; only strict NLLs are ranked."
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
    notes = [MEASURES, SELECTION, _of_seeds(trained, seeds)]
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


def of_published(corpus: PublishedCorpus, cells: Sequence[Summary]) -> list[str]:
    """Where the published numbers shown come from, in order of appearance, and what to know of them."""
    if not cells:
        return ["no published number fits a row and a column of this table."]
    sources = dict.fromkeys(cell.source for cell in cells)
    return [f"published: {'; '.join(sources)}; ± as printed there, over five runs.", *corpus.notes]


def of_other_sizes(published: Mapping[str, int], facts: Mapping[str, Any]) -> list[str]:
    """A warning when our corpus is not the published one. facts: `Corpus.facts()`, or empty while unknown."""
    ours = facts.get("sentences", published)
    if all(ours[split] == size for split, size in published.items()):
        return []
    sizes = ["/".join(f"{counts[split]:,}" for split in published) for counts in (ours, published)]
    return [f"not the same text: {sizes[0]} sentences ({'/'.join(published)}) here, {sizes[1]} published."]
