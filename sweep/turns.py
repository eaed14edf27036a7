"""Trials on their way through a launch: those that wait, in the order in which they should start."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.jobs import Jobs
from sweep.record import TrialFailure, WantedTrial


@dataclass
class Turn:
    """A trial on its way through a launch. losses, shortages: failed tries in a row, of each kind that is retried.

    at: (epoch, step) of its checkpoint when its worker was last lost. known: the failure that is to be retried; while
    the store has that one, nobody has tried again. is_suggested: by a search, which may have seen enough of it early.
    """

    trial: WantedTrial
    known: TrialFailure | None
    is_suggested: bool = False
    not_before: float = 0.0
    losses: int = 0
    shortages: int = 0
    at: tuple[int, int] = (-1, 0)

    @property
    def alone(self) -> bool:
        return self.shortages > 0

    @property
    def may_share(self) -> bool:
        """A process: what a search suggested can be ended before those beside it."""
        return not self.alone and not self.is_suggested


class Waiting:
    """Turns in their order. Whether a trial's is among them takes no search."""

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque()
        self._by_key: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._turns)

    def __contains__(self, key: str) -> bool:
        return self._by_key[key] > 0

    def put(self, turn: Turn) -> None:
        """Behind all others."""
        self._turns.append(turn)
        self._by_key[turn.trial.key] += 1

    def put_first(self, turns: Sequence[Turn]) -> None:
        """Before all others, in their order."""
        self._turns.extendleft(reversed(turns))
        self._by_key.update(turn.trial.key for turn in turns)

    def take(self) -> Turn:
        """The first."""
        turn = self._turns.popleft()
        self._by_key[turn.trial.key] -= 1
        return turn


def turns_of(trials: Iterable[WantedTrial], store: Jobs[Any], *, are_suggested: bool = False) -> list[Turn]:
    """A first turn each. Raises OSError when the store cannot be reached."""
    given = list(trials)
    states = store.states(trial.key for trial in given)
    failures = {key: store.failure(key) for key, state in states.items() if state == "failed"}
    return [Turn(trial, failures.get(trial.key), are_suggested) for trial in given]
