"""Whether what was handed out finds a place in the cluster, which may have lost the nodes that have room for it."""

import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds: workers on a node that has just joined take one to start."""


class Placing:
    """Of one launch, by the keys of its trials. say: has everybody know; once, until a trial has found a place."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self._say = say
        self._clock = clock
        self._waiting: set[str] = set()
        self._running: set[str] = set()
        self._since = clock()
        self._is_said = False

    def handed_out(self, key: str) -> None:
        self._waiting.add(key)

    def started(self, key: str) -> None:
        self._waiting.discard(key)
        self._running.add(key)
        self._is_said = False

    def left(self, key: str) -> None:
        self._waiting.discard(key)
        self._running.discard(key)

    def look(self) -> None:
        """To be called now and then."""
        if self._running or not self._waiting:
            self._since = self._clock()
        elif self._clock() - self._since > PATIENCE and not self._is_said:
            self._is_said = True
            self._say(
                f"no trial has found a place in the cluster for {PATIENCE:.0f} s: other work has it, or no node that "
                f"is left has what a trial asks for; add a node, or press Ctrl-C and go on later"
            )
