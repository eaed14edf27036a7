"""Which trials a worker is given at once, to be trained side by side in its process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.queue import TrialQueue
from sweep.record import WantedTrial
from sweep.resources import Cluster, Share

ShareOf = Callable[[Sequence[str]], Share | None]
"""What trials, by their keys, take of a node in one process; None where they are not to share one."""


@dataclass
class Groups:
    """Deals a queue's trials out in rounds: in each, every device gets an equal part of what is left, if that fits.

    So none has many while another has none. dealt: groups so far.
    """

    queue: TrialQueue[Any]
    where: Cluster
    share_of: ShareOf
    dealt: int = 0

    def next(self) -> tuple[list[WantedTrial], Share] | None:
        """What is to be started now, if anything, and what it takes of its node."""
        left_in_round = self.where.devices - self.dealt % self.where.devices
        part = -(-self.queue.num_waiting // left_in_round)
        found = self.queue.next()
        if found is None:
            return None
        self.dealt += 1
        first, alone = found
        trials, share = [first], self.share_of([first.key])
        assert share is not None

        def fits(trial: WantedTrial) -> bool:
            nonlocal share
            wider = self.share_of([each.key for each in (*trials, trial)])
            share = wider or share
            return wider is not None

        while len(trials) < part and (more := self.queue.next_beside(first, fits)) is not None:
            trials.append(more)
        return trials, self.where.alone(share) if alone else share
