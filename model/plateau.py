"""The learning-rate and stopping rule: what happens after an epoch whose validation did not improve."""

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator


class PlateauConfig(BaseModel):
    """The paper's rule by default: halve at once when validation does not improve, stop after 3 such epochs.

    Whether "3 times" means in a row or in all is not said in the paper; `count` chooses.

    reference: what makes an epoch bad: to be no better than the best (`best`), or to be worse than the best since the
    last decay and the epoch of that decay (`since_decay`, He et al. 2019). sticky: after the first decay there is one
    after every epoch, good or bad (Kim et al. 2018). decay_every: there is one after so many epochs, counted from
    decay_start_epoch, and none for what validation says (Yang et al. 2017). max_decays: the end comes with the last of
    them. min_learning_rate: the end comes when a decay leaves less.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: float = Field(0.5, gt=0, le=1)  # learning rate is multiplied by it
    decay_patience: PositiveInt = 1  # bad epochs before a decay
    decay_start_epoch: NonNegativeInt = 0  # no decay before this epoch has ended
    patience: PositiveInt = 3  # bad epochs before the end
    count: Literal["consecutive", "cumulative"] = "consecutive"
    reload_on_decay: bool = False  # go back to the best weights, with an optimizer's state from the start, on a decay
    reference: Literal["best", "since_decay"] = Field("best", json_schema_extra={"in_key": "unless default"})
    sticky: bool = Field(False, json_schema_extra={"in_key": "unless default"})
    decay_every: PositiveInt | None = Field(None, json_schema_extra={"in_key": "unless default"})
    max_decays: PositiveInt | None = Field(None, json_schema_extra={"in_key": "unless default"})
    min_learning_rate: PositiveFloat | None = Field(None, json_schema_extra={"in_key": "unless default"})

    @model_validator(mode="after")
    def _has_one_cause_of_decays(self) -> Self:
        if self.decay_every is not None and (self.sticky or self.decay_patience != 1):
            other = "sticky" if self.sticky else "decay_patience"
            raise ValueError(
                f"with decay_every {self.decay_every} the learning rate falls by the clock, and {other} has nothing to "
                "decide; leave one of them out"
            )
        return self


@dataclass(frozen=True)
class Verdict:
    """What to do after an epoch."""

    improved: bool
    decay: bool
    reload: bool
    stop: bool


@dataclass
class Plateau:
    """The rule's memory. best: lowest validation value so far. bad: epochs counted against patience.

    reference: the value that a worse epoch is bad for, where that is not `best`. decays: so far.
    """

    config: PlateauConfig
    warmup: float  # epochs that do not count against patience, from the KL schedule
    best: float | None = None
    bad: int = 0
    bad_since_decay: int = 0
    reference: float | None = None
    decays: int = 0

    def judge(self, epoch: int, value: float, learning_rate: float) -> Verdict:
        """Take in the validation value of an epoch (from 1), lower is better, and its learning rate."""
        improved = self.best is None or value < self.best
        is_bad = self._is_bad(value, improved)
        if improved:
            self.best = value
        if is_bad:
            # While the KL weight is low, validation at weight 1 says little: it may rise although training goes well.
            self.bad += epoch > self.warmup
            self.bad_since_decay += 1
        else:
            self.reference = value
            self.bad_since_decay = 0
            if self.config.count == "consecutive":
                self.bad = 0
        decay = self._falls(epoch, is_bad)
        if decay:
            self.decays += 1
            self.bad_since_decay = 0
            self.reference = value
        stop = (is_bad and self.bad >= self.config.patience) or (decay and self._has_fallen(learning_rate))
        return Verdict(improved, decay, reload=decay and self.config.reload_on_decay, stop=stop)

    def _is_bad(self, value: float, improved: bool) -> bool:
        if self.config.reference == "best" or self.reference is None:
            return not improved
        return not value <= self.reference

    def _falls(self, epoch: int, is_bad: bool) -> bool:
        """Whether this epoch ends with a decay."""
        if self.config.decay_every is not None:
            since = epoch - self.config.decay_start_epoch
            return since > 0 and since % self.config.decay_every == 0
        if self.config.sticky and self.decays > 0:
            return True
        is_due = self.bad_since_decay >= self.config.decay_patience
        return is_bad and epoch >= self.config.decay_start_epoch and is_due

    def _has_fallen(self, learning_rate: float) -> bool:
        """Whether a decay of this learning rate is the last."""
        most, least = self.config.max_decays, self.config.min_learning_rate
        is_last = most is not None and self.decays >= most
        return is_last or (least is not None and learning_rate * self.config.factor < least)

    def state(self) -> dict[str, float | int | None]:
        names = ("best", "bad", "bad_since_decay", "reference", "decays")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, float | int | None]) -> None:
        """Also a state of before there was a reference, which is then that of a rule without one, and of decays."""
        self.best, self.reference = state["best"], state.get("reference")
        self.bad, self.bad_since_decay = int(state["bad"] or 0), int(state["bad_since_decay"] or 0)
        self.decays = int(state.get("decays") or 0)
