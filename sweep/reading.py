"""A trained model to be read: its best weights, how it speaks, and what is told of it and of its sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.corpus import Corpus, Split
from data.vocabulary import END, Vocabulary
from model.core import LatentModel, TextModel
from model.decode import Decoded, Decoding, decode
from sweep.config import TrialConfig, kind_of, unknown
from sweep.measuring import trained
from sweep.record import TrialResult
from sweep.store import EVALUATIONS, EvaluationStore, TrialStore

COLLAPSED = 0.1
"""KL of one latent, in nats, below which a posterior is taken for the prior."""
HEADING = f"{'log p':>13}  (nats, given the latents)"
"""Over lines of sentences."""


@dataclass(frozen=True)
class Trained:
    """A done trial with the weights of its best epoch, and the corpus that it was trained on."""

    result: TrialResult
    config: TrialConfig
    model: TextModel
    corpus: Corpus

    @property
    def key(self) -> str:
        return self.result.key

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def latent_model(self) -> LatentModel:
        """Raises ValueError for a language model."""
        if not isinstance(self.model, LatentModel):
            raise ValueError(
                f"trial {self.key[:12]} is of '{kind_of(self.config.model)}', which has no latent variable and so no "
                f"posterior; what can be read of it is 'sweep sample {self.key[:12]}'"
            )
        return self.model

    def split(self, name: str) -> Split:
        """Raises ValueError when there is none of that name."""
        if name not in self.corpus.splits:
            raise ValueError(unknown("split", name, self.corpus.splits))
        return self.corpus.splits[name]


def read_trained(store: TrialStore, key: str, corpora: Path, device: str) -> Trained:
    """Raises ValueError when the trial is not done, when its weights are not whole, or when the corpus is another."""
    if (state := store.state(key)) != "done":
        raise ValueError(f"trial {key[:12]} is {state}, and only a done one can be read; train it to its end first")
    result = store.result(key)
    model, corpus = trained(store, result, corpora, device)
    return Trained(result, TrialConfig.parse(result.config), model, corpus)


@dataclass(frozen=True)
class Speech:
    """How latents become sentences. max_length: in predicted tokens; None is that of the longest sentence of train."""

    decoding: Decoding
    max_length: int | None
    seed: int

    def of(self, trained: Trained, latents: Tensor) -> list[Decoded]:
        """A sentence for each of (R, L, n) latents."""
        corpus = trained.corpus
        longest = self.max_length or int(corpus.splits["train"].lengths.max())
        latents = latents.to(trained.device)
        return decode(trained.model, latents, corpus.vocabulary, self.decoding, max_length=longest, seed=self.seed)

    @property
    def label(self) -> str:
        """How it is told, e.g. `sample, temperature 0.7; seed 0`."""
        options = [f"{name} {value:g}" for name, value in self.decoding.model_dump().items() if value is not None]
        return f"{', '.join([type(self.decoding).__name__.lower(), *options])}; seed {self.seed}"

    def facts(self) -> dict[str, Any]:
        way = {"kind": type(self.decoding).__name__.lower(), **self.decoding.model_dump()}
        return {"decoding": way, "max_length": self.max_length, "seed": self.seed}


@dataclass(frozen=True)
class Reading:
    """name: of its files, without a suffix, one of a few. lines: for people. facts: as plain values."""

    name: str
    lines: Sequence[str]
    facts: Mapping[str, Any]

    def after(self, other: "Reading") -> "Reading":
        """The same with what stands in another before it."""
        return Reading(self.name, [*other.lines, *self.lines], {**other.facts, **self.facts})


def about(store: TrialStore, trained: Trained) -> Reading:
    """Which trial it is, and how much its latents tell of a sentence: to be known before its sentences are read."""
    kind, chains = kind_of(trained.config.model), trained.model.latents_per_sentence
    averaged = f", {chains} latents averaged" if chains > 1 else ""
    lines = [f"trial {trained.key[:12]}: {kind}{averaged}; {trained.corpus.title}; seed {trained.config.seed}"]
    facts = {"trial": trained.key, "model": kind, "latents_per_sentence": chains}
    if not chains:
        return Reading("about", lines, facts)
    use = use_of_latents(store, trained.result)
    shown = {"kl": "KL {:.2f} nats", "mi": "mutual information {:.2f} nats", "active_units": "{:.0f} active units"}
    lines.append(", ".join(shape.format(use[name]) for name, shape in shown.items() if name in use))
    if use["kl"] < COLLAPSED:
        lines.append(f"collapsed: below {COLLAPSED:g} nats, greedy decoding gives much the same whatever the latent")
    return Reading("about", lines, {**facts, "use": use, "is_collapsed": use["kl"] < COLLAPSED})


def use_of_latents(store: TrialStore, result: TrialResult) -> dict[str, float]:
    """`kl` of one latent, nats, and where it was evaluated `mi`, nats, and `active_units`.

    Of the test split, or of the validation split for the trial of a search.
    """
    use = {"kl": (result.test or result.valid)["kl"]}
    ids = store.trial(result.key).names(EVALUATIONS)
    evaluations = [each for id in ids for each in EvaluationStore(store, id).results([result.key]).values()]
    for newest in sorted(evaluations, key=lambda evaluation: evaluation.finished)[-1:]:
        use |= {name: newest.test[name] for name in ("mi", "active_units") if name in newest.test}
    return use


def encode(sentence: str, vocabulary: Vocabulary) -> tuple[list[int], list[str]]:
    """Ids of a sentence's words between spaces and of `</s>`; and the words that are read as the unknown symbol."""
    words = sentence.split()
    known = [word if word in vocabulary.ids and word != END else vocabulary.words[vocabulary.unknown] for word in words]
    strange = [word for word, read in zip(words, known, strict=True) if word != read]
    return vocabulary.encode(known), list(dict.fromkeys(strange))


def text(ids: Sequence[int], vocabulary: Vocabulary) -> str:
    """Words between spaces."""
    return " ".join(vocabulary.decode(ids))


def line(label: str, nats: float | None, ids: Sequence[int], vocabulary: Vocabulary) -> str:
    """A sentence for people: … at the end of one that was cut, `</s>` for one without words."""
    number = "" if nats is None else f"{nats:.2f}"
    cut = "" if vocabulary.end in ids else " …"
    return f"{label:>4}  {number:>7}  {text(ids, vocabulary) or END}{cut}"


def facts(decoded: Decoded, vocabulary: Vocabulary) -> dict[str, Any]:
    """A decoded sentence as plain values; log_p in nats, `</s>` counted."""
    return {
        "text": text(decoded.ids, vocabulary),
        "log_p": decoded.log_p,
        "is_cut": decoded.is_cut(vocabulary),
    }
