"""What is measured: systems at the paper's sizes on random words, and the matrix products that they cannot avoid."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from data.vocabulary import END, Vocabulary
from model.core import TextModel
from model.randomness import generator
from model.variants.lstm_lm import Config as LmConfig
from model.variants.lstm_vae import Config as VaeConfig

BATCH = 32
IW_DRAWS, IW_SENTENCES = 500, 4


@dataclass(frozen=True)
class Size:
    """A dataset of the paper. lengths: of the batches of a pass, the last two alone for systems of several samples."""

    embedding_dim: int
    hidden_dim: int
    vocabulary: int
    lengths: tuple[int, ...]


SIZES = {
    "ptb": Size(100, 400, 10_000, (9, 15, 29, 36, 19, 23)),
    "yahoo": Size(512, 1024, 20_000, (41,)),
    "tiny": Size(8, 16, 50, (3, 4)),  # to see that the benchmark works
}
SYSTEMS: Mapping[str, Mapping[str, Any]] = {
    "LSTM-LM": {},
    "LSTM-VAE": {"samples": 1},
    "LSTM-VAE (L = 5)": {"samples": 5},
    "LSTM-VAE (L = 10)": {"samples": 10},
    "LSTM-VAE-AVG (L = 5)": {"samples": 5, "average": True},
    "LSTM-VAE-AVG (L = 10)": {"samples": 10, "average": True},
    "LSTM-VAE-AVG (L = 10), shared masks": {"samples": 10, "average": True, "shared_input_dropout": True},
}


@dataclass(frozen=True)
class Case:
    size: Size
    fields: Mapping[str, Any]

    @property
    def chains(self) -> int:
        """Of the decoder in training: L."""
        return int(self.fields.get("samples", 1))

    @property
    def draws(self) -> int:
        """Rows of the softmax in training, a sentence and step."""
        return 1 if self.fields.get("average") else self.chains

    @property
    def has_latents(self) -> bool:
        return bool(self.fields)

    def build(self) -> TextModel:
        config_type: Any = VaeConfig if self.has_latents else LmConfig
        config = config_type(embedding_dim=self.size.embedding_dim, hidden_dim=self.size.hidden_dim, **self.fields)
        model: TextModel = config.build(Vocabulary((END, *(f"w{i}" for i in range(self.size.vocabulary - 1)))))
        model.initialise(generator(0, "parameters"))
        return model

    def batches(self) -> list[Tensor]:
        lengths = self.size.lengths if self.chains == 1 else self.size.lengths[-2:]
        return [random_tokens(BATCH, length, self.size.vocabulary) for length in lengths]

    def training(self, length: int) -> Iterator["Product"]:
        """Products of one step, as the plain version and ours do them."""
        size = self.size
        if self.has_latents:
            yield from _lstm(length + 1, BATCH, size.embedding_dim, size.hidden_dim, backward=True)
        inputs = size.embedding_dim + (32 if self.has_latents else 0)
        yield from _lstm(length, BATCH * self.chains, inputs, size.hidden_dim, backward=True)
        rows = length * BATCH * self.draws
        yield Product("nt", rows, size.hidden_dim, size.vocabulary)
        yield Product("nn", rows, size.vocabulary, size.hidden_dim)
        yield Product("tn", size.vocabulary, rows, size.hidden_dim)

    def evaluation(self, length: int, sentences: int, draws: int = 1) -> Iterator["Product"]:
        """Products of a bound without gradients: the words' part once, the rest for each draw of the latents."""
        size, chains = self.size, self.chains if self.fields.get("average") else 1
        if self.has_latents:
            yield from _lstm(length + 1, sentences, size.embedding_dim, size.hidden_dim, backward=False)
        yield Product("nt", length * sentences, size.embedding_dim, 4 * size.hidden_dim)
        yield Product("nt", sentences * draws * chains, size.hidden_dim, 4 * size.hidden_dim, length)
        yield Product("nt", sentences * draws * length, size.hidden_dim, size.vocabulary)


@dataclass(frozen=True)
class Product:
    """(rows, inner) by (inner, columns), `times` over; layout: which of the two is transposed in memory (t)."""

    layout: str
    rows: int
    inner: int
    columns: int
    times: int = 1

    def operands(self) -> tuple[Tensor, Tensor, Tensor]:
        left = torch.randn(self.inner, self.rows).t() if self.layout[0] == "t" else torch.randn(self.rows, self.inner)
        right = (
            torch.randn(self.columns, self.inner).t()
            if self.layout[1] == "t"
            else torch.randn(self.inner, self.columns)
        )
        return left, right, torch.empty(self.rows, self.columns)


def _lstm(steps: int, rows: int, inputs: int, hidden: int, *, backward: bool) -> Iterator[Product]:
    yield Product("nt", steps * rows, inputs, 4 * hidden)
    yield Product("nt", rows, hidden, 4 * hidden, steps)
    if backward:
        yield Product("nn", rows, 4 * hidden, hidden, steps)
        yield Product("tn", 4 * hidden, steps * rows, hidden)
        yield Product("tn", 4 * hidden, steps * rows, inputs)
        yield Product("nn", steps * rows, 4 * hidden, inputs)


def random_tokens(sentences: int, length: int, vocabulary: int) -> Tensor:
    words = torch.randint(1, vocabulary, (sentences, length - 1), generator=generator(0, f"words {length}"))
    return torch.cat([words, torch.zeros(sentences, 1, dtype=torch.long)], dim=1)
