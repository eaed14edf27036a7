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
        self.totals = state["totals"].clone()
        self.largest_kl, self.clipped, self.skipped, self.first_skipped = state["watched"].unbind()

    def state(self) -> dict[str, Tensor]:
        watched = torch.stack([self.largest_kl, self.clipped, self.skipped, self.first_skipped])
        return {"totals": self.totals.clone(), "watched": watched}

    def add(self, number: int, step: Step, sentences: int, length: int) -> None:
        bound = step.bound
        terms = torch.stack([bound.strict, bound.paper, bound.rec, bound.kl]).double().sum(dim=1)
        one = torch.ones_like(terms[:1])
        sums = torch.cat([terms, one * sentences, one * (sentences * length)])
        self.totals += torch.where(step.skipped, 0.0, sums)
        self.largest_kl = torch.where(step.skipped, self.largest_kl, torch.maximum(self.largest_kl, bound.kl.mean()))
        self.first_skipped = torch.where(step.skipped & (self.skipped == 0), float(number), self.first_skipped)
        self.clipped = self.clipped + (step.clipped & ~step.skipped)
        self.skipped = self.skipped + step.skipped

    def metrics(self) -> dict[str, float]:
        """Those of `evaluate`, of what was trained on, and `largest_kl`, `clipped_steps` and `skipped_steps`."""
        *terms, sentences, tokens = self.totals.tolist()
        return {
            **metrics(terms, int(sentences), int(tokens)),
            "largest_kl": self.largest_kl.item(),
            "clipped_steps": self.clipped.item(),
            "skipped_steps": self.skipped.item(),
        }
