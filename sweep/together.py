"""Several jobs in one process, each in a thread of its own. No Ray.

Kernels of several processes take turns on a GPU, unless its keeper runs a service that merges them; those of several
streams of one process, of which each trial has its own, overlap. What a job comes to depends on none of its neighbours:
its draws are of a generator of its own, its record, its checkpoints and its failure of an attempt of its own.
"""

import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

import torch

from model import host
from sweep.record import EpochRecord
from sweep.work import Assignment, Work


@dataclass(frozen=True)
class Told:
    """What a job has to say: an epoch that it has kept, or, without one, that it has ended.

    cause: of an end that the store does not know of, all that is known; '' for every other.
    """

    key: str
    epoch: EpochRecord | None = None
    cause: str = ""


def together(assignments: Sequence[Assignment], device: str, work: Work) -> Iterator[Told]:
    """Do all of them; gives what they tell as they do, of each its end last.

    One that fails ends alone. Raises torch.AcceleratorError, after which the process is of no use to any of them, when
    the GPU itself has failed one.
    """
    # Once for all, before any computes: it tries out what the process multiplies by.
    host.set_up(assignments[0].threads)
    told: SimpleQueue[Told | BaseException] = SimpleQueue()
    threads = [
        threading.Thread(target=_do, args=(each, device, work, told.put), name=each.key[:12], daemon=True)
        for each in assignments
    ]
    for thread in threads:
        thread.start()
    left = len(threads)
    while left:
        each = told.get()
        if isinstance(each, BaseException):
            raise each
        left -= each.epoch is None
        yield each
    for thread in threads:
        thread.join()


def _do(assignment: Assignment, device: str, work: Work, tell: Callable[[Told | BaseException], None]) -> None:
    try:
        work(assignment, device, lambda record: tell(Told(assignment.key, record)))
    except torch.AcceleratorError as error:
        tell(error)
    # Whatever it is, it is this job's, as it would have been in a process of its own; the driver records it.
    except BaseException as error:
        tell(Told(assignment.key, cause="".join(traceback.format_exception(error))))
    else:
        tell(Told(assignment.key))
