"""Everything that is measured of a trained model: bounds, importance-weighted NLL, and whether it uses its latents."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt
from torch import Tensor

from data.batch import Batch
from data.corpus import Corpus, Split
from model.bounds import FORMS, bounds_of
from model.columns import Columns
from model.core import LatentModel, TextModel
from model.diagnostics import measure_use
from model.draws import Draws
from model.evaluate import perplexity
from model.exchangeable import fit_correlation
from model.importance import importance_weighted

VERSION = 1
"""Part of every id of settings: raised when the meaning of a measured number changes."""
MI_BATCH = 32
"""Sentences in a pool of `mi_b32`, the batch size of He et al. (2019)."""


class EvaluationSettings(BaseModel):
    """How trained models are measured. In everything that is measured, the trial's own seed decides the draws.

    samples: draws S of the latents a sentence, for bounds. draws: K of importance weighting, of the test split; 0 for
    none. fit: the split on which the correlations of the exchangeable prior are fitted; never the test split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    samples: PositiveInt = 10
    draws: NonNegativeInt = 0
    fit: Literal["train", "valid"] = "train"

    @property
    def id(self) -> str:
        """Equal for settings that give the same numbers."""
        identity = {"version": VERSION, "mi_batch": MI_BATCH, **self.model_dump()}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class Measured:
    """What is known so far of sentences, by stage: all that a measurement continues from."""

    stages: dict[str, Columns] = field(default_factory=dict)

    def state(self) -> dict[str, Mapping[str, Tensor]]:
        return {name: columns.state() for name, columns in self.stages.items()}


@dataclass(frozen=True)
class Measures:
    """correlation: (n,) of the exchangeable prior, or nothing. kl_by_dimension: (n,) nats. valid, test: by name."""

    correlation: list[float]
    kl_by_dimension: list[float]
    valid: Mapping[str, float]
    test: Mapping[str, float]


def measure(
    model: TextModel,
    corpus: Corpus,
    settings: EvaluationSettings,
    seed: int,
    tokens_at_once: int,
    measured: Measured,
    keep: Callable[[], None],
) -> Measures:
    """Measure what is not `measured` yet, and put it there; `keep` is called whenever that can be continued from.

    Leaves the model in evaluation mode. What it raises, and what `keep` does, ends it.
    """
    model.eval()
    device = next(model.parameters()).device
    correlation = torch.zeros(0, device=device)
    if isinstance(model, LatentModel):
        correlation = fit_correlation(model, corpus.splits[settings.fit], tokens_at_once)
    found: dict[str, dict[str, float]] = {}
    copies = max(1, model.latents_per_sentence)
    for name in ("valid", "test"):
        split = corpus.splits[name]
        purpose = f"measure/{name}"
        bounds = partial(
            bounds_of, model, samples=settings.samples, correlation=correlation, seed=seed, purpose=purpose
        )  # fmt: skip
        columns = _stage(measured, name, split)
        columns.fill(bounds, split, max(1, tokens_at_once // copies), device, keep)
        found[name] = _of_bounds(columns, split)
    split = corpus.splits["test"]
    spectrum: list[float] = []
    if isinstance(model, LatentModel):
        use, spectrum = measure_use(model, split, seed, "measure/use", tokens_at_once, MI_BATCH)
        found["test"] |= use
    if settings.draws:
        found["test"] |= _importance(model, split, settings.draws, correlation, seed, tokens_at_once, measured, keep)
    return Measures(correlation.tolist(), spectrum, found["valid"], found["test"])


def _stage(measured: Measured, name: str, split: Split) -> Columns:
    return measured.stages.setdefault(name, Columns.of(split))


def _of_bounds(columns: Columns, split: Split) -> dict[str, float]:
    found: dict[str, float] = {name: columns.mean(name) for name in ("rec", "kl") if name in columns.values}
    for form in FORMS:
        found |= _nll(f"nelbo_{form}", columns, form)
        found[f"ppl_{form}"] = perplexity(columns.values[form].sum().item(), split.num_tokens)
    return {**found, "jensen": found["nelbo_l1"] - found["nelbo_paper"]}


def _nll(name: str, columns: Columns, column: str) -> dict[str, float]:
    return {name: columns.mean(column), f"{name}_se": columns.error(column)}


def _importance(
    model: TextModel,
    split: Split,
    draws: int,
    correlation: Tensor,
    seed: int,
    tokens_at_once: int,
    measured: Measured,
    keep: Callable[[], None],
) -> dict[str, float]:
    if not isinstance(model, LatentModel):
        # Exact without draws.
        return {
            key: value for form in FORMS for key, value in _nll(f"iw_{form}", measured.stages["test"], form).items()
        }
    device = next(model.parameters()).device

    def weigh(batch: Batch) -> Mapping[str, Tensor]:
        noise = Draws(model, batch.indices.tolist(), seed, "measure/importance", device)
        weighed = importance_weighted(model, batch.tokens, draws, noise, correlation, tokens_at_once=tokens_at_once)
        nll = {form: each.nll for form, each in weighed.items()}
        return nll | {f"{form}_ess": each.ess for form, each in weighed.items()}

    columns = _stage(measured, "importance", split)
    columns.fill(weigh, split, max(1, tokens_at_once // (draws * model.latents_per_sentence)), device, keep)
    found: dict[str, float] = {}
    for form in FORMS:
        found |= _nll(f"iw_{form}", columns, form)
        found[f"iw_{form}_ess"] = columns.mean(f"{form}_ess")
    return found
