"""What the steps of an epoch add up to."""

from collections.abc import Mapping

import torch
from torch import Tensor

from model.evaluate import metrics
from model.update import Step


class Tally:
    """Of an epoch's steps, on the device, so that no step waits for a number."""

    def __init__(self, device: torch.device, state: Mapping[str, Tensor] | None = None):
        """state: of an earlier tally, to go on from."""
        zeros = {"totals": torch.zeros(6, dtype=torch.float64), "watched": torch.zeros(4)}
        state = {name: tensor.to(device) for name, tensor in (state or zeros).items()}
        # Of the steps that were not skipped: strict, paper, rec and kl in nats, sentences and tokens.
        self.totals, self._watched = state["totals"].clone(), state["watched"].clone()
        self.largest_kl, self.clipped, self.skipped, self.first_skipped = self._watched.unbind()

    def state(self) -> dict[str, Tensor]:
        return {"totals": self.totals.clone(), "watched": self._watched.clone()}

    def restore(self, state: Mapping[str, Tensor] | None = None) -> None:
        """Go on from another state, or from nothing, in the same tensors."""
        for name, tensor in (state or Tally(self.totals.device).state()).items():
            {"totals": self.totals, "watched": self._watched}[name].copy_(tensor)

    def add(self, number: int | Tensor, step: Step, sentences: int, length: int) -> None:
        """number: of the step. All of it stays in the tensors in which it is."""
        bound = step.bound
        terms = torch.stack([bound.strict, bound.paper, bound.rec, bound.kl]).double().sum(dim=1)
        one = torch.ones_like(terms[:1])
        sums = torch.cat([terms, one * sentences, one * (sentences * length)])
        self.totals += torch.where(step.skipped, 0.0, sums)
        largest = torch.maximum(self.largest_kl, bound.kl.mean())
        self.largest_kl.copy_(torch.where(step.skipped, self.largest_kl, largest))
        is_first = step.skipped & (self.skipped == 0)
        self.first_skipped.copy_(torch.where(is_first, number, self.first_skipped))
        self.clipped += step.clipped & ~step.skipped
        self.skipped += step.skipped

    def metrics(self) -> dict[str, float]:
        """Those of `evaluate`, of what was trained on, and `largest_kl`, `clipped_steps` and `skipped_steps`."""
        *terms, sentences, tokens = self.totals.tolist()
        return {
            **metrics(terms, int(sentences), int(tokens)),
            "largest_kl": self.largest_kl.item(),
            "clipped_steps": self.clipped.item(),
            "skipped_steps": self.skipped.item(),
        }
