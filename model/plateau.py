"""The learning-rate and stopping rule: what happens after an epoch whose validation did not improve."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt


class PlateauConfig(BaseModel):
    """The paper's rule by default: halve at once when validation does not improve, stop after 3 such epochs.

    Whether "3 times" means in a row or in all is not said in the paper; `count` chooses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: float = Field(0.5, gt=0, le=1)  # learning rate is multiplied by it
    decay_patience: PositiveInt = 1  # bad epochs before a decay
    decay_start_epoch: NonNegativeInt = 0  # no decay before this epoch has ended
    patience: PositiveInt = 3  # bad epochs before the end
    count: Literal["consecutive", "cumulative"] = "consecutive"
    reload_on_decay: bool = False  # go back to the best weights when the learning rate falls


@dataclass(frozen=True)
class Verdict:
    """What to do after an epoch."""

    improved: bool
    decay: bool
    reload: bool
    stop: bool


@dataclass
class Plateau:
    """The rule's memory. best: lowest validation value so far. bad: epochs counted against patience."""

    config: PlateauConfig
    warmup: float  # epochs that do not count against patience, from the KL schedule
    best: float | None = None
    bad: int = 0
    bad_since_decay: int = 0

    def judge(self, epoch: int, value: float) -> Verdict:
        """Take in the validation value of an epoch (from 1); lower is better."""
        improved = self.best is None or value < self.best
        if improved:
            self.best = value
            self.bad_since_decay = 0
            if self.config.count == "consecutive":
                self.bad = 0
            return Verdict(improved=True, decay=False, reload=False, stop=False)
        # While the KL weight is low, validation at weight 1 says little: it may rise although training goes well.
        self.bad += epoch > self.warmup
        self.bad_since_decay += 1
        decay = epoch >= self.config.decay_start_epoch and self.bad_since_decay >= self.config.decay_patience
        if decay:
            self.bad_since_decay = 0
        stop = self.bad >= self.config.patience
        return Verdict(improved=False, decay=decay, reload=decay and self.config.reload_on_decay, stop=stop)

    def state(self) -> dict[str, float | int | None]:
        return {"best": self.best, "bad": self.bad, "bad_since_decay": self.bad_since_decay}

    def restore(self, state: dict[str, float | int | None]) -> None:
        self.best = state["best"]
        self.bad, self.bad_since_decay = int(state["bad"] or 0), int(state["bad_since_decay"] or 0)
