"""Which trials a worker is given at once, to be trained side by side in its process."""

from collections.abc import Callable, Sequence
from typing import Any

from sweep.queue import TrialQueue
from sweep.record import WantedTrial
from sweep.resources import Cluster, Share

ShareOf = Callable[[Sequence[str]], Share | None]
"""What trials, by their keys, take of a node in one process; None where they are not to share one."""


def next_group(queue: TrialQueue[Any], where: Cluster, share_of: ShareOf) -> tuple[list[WantedTrial], Share] | None:
    """What is to be started now, if anything, and what it takes of its node."""
    # No device is to have many while another has none.
    fair = -(-queue.num_waiting // where.devices)
    found = queue.next()
    if found is None:
        return None
    first, alone = found
    trials, share = [first], share_of([first.key])
    assert share is not None

    def fits(trial: WantedTrial) -> bool:
        nonlocal share
        wider = share_of([each.key for each in (*trials, trial)])
        share = wider or share
        return wider is not None

    while len(trials) < fair and (more := queue.next_beside(first, fits)) is not None:
        trials.append(more)
    return trials, where.alone(share) if alone else share
