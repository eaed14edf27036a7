"""Trials through the queue, the store and Ray of a sweep, with other work in place of training."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sweep.claims import Launch
from sweep.cluster import cluster
from sweep.launch import launch
from sweep.plan import Plan
from sweep.progress import Progress, of_training
from sweep.queue import TrialQueue
from sweep.record import WantedTrial
from sweep.store import TrialStore
from sweep.work import Work


def tiny_corpus(corpora: Path) -> None:
    """Write a text of a few words, for `data: {kind: lines, name: tiny}`."""
    (corpora / "tiny").mkdir(parents=True)
    for split in ("train", "valid", "test"):
        (corpora / "tiny" / f"{split}.txt").write_text(f"a b c\nb {split[1]} d e\n" * 4)


def launched(plan: Plan, trials: Sequence[WantedTrial], store: TrialStore, slots: int, work: Work) -> float:
    """Do the work of some of a plan's trials. When Tune was told to start, in Unix seconds."""
    with (
        cluster(plan.fields.resources, None, slots) as where,
        Launch(store.launches, plan.record.name) as this,
        Progress(trials, plan.costs, Console(quiet=True), of_training) as progress,
    ):
        queue = TrialQueue(trials, store, plan.fields.retry, [progress], this.id, plan.bytes_needed)
        began = time.time()
        launch(queue, store, plan.corpora, where, this, 60.0, work)
    return began
