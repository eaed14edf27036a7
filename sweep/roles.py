"""Whom the queue talks to: those who watch a launch, and whoever has more trials for it."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from sweep.record import EpochRecord, TrialFailure, WantedTrial

Found = TypeVar("Found", contravariant=True)
"""What the work on a trial comes to: the result of its training, or of its evaluation."""


class Observer(Protocol[Found]):
    """Whoever watches a launch. Called from Tune's loop: it must neither block nor raise."""

    def started(self, trial: WantedTrial) -> None: ...
    def epoch(self, trial: WantedTrial, record: EpochRecord) -> None: ...
    def finished(self, trial: WantedTrial, result: Found) -> None: ...
    def failed(self, trial: WantedTrial, failure: TrialFailure) -> None: ...
    def returned(self, trial: WantedTrial) -> None:
        """It waits again, whatever it had come to."""

    def pruned(self, trial: WantedTrial) -> None:
        """A search has seen enough of it."""

    def said(self, sentence: str) -> None: ...


class Source(Protocol[Found]):
    """Whoever has more trials while a launch goes on, because they depend on what others come to."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come, unless what was handed out leads to more."""

    def more(self) -> Sequence[WantedTrial]:
        """Trials to start before all that wait; none when there are none now."""

    def wants(self, trial: WantedTrial) -> bool:
        """Whether a trial that waits is still to be trained. Raises OSError when the store cannot be reached."""

    def epoch(self, trial: WantedTrial, record: EpochRecord) -> bool:
        """Take in an epoch; whether the trial is to go on."""

    def finished(self, trial: WantedTrial, result: Found) -> None: ...
    def failed(self, trial: WantedTrial) -> None:
        """It is not tried again in this launch."""


class Nothing:
    """The source of a grid, which is known from the beginning."""

    is_over = True

    def more(self) -> Sequence[WantedTrial]:
        return ()

    def wants(self, trial: WantedTrial) -> bool:
        return True

    def epoch(self, trial: WantedTrial, record: EpochRecord) -> bool:
        return True

    def finished(self, trial: WantedTrial, result: Any) -> None:
        """Nothing depends on it."""

    def failed(self, trial: WantedTrial) -> None:
        """Nothing depends on it."""
