"""What tables can show of a trial, column by column: where each number comes from, and what it means."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from sweep.config import unknown
from sweep.evaluation import MI_BATCH, Evaluation
from sweep.layout import Column
from sweep.record import TrialResult

STRICT_FORMS = {"strict": "a KL for each latent", "exch": "the exchangeable prior", "l1": "one latent"}
"""Bounds on −log p(x), and how they are made, of the evaluation's forms."""


@dataclass(frozen=True)
class Trial:
    """A done trial, with what was measured of it later, if it was."""

    result: TrialResult
    evaluation: Evaluation | None

    def measured(self, name: str) -> float | None:
        """Of the test split; None where it is not measured, or the model has none of it."""
        return None if self.evaluation is None else self.evaluation.test.get(name)


@dataclass(frozen=True)
class Measure:
    """of: a trial's number, given the form of its cell's bound; None where it has none. note: below the table.

    of_latents: whether a language model has none of it. of_families: whether some families of latents have none of it,
    so that what an evaluation does not say will not be said.
    """

    column: Column
    of: Callable[[Trial, str], float | None]
    note: str = ""
    of_latents: bool = False
    of_families: bool = False

    def is_undefined(self, trials: Sequence[Trial]) -> bool:
        """Whether no measurement will ever give the trials of a cell this."""
        if self.of_latents and all(trial.result.latents_per_sentence == 0 for trial in trials):
            return True
        evaluated = all(trial.evaluation is not None for trial in trials)
        return self.of_families and evaluated and all(self.of(trial, "strict") is None for trial in trials)


def chosen_form(trials: Sequence[Trial]) -> str:
    """Of the strict bounds of a cell, the one that is lowest on validation, mean over the trials.

    That of a KL for each latent where some trial has no evaluation, or there is nothing to choose.
    """
    evaluations = [trial.evaluation for trial in trials if trial.evaluation is not None]
    if len(evaluations) < len(trials) or all(each.latents_per_sentence <= 1 for each in evaluations):
        return "strict"
    means = {form: fmean(each.valid[f"nelbo_{form}"] for each in evaluations) for form in STRICT_FORMS}
    return min(means, key=lambda form: means[form] if math.isfinite(means[form]) else math.inf)


def _of_test(name: str) -> Callable[[Trial, str], float | None]:
    return lambda trial, form: trial.result.test[name]


def _later(name: str) -> Callable[[Trial, str], float | None]:
    return lambda trial, form: trial.measured(name)


def _bound(of_test: str, measured: str) -> Callable[[Trial, str], float | None]:
    """A strict bound: of the training's own evaluation where it needs no choice, or cannot be chosen yet."""

    def value(trial: Trial, form: str) -> float | None:
        if trial.result.is_bound or trial.evaluation is None:
            return trial.result.test[of_test]
        return trial.measured(f"{measured}_{form}")

    return value


