"""The one place where words reach a decoder: as they are, some dropped, or none at all (the inputless setting)."""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from data.vocabulary import Vocabulary
from model.core import ModelConfig

InputMode = Literal["words", "none"]


@dataclass(frozen=True)
class DecoderInputs:
    """What the decoder reads before it predicts each token.

    mode: `words` — the words before (teacher forcing); `none` — the unknown symbol in place of every word, in training
    and at test, so that only the latent and the position inform a prediction. word_dropout: in training, the rate at
    which a read word becomes the unknown symbol (Bowman et al. 2016; their keep rate is 1 − word_dropout).
    start, unknown: their ids. `<s>` is never dropped, nor are targets or the encoder's input.
    """

    mode: InputMode
    word_dropout: float
    start: int
    unknown: int

    def __call__(self, tokens: Tensor, training: bool, generator: torch.Generator) -> Tensor:
        """Input ids for (B, T) targets: `<s>`, then the targets shifted by one as `mode` lets them through.

        (B, T), or (1, T) where all sentences read the same.
        """
        words = tokens[:, :-1]
        if self.mode == "none":
            tokens = tokens[:1]
            words = torch.full_like(tokens[:, :-1], self.unknown)
        elif training and self.word_dropout > 0.0:
            dropped = torch.rand(words.shape, generator=generator, device=words.device) < self.word_dropout
            words = words.masked_fill(dropped, self.unknown)
        return torch.cat([prefix(tokens, self.start), words], dim=1)

    def following(self, words: Tensor) -> Tensor:
        """Input ids for (R,) words just decoded, or `<s>`: what stands in their place in a call that has them all."""
        if self.mode == "none":
            return words.masked_fill(words != self.start, self.unknown)
        return words


class ReadingConfig(ModelConfig):
    """Fields of every system whose decoder reads words; the defaults are the paper's for PTB."""

    embedding_dim: PositiveInt = 100
    hidden_dim: PositiveInt = 400
    inputs: InputMode = "words"
    word_dropout: float = Field(0.0, ge=0, lt=1, json_schema_extra={"in_shape": "whether"})

    def decoder_inputs(self, vocabulary: Vocabulary) -> DecoderInputs:
        """What the decoder reads. Raises ValueError on word dropout where no word is read."""
        if self.inputs == "none" and self.word_dropout > 0.0:
            raise ValueError(
                f"inputs: none already replaces every word, so that word_dropout {self.word_dropout:g} can do nothing; "
                "leave it 0 there, or exclude this combination"
            )
        return DecoderInputs(self.inputs, self.word_dropout, vocabulary.start, vocabulary.unknown)


def prefix(tokens: Tensor, start: int) -> Tensor:
    """(B, 1) start symbols for (B, T) tokens."""
    return torch.full_like(tokens[:, :1], start)
