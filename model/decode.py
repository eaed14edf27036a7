"""Sentences from latents: the most probable word at each step, words drawn at random, or a search with a beam.

R latents are decoded side by side, and what comes of each depends on it alone. A sentence ends with `</s>`, or is cut
at `max_length` predicted tokens, `</s>` counted.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor

from data.vocabulary import Vocabulary
from model.core import Posterior, Reader, TextModel
from model.randomness import generator

MAX_LENGTH = 100
"""Of He et al. (2019), for PTB: predicted tokens after which a sentence is cut."""
LOGITS_AT_ONCE = 2**22
"""Bounds memory: rows that are decoded side by side, times predicted words."""


@dataclass(frozen=True)
class Decoded:
    """A sentence that a model decoded.

    ids: predicted tokens, `</s>` the last of them unless the sentence was cut. log_p: their log-probability by the
    model, nats, whatever way they were chosen.
    """

    ids: tuple[int, ...]
    log_p: float

    def is_cut(self, vocabulary: Vocabulary) -> bool:
        return self.ids[-1] != vocabulary.end


class Decoding(BaseModel, ABC):
    """A way to choose the words of a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def width(self) -> int:
        """Hypotheses that are followed for each sentence."""
        return 1

    @abstractmethod
    def follow(self, reader: Reader, limits: "Limits", chance: Tensor) -> list[Decoded]:
        """One sentence a hypothesis of the reader; chance: (R, max_length) draws from U(0, 1)."""


@dataclass(frozen=True)
class Limits:
    """start, end: ids of `<s>` and `</s>`. max_length: predicted tokens of a sentence at the most."""

    start: int
    end: int
    max_length: int


@torch.no_grad()
def decode(
    model: TextModel,
    latents: Tensor,
    vocabulary: Vocabulary,
    decoding: Decoding,
    *,
    max_length: int = MAX_LENGTH,
    seed: int = 0,
) -> list[Decoded]:
    """A sentence for each of (R, L, n) latents, in their order; see `TextModel.reader`.

    Leaves the model in the mode it was in. The chances belong to the row, and not to how many are decoded at a time.
    """
    if max_length < 1:
        raise ValueError(f"max_length counts predicted tokens, at least one, and is {max_length}; give it more")
    limits = Limits(vocabulary.start, vocabulary.end, max_length)
    # In double precision, so that a word of small probability is not out of reach; on the CPU, so that a seed means
    # the same everywhere.
    chance = torch.rand(
        len(latents), max_length, generator=generator(seed, "decode/words"), dtype=torch.float64
    ).to(latents.device)  # fmt: skip
    rows = max(1, LOGITS_AT_ONCE // (len(vocabulary) * decoding.width))
    was_training = model.training
    model.eval()
    decoded = []
    for first in range(0, len(latents), rows):
        some = slice(first, first + rows)
        decoded += decoding.follow(model.reader(latents[some]), limits, chance[some])
    model.train(was_training)
    return decoded


class Greedy(Decoding):
    """The most probable word at each step."""

    def follow(self, reader: Reader, limits: Limits, chance: Tensor) -> list[Decoded]:
        return _follow_one(reader, limits, chance, lambda log_p, _: log_p.argmax(dim=1))


class Sample(Decoding):
    """Words drawn from the model's distribution, first sharpened, then without its tail.

    temperature: p^(1 / temperature), renormalised. top_k: of that the k most probable words alone. top_p: of those the
    fewest that have at least this share of their probability (Holtzman et al. 2020).
    """

    temperature: PositiveFloat = 1.0
    top_k: PositiveInt | None = None
    top_p: float = Field(1.0, gt=0, le=1)

    def follow(self, reader: Reader, limits: Limits, chance: Tensor) -> list[Decoded]:
        return _follow_one(reader, limits, chance, self.draw)

    def draw(self, log_p: Tensor, chance: Tensor) -> Tensor:
        """(R,) words for (R, V) log-probabilities and (R,) draws from U(0, 1)."""
        # Stable, so that of equally probable words the first is kept, as by argmax.
        ordered, words = log_p.double().sort(dim=1, descending=True, stable=True)
        # Against the largest, which then stays finite at any temperature.
        p = ((ordered - ordered[:, :1]) / self.temperature).exp()
        p = p[:, : self.top_k]
        total = p.cumsum(dim=1)
        p = p.where(total - p < self.top_p * total[:, -1:], 0.0)
        total = p.cumsum(dim=1)
        place = torch.searchsorted(total, chance.unsqueeze(1) * total[:, -1:], right=True)
        return words.gather(1, place).squeeze(1)


def _follow_one(
    reader: Reader, limits: Limits, chance: Tensor, choose: Callable[[Tensor, Tensor], Tensor]
) -> list[Decoded]:
    """One hypothesis a sentence, each word chosen from (R, V) log-probabilities and (R,) chances."""
    num, device = len(chance), chance.device
    tokens = torch.full((num, limits.max_length), limits.end, device=device)
    log_p = torch.zeros(num, dtype=torch.float64, device=device)
    alive = torch.arange(num, device=device)
    words = torch.full_like(alive, limits.start)
    for step in range(limits.max_length):
        following = reader.read(words)
        words = choose(following, chance[alive, step])
        tokens[alive, step] = words
        log_p[alive] += following.gather(1, words.unsqueeze(1)).squeeze(1).double()
        going = (words != limits.end).nonzero().squeeze(1)
        if len(going) == 0:
            break
        if len(going) < len(words):
            alive, words = alive[going], words[going]
            reader.keep(going)
    return [
        Decoded(until_end(row, limits.end), nats) for row, nats in zip(tokens.tolist(), log_p.tolist(), strict=True)
    ]


def until_end(ids: Sequence[int], end: int) -> tuple[int, ...]:
    """The ids up to the first `</s>`, and with it."""
    return tuple(ids[: ids.index(end) + 1] if end in ids else ids)


@singledispatch
def between(one: Posterior, other: Posterior, shares: Tensor) -> Tensor:
    """(N, n) latents on the way from one sentence's location, at share 0, to another's, at 1: (N,) `shares`.

    Along a straight line; a family whose latents lie elsewhere registers a way of its own.
    """
    return torch.lerp(one.location, other.location, shares.unsqueeze(1))
