"""A corpus: train, valid and test as flat token arrays, a vocabulary built from train alone, and a content hash."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from data.vocabulary import Vocabulary

SPLITS = ("train", "valid", "test")
FORMAT = "corpus-1"
"""Part of every content hash: raised when the same text gives other arrays."""


@dataclass(frozen=True)
class Text:
    """What a source of text hands over to be encoded: words, the vocabulary, and what is known about the source."""

    splits: Mapping[str, Sequence[Sequence[str]]]
    vocabulary: Vocabulary
    # Mean of -log p(sentence), `</s>` included, under the process that wrote the split; nats per sentence.
    # Known for generated text only.
    source_nll: Mapping[str, float] = field(default_factory=dict)


class CorpusConfig(BaseModel, ABC):
    """Configuration of a source of text; a concrete one is the `Config` of a module in `data/corpora/`.

    Everything in it is part of a trial's identity. Where the files lie is not: `root` comes with each call.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    @abstractmethod
    def title(self) -> str:
        """The name that people know the corpus by."""

    @property
    @abstractmethod
    def licence(self) -> str:
        """One sentence on who may use the text."""

    @abstractmethod
    def fingerprint(self, root: Path) -> str:
        """A string that changes whenever `read(root)` would give other text; cheap next to reading it.

        Raises ValueError when the corpus is not there, with the command that gets it.
        """

    @abstractmethod
    def read(self, root: Path) -> Text:
        """The text itself. Raises ValueError on input that breaks a rule of the corpus."""


@dataclass(frozen=True)
class Split:
    """Sentences one after another, each ended by `</s>`.

    tokens: (num_tokens,) int32; sentence i is `tokens[offsets[i]:offsets[i + 1]]`. offsets: (num_sentences + 1,) int64.
    """

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    @property
    def num_sentences(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_tokens(self) -> int:
        """Predicted tokens: words, and one `</s>` a sentence."""
        return int(self.offsets[-1])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        lengths: npt.NDArray[np.int64] = np.diff(self.offsets)
        return lengths

    def subset(self, indices: npt.NDArray[np.int64]) -> "Split":
        """Some of the sentences, in the order given."""
        sentences = [self.tokens[self.offsets[i] : self.offsets[i + 1]] for i in indices]
        return Split(np.concatenate(sentences), np.cumsum([0, *map(len, sentences)]))

    def rows(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(len(indices), T) tokens of sentences that all have the same length T."""
        starts = self.offsets[indices]
        length = int(self.offsets[indices[0] + 1] - starts[0])
        rows: npt.NDArray[np.int64] = self.tokens[starts[:, None] + np.arange(length)].astype(np.int64)
        return rows


@dataclass(frozen=True)
class Corpus:
    """An encoded corpus; `content_hash` is the sha256 of its arrays, its vocabulary and their format."""

    title: str
    vocabulary: Vocabulary
    splits: Mapping[str, Split]
    content_hash: str
    source_nll: Mapping[str, float]

    def facts(self) -> dict[str, object]:
        """Sizes and identity as plain JSON values, for records and listings."""
        return {
            "title": self.title,
            "content_hash": self.content_hash,
            "vocabulary": len(self.vocabulary),
            "sentences": {name: split.num_sentences for name, split in self.splits.items()},
            "tokens": {name: split.num_tokens for name, split in self.splits.items()},
            "source_nll": dict(self.source_nll),
        }


def encode(title: str, text: Text) -> Corpus:
    """Encode words as ids. Raises ValueError on an empty or missing split, or a test split that equals train."""
    for name in SPLITS:
        if not text.splits.get(name):
            raise ValueError(f"corpus '{title}' has no sentences in its {name} split; every split needs at least one")
    if list(text.splits["test"]) == list(text.splits["train"]):
        raise ValueError(f"the test split of corpus '{title}' equals its train split; give it held-out text")
    splits = {name: _encode_split(text.vocabulary, text.splits[name]) for name in SPLITS}
    return Corpus(title, text.vocabulary, splits, _hash(text.vocabulary, splits), dict(text.source_nll))


def _encode_split(vocabulary: Vocabulary, sentences: Sequence[Sequence[str]]) -> Split:
    encoded = [vocabulary.encode(sentence) for sentence in sentences]
    lengths = np.fromiter((len(ids) for ids in encoded), dtype=np.int64, count=len(encoded))
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    tokens = np.fromiter((i for ids in encoded for i in ids), dtype=np.int32, count=int(offsets[-1]))
    return Split(tokens, offsets)


def _hash(vocabulary: Vocabulary, splits: Mapping[str, Split]) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, list(vocabulary.words)]).encode())
    for name in SPLITS:
        digest.update(splits[name].tokens.astype("<i4").tobytes())
        digest.update(splits[name].offsets.astype("<i8").tobytes())
    return digest.hexdigest()