_JOINT = "NLL ≤ joint: a KL for each of the L latents of a likelihood."
_EXCH = "NLL ≤ exch.: one KL from a prior in which the L latents are correlated, fitted on {fit}, never on test."
_L1 = "NLL ≤ L = 1: the bound of the same weights when they are given one latent."
_IW = "IW: importance-weighted NLL of {draws} draws, of averaged states with the one ratio that the paper charges."
_OF_FORMS = (
    "IW ≤ joint, exch., L = 1: importance-weighted NLL of {draws} draws, in expectation above −log p, of each bound."
)
_MI = "MI: mutual information of a sentence and one latent, over the whole test split."
_MEASURES = (
    Measure(Column("nll", "NLL"), _of_test("nelbo_paper")),
    Measure(Column("kl", "KL"), _of_test("kl"), of_latents=True),
    Measure(Column("ppl", "PPL"), _of_test("ppl_paper")),
    Measure(Column("strict", "NLL ≤"), _bound("nll", "nelbo")),
    Measure(Column("strict_ppl", "PPL ≤"), _bound("ppl", "ppl")),
    Measure(Column("joint", "NLL ≤ joint"), _later("nelbo_strict"), _JOINT),
    Measure(Column("exch", "NLL ≤ exch."), _later("nelbo_exch"), _EXCH),
    Measure(Column("l1", "NLL ≤ L = 1"), _later("nelbo_l1"), _L1),
    Measure(
        Column("jensen", "Jensen"), _later("jensen"),
        "Jensen: nats that averaging gains over one latent at equal weights, which no information pays.",
        of_latents=True,
    ),
    Measure(Column("iw", "IW"), _later("iw_paper"), _IW),
    Measure(Column("strict_iw", "IW ≤"), lambda trial, form: trial.measured(f"iw_{form}"),
            "IW ≤: importance-weighted NLL of {draws} draws, in expectation above −log p, of the form that NLL ≤ has."),
    Measure(Column("iw_joint", "IW ≤ joint"), _later("iw_strict"), _OF_FORMS),
    Measure(Column("iw_exch", "IW ≤ exch."), _later("iw_exch"), _OF_FORMS),
    Measure(Column("iw_l1", "IW ≤ L = 1"), _later("iw_l1"), _OF_FORMS),
    Measure(Column("strict_ess", "ESS"), lambda trial, form: trial.measured(f"iw_{form}_ess"),
            "ESS: effective number of the {draws} draws of IW ≤, mean over sentences.", of_latents=True),
    Measure(Column("mi", "MI", 2), _later("mi"), _MI, of_latents=True),
    Measure(Column("mi_b32", "MI b32", 2), _later("mi_b32"),
            f"MI b32: the same in pools of {MI_BATCH} sentences (He et al. 2019), where it cannot exceed "
            f"log {MI_BATCH} = 3.47.", of_latents=True),
    Measure(Column("kl_aggregate", "KL q(z)", 2), _later("kl_aggregate"),
            "KL q(z): KL of the aggregate posterior from the prior, KL − MI.", of_latents=True),
    Measure(Column("active_units", "AU"), _later("active_units"),
            "AU: active units, dimensions whose posterior mean has a variance of 0.01 or more over sentences; – for "
            "directions, whose coordinates cannot be held against that.", of_latents=True, of_families=True),
    Measure(Column("swap", "swap"), _later("swap"),
            "swap: nats by which another sentence's latents reconstruct worse.", of_latents=True),
)  # fmt: skip
MEASURES: Mapping[str, Measure] = {measure.column.key: measure for measure in _MEASURES}
PRESETS: Mapping[str, tuple[str, ...]] = {
    "paper": ("nll", "kl", "ppl"),
    "iw": ("nll", "iw", "strict", "strict_iw"),
    "bounds": ("nll", "joint", "exch", "l1", "jensen"),
    "latent": ("kl", "mi", "mi_b32", "kl_aggregate", "active_units", "swap"),
    "all": tuple(MEASURES),
}
"""The paper's Table 2, its Table 3, and what neither has."""
CHOSEN = ("strict", "strict_iw", "strict_ppl")
"""Of the form that was chosen for a cell: the numbers that are ranked."""


def columns_of(words: str) -> tuple[str, ...]:
    """Keys of measures from names of them and of `PRESETS`, between commas. Raises ValueError on others."""
    found: list[str] = []
    for word in words.split(","):
        name = word.strip()
        if name not in MEASURES and name not in PRESETS:
            raise ValueError(unknown("column", name, [*PRESETS, *MEASURES]))
        found += PRESETS.get(name, (name,))
    return tuple(dict.fromkeys(found))


def of_whom(trials: Sequence[Trial]) -> Mapping[str, str]:
    """What the notes of measures leave open: how the trials were evaluated."""
    settings = [trial.evaluation.settings for trial in trials if trial.evaluation is not None]
    return {
        name: " or ".join(dict.fromkeys(str(each[name]) for each in settings)) or "…" for name in ("draws", "fit")
    }  # fmt: skip
