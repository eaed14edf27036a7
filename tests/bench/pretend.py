"""In place of a training: a trial that does nothing but take its time, with a claim, a result and its numbers."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace

from model.train import EpochRecord
from sweep.record import RECORD_VERSION, TrialResult
from sweep.store import TrialStore
from sweep.work import Assignment


def pretend(assignment: Assignment, seconds: float, value: float, epochs: int = 1, test: bool = False) -> None:
    """A trial that sleeps for so long and comes to one number, `value`; its environment says in which process.

    Its times are those of the sleep alone: what it takes besides is overhead. epochs: of its history.
    test: whether it has metrics of the test split.
    """
    store, key, config = TrialStore(assignment.results), assignment.key, assignment.config
    attempt = store.begin(key, config, assignment.launch)
    began = time.time()
    time.sleep(seconds)
    ended = time.time()
    valid: Mapping[str, float] = dict.fromkeys(("nll", "nelbo_paper", "rec", "kl", "ppl", "ppl_paper"), value)
    record = EpochRecord(1, ended, seconds, 1.0, 1.0, valid, valid, True)
    history = tuple(replace(record, epoch=number) for number in range(1, epochs + 1))
    result = TrialResult(
        RECORD_VERSION, key, config, {"content_hash": "", "title": "none"}, 0, 1, 1, 1.0, valid,
        valid if test else {}, history, {"seconds": ended - began, "epochs": epochs},
        {"process": str(os.getpid())}, began, ended,
    )  # fmt: skip
    attempt.finish(result, {})
