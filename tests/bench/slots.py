"""How busy the slots of a launch were, from when each of its trials ran and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Slept:
    """A trial's own time: Unix seconds, and the process that it was in."""

    process: str
    began: float
    ended: float


def measured(slept: Sequence[Slept], slots: int, launched: float) -> dict[str, Any]:
    """Efficiencies, and between two trials of one worker the median and the largest time; None where none had two."""
    by_worker: dict[str, list[Slept]] = {}
    for each in sorted(slept, key=lambda each: each.began):
        by_worker.setdefault(each.process, []).append(each)
    gaps = [after.began - before.ended for own in by_worker.values() for before, after in pairwise(own)]
    work = sum(each.ended - each.began for each in slept)
    first, last = min(each.began for each in slept), max(each.ended for each in slept)
    return {
        "trials": len(slept),
        "workers": len(by_worker),
        "makespan": round(last - first, 1),
        "efficiency": round(work / (slots * (last - first)), 4),
        "efficiency_from_launch": round(work / (slots * (last - launched)), 4),
        "overhead_median": round(median(gaps), 3) if gaps else None,
        "overhead_largest": round(max(gaps), 3) if gaps else None,
    }
