"""Values of the sentences of a split, measured batch by batch, so that whatever stops it goes on where it was."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from data.batch import Batch, batches_of_tokens, on_device
from data.corpus import Split

Measure = Callable[[Batch], Mapping[str, Tensor]]
"""Of a batch of B sentences, (B,) values by name. They depend on the sentence alone, not on its batch."""
DONE = "done"


@dataclass
class Columns:
    """(N,) float64 by name, by the sentence's index in the split. done: (N,) bool, of which they are known."""

    done: Tensor
    values: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, split: Split, state: Mapping[str, Tensor] | None = None) -> "Columns":
        """Of no sentence yet, or as `state` had them."""
        if state is None:
            return cls(torch.zeros(split.num_sentences, dtype=torch.bool))
        return cls(state[DONE].clone(), {name: value.clone() for name, value in state.items() if name != DONE})

    def state(self) -> dict[str, Tensor]:
        return {DONE: self.done, **self.values}

    @torch.no_grad()
    def fill(
        self, measure: Measure, split: Split, tokens_at_once: int, device: torch.device, keep: Callable[[], None]
    ) -> None:
        """Measure what is not known yet, in batches of that many tokens at the most; `keep` is called after each."""
        left = [batch for batch in batches_of_tokens(split, tokens_at_once) if not self.done[batch.indices].all()]
        for batch in on_device(left, device):
            for name, values in measure(batch).items():
                column = self.values.setdefault(name, torch.zeros(len(self.done), dtype=torch.float64))
                column[batch.indices] = values.double().cpu()
            self.done[batch.indices] = True
            keep()

    def mean(self, name: str) -> float:
        assert bool(self.done.all())
        return self.values[name].mean().item()

    def error(self, name: str) -> float:
        """The standard error of the mean over sentences; 0 of one sentence, from which there is no telling."""
        column = self.values[name]
        return column.std().item() / math.sqrt(len(column)) if len(column) > 1 else 0.0
