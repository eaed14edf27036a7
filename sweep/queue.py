"""Which trial next: the missing ones, handed out once each."""

from collections import deque
from collections.abc import Iterable

from sweep.record import WantedTrial


class TrialQueue:
    """Trials in the order in which they should start."""

    def __init__(self, trials: Iterable[WantedTrial]):
        self._waiting = deque(trials)

    def next(self) -> WantedTrial | None:
        """The next trial to start, or None when every one has been handed out."""
        return self._waiting.popleft() if self._waiting else None
