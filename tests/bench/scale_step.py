"""One step of scale.py in a process of its own. Argument: the step and its options, as JSON.

Last line of the output: the peak of this process's memory in bytes, its CPU-seconds, and what else the step says.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from model import host
from sweep.jobs import each
from sweep.plan import Plan, make_plan
from sweep.resources import Cluster, Resources, Share
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.work import Assignment
from tests.bench.pretend import pretend

Said = Mapping[str, Any]


def command(words: Sequence[str], codes: Sequence[int] = (0,)) -> Said:
    """What a person would type after `sweep`. codes: with which it may end."""
    from sweep.cli import main

    sys.argv = ["sweep", *words]
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    assert code in codes, code
    return {}


def train(spec: str, most: int, slots: int, epochs: int) -> Said:
    """As many trials as are asked for, on Ray, in the order of the grid.

    Seconds a trial, of the first quarter and of the last.
    """
    from tests.bench.launched import launched

    plan, store = _plan(spec)
    trials = plan.record.trials[:most]
    began = launched(plan, trials, store, slots, lambda given, *_: _pretend(given, epochs))
    ends = sorted(result.finished for result in store.results(trial.key for trial in trials).values())
    assert len(ends) == len(trials)
    quarter = max(1, len(ends) // 4)
    spans = {"first": (ends[0], ends[quarter - 1]), "last": (ends[-quarter], ends[-1])}
    pace = {name: (end - start) / max(1, quarter - 1) for name, (start, end) in spans.items()}
    return {"trials": len(ends), "to_first": ends[0] - began, "seconds_a_trial": pace}


def fill(spec: str, epochs: int) -> Said:
    """Have all be done, and the sweep recorded, as a launch leaves it."""
    plan, store = _plan(spec)
    store.record(plan.record)
    states = store.states(plan.record.wanted)
    wanted = plan.record.wanted

    def finish(key: str) -> None:
        config = dict(wanted[key].config)
        _pretend(Assignment(key, config, str(store.location), str(plan.corpora.folder), "fill", 1, {}), epochs)

    each(finish, [key for key, state in states.items() if state != "done"])
    return {}


def resume(name: str, left: int) -> Said:
    """`sweep resume` of which so many trials are missing: when the first would start, in Unix seconds; it ends there.

    In place of Ray, which takes the same time for any number of trials, is a node that nothing runs on.
    """
    from sweep import cluster, launch

    store, found = _store(), dict[str, float]()
    keys = list(store.recorded(name).wanted)
    for key in keys[:: len(keys) // left][:left]:
        store.trial(key).remove("result.json")

    @contextmanager
    def nothing(resources: Resources, *_: object) -> Iterator[Cluster]:
        yield Cluster([Share(2.0, 0.0, 2.0**34)], resources)

    def first(queue: Any, *_: object, **__: object) -> None:
        assert queue.next() is not None
        found.update({"at": time.time(), "cpu": time.process_time()})

    cluster.cluster, launch.launch = nothing, first  # type: ignore[assignment]
    command(["resume", name, "--no-tracking"], codes=(3,))
    return found


def _pretend(assignment: Assignment, epochs: int) -> None:
    pretend(assignment, 0.0, Random(assignment.key).uniform(80.0, 120.0), epochs, test=True)


def _plan(spec: str) -> tuple[Plan, TrialStore]:
    return make_plan(SweepSpec.load(spec), Path(os.environ["SWEEP_CORPORA"])), _store()


def _store() -> TrialStore:
    return TrialStore(os.environ["SWEEP_RESULTS"])


STEPS: Mapping[str, Callable[..., Said]] = {"command": command, "train": train, "fill": fill, "resume": resume}


def main() -> None:
    step, options = json.loads(sys.argv[1])
    said = STEPS[step](**options)
    sys.stdout.flush()
    print(json.dumps({"bytes": host.peak_memory(), "cpu": time.process_time(), **said}))


if __name__ == "__main__":
    main()
