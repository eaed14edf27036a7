"""Base noise for measurements: each sentence's from a generator of its own, so that no batch or order changes it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.core import TextModel
from model.randomness import generator

BLOCK = 10
"""Draws that are made at a time. Numbers drawn in other portions would be others."""


class Draws:
    """Noise for some sentences, by their indices in the split. seed, purpose: as in `generator`.

    inference: for what `LatentModel.posterior` draws; the same whatever the purpose, so that all that is measured of a
    sentence is of one posterior.
    """

    def __init__(self, model: TextModel, indices: Sequence[int], seed: int, purpose: str, device: torch.device):
        self.inference = generator(seed, "measure/posterior", device)
        self._model = model
        self._sources = [generator(seed, f"{purpose}/{index}", device) for index in indices]

    def take(self, num: int) -> Tensor:
        """(num, L, B, n), the next ones; `num` is a multiple of `BLOCK`, or ends the draws."""
        blocks = [min(BLOCK, num - start) for start in range(0, num, BLOCK)]
        draws = [
            torch.cat([self._model.draw_noise(1, block, source) for source in self._sources], dim=2)
            for block in blocks
        ]  # fmt: skip
        return torch.cat(draws)
