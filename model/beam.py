"""Beam search over sentences, several at a time."""

import math

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from model.core import Reader
from model.decode import Decoded, Decoding, Limits, until_end


class Beam(Decoding):
    """The most probable sentence among those that a beam comes across.

    As in the code of He et al. (2019), a sentence has `beam_width` hypotheses in all: one that ends takes its place
    with it. They are compared by log p / length^length_penalty; 0, theirs, compares by log p itself. One that is cut
    counts only where none has ended.
    """

    beam_width: PositiveInt = 5
    length_penalty: NonNegativeFloat = 0.0

    @property
    def width(self) -> int:
        return self.beam_width

    def follow(self, reader: Reader, limits: Limits, chance: Tensor) -> list[Decoded]:
        search = _Search(self, reader, limits, len(chance), chance.device)
        for step in range(limits.max_length):
            search.step(step)
            if len(search.open) == 0:
                break
        return [
            Decoded(until_end(ids, limits.end), log_p)
            for ids, log_p in zip(search.best_ids.tolist(), search.best_log_p.tolist(), strict=True)
        ]


class _Search:
    """The best of every sentence so far, and the beams of those B that are open, each with the same number k of slots.

    open: (B,) which sentences they are. ids: (B, k, max_length) tokens. log_p: (B, k) of them, −∞ in an empty slot.
    room: (B,) slots that no ended hypothesis has taken. value: of the best, by which hypotheses are compared.
    """

    def __init__(self, beam: Beam, reader: Reader, limits: Limits, num: int, device: torch.device):
        self._beam, self._reader, self._limits = beam, reader, limits
        self.open = torch.arange(num, device=device)
        self.words = torch.full((num, 1), limits.start, device=device)
        self.ids = torch.full((num, 1, limits.max_length), limits.end, device=device)
        self.log_p = torch.zeros(num, 1, dtype=torch.float64, device=device)
        self.room = torch.full_like(self.open, beam.beam_width)
        self.best_ids = self.ids[:, 0].clone()
        self.best_log_p = torch.full((num,), -math.inf, dtype=torch.float64, device=device)
        self.best_value = self.best_log_p.clone()

    def step(self, step: int) -> None:
        """Go on by one token; close the sentences of which the best hypothesis is known."""
        limits, (num, slots) = self._limits, self.log_p.shape
        following = self._reader.read(self.words.flatten()).double().view(num, slots, -1)
        totals = (self.log_p.unsqueeze(2) + following).flatten(1)
        log_p, places = totals.topk(min(self._beam.beam_width, totals.shape[1]), dim=1)
        is_beyond = torch.arange(log_p.shape[1], device=log_p.device) >= self.room.unsqueeze(1)
        log_p = log_p.masked_fill(is_beyond, -math.inf)
        parents, self.words = places // following.shape[2], places % following.shape[2]
        self.ids = self.ids.gather(1, parents.unsqueeze(2).expand(-1, -1, limits.max_length))
        self.ids[:, :, step] = self.words
        has_ended = (self.words == limits.end) & log_p.isfinite()
        self.log_p = log_p.masked_fill(has_ended, -math.inf)
        self.room = self.room - has_ended.sum(dim=1)
        self._compare(log_p.masked_fill(~has_ended, -math.inf), step + 1)
        if step + 1 == limits.max_length:
            has_some = self.best_value[self.open].isfinite().unsqueeze(1)
            self._compare(self.log_p.masked_fill(has_some, -math.inf), step + 1)
        self._close(parents + slots * torch.arange(num, device=parents.device).unsqueeze(1))

    def _compare(self, log_p: Tensor, length: int) -> None:
        """Take over the best of (B, k) hypotheses of one length where it is better; −∞ for those that do not count."""
        found, slots = log_p.max(dim=1)
        value = found / length**self._beam.length_penalty
        is_better = value > self.best_value[self.open]
        sentences = self.open[is_better]
        self.best_value[sentences], self.best_log_p[sentences] = value[is_better], found[is_better]
        self.best_ids[sentences] = self.ids[is_better, slots[is_better]]

    def _close(self, rows: Tensor) -> None:
        """rows: (B, k) the reader's hypotheses that these go on from."""
        # log p only falls, so nothing that is under way comes to more than this.
        within_reach = self.log_p.max(dim=1).values / self._limits.max_length**self._beam.length_penalty
        is_open = within_reach > self.best_value[self.open]
        self._reader.keep(rows[is_open].flatten())
        self.open, self.words, self.ids = self.open[is_open], self.words[is_open], self.ids[is_open]
        self.log_p, self.room = self.log_p[is_open], self.room[is_open]
