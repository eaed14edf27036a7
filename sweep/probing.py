"""A probe: a few steps of one shape of trial in a process of its own, for the memory and the time that they take.

`python -m sweep.probing` is that process: a trial's document in, what was measured out. `run_probe` starts it on the
node where it is, and keeps what it found.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch

from data.batch import batches_of_tokens, excerpt, on_device, one_by_one
from data.cache import load
from data.corpus import Corpus
from data.files import LocalFiles
from model import checkpoint, host
from model.evaluate import evaluate
from model.randomness import generator
from model.steps import Syllabus
from model.train import Training, steps_of, syllabus_of
from sweep.config import TrialConfig
from sweep.environment import environment
from sweep.outcome import Right, StoppedError, guarded
from sweep.probe import Probe
from sweep.store import TrialStore
from sweep.trial import prepare

LEAST_STEPS = 3
"""That are timed, however long one takes."""
SECONDS = 5.0
"""For which more steps are timed, while there are more."""
BATCHES = 160
"""That an epoch of a probe has: on a GPU it takes some until all of its steps are recorded."""
LOOK = 0.5
"""Seconds between two looks whether a probe is to stop."""


def run_probe(
    config: TrialConfig,
    store: TrialStore,
    key: str,
    corpora: Path,
    *,
    device: str,
    threads: int,
    graphs: bool,
    right: Right,
) -> Probe:
    """Measure the shape of a trial, or return what was found of it before. key: of the probe.

    Raises as `run_trial`: TrialFailedError when it cannot be measured, its cause recorded as that of the probe.
    """
    attempt = store.probes.begin_missing(key, config.document(), right.launch)
    if attempt is None:
        return store.probes.result(key)
    with guarded(attempt, lambda: 0):
        options = {"corpora": corpora, "device": device, "threads": threads, "graphs": graphs}
        found = _in_own_process(config.document(), options, right.stop)
        probe = Probe(key=key, config=config.document(), finished=time.time(), **found)
        attempt.finish(probe)
        return probe


def _in_own_process(document: Mapping[str, Any], options: Mapping[str, object], stop: threading.Event) -> Any:
    """Its answer. Raises MemoryError, RuntimeError with its last words, and StoppedError."""
    given = [text for name, value in {**options, "parent": os.getpid()}.items() for text in (f"--{name}", str(value))]
    with subprocess.Popen(
        [sys.executable, "-m", "sweep.probing", *given],
        # What this process can import, that one can.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        asked: str | None = json.dumps(document)
        while True:
            try:
                said, errors = process.communicate(asked, timeout=LOOK)
                break
            except subprocess.TimeoutExpired:
                asked = None
                if stop.is_set():
                    process.kill()
                    raise StoppedError("a probe was asked to stop; the same command makes it again") from None
    if process.returncode == -signal.SIGKILL:
        raise MemoryError("its process was killed, as the system does where memory runs out")
    if process.returncode:
        last = (errors.strip() or f"it ended with code {process.returncode}").splitlines()[-1]
        raise MemoryError(last) if "OutOfMemoryError" in last else RuntimeError(last)
    return json.loads(said.splitlines()[-1])


def measure(config: TrialConfig, corpus: Corpus, device: str, *, graphs: bool = True) -> dict[str, Any]:
    """Fields of `Probe` besides whose it is: the first steps of the trial, a checkpoint and part of an evaluation.

    Memory is that of the whole process, at its peak since it began.
    """
    training = prepare(config, corpus, device)
    training.model.train()
    _largest(training, _syllabus(config, corpus), device)
    some = excerpt(corpus.splits["train"], config.train.batch_size, BATCHES)
    syllabus = _syllabus(config, replace(corpus, splits={**corpus.splits, "train": some}))
    taken = steps_of(training.model, training.update, syllabus, graphs=graphs)
    for epoch in range(1, taken.ready_after + 1):
        for _ in taken.take(epoch, None):
            pass
    steps = tokens = 0
    seconds, epoch = 0.0, taken.ready_after + 1
    numbers = taken.take(epoch, None)
    for group in syllabus.groups(epoch):
        if steps >= LEAST_STEPS and seconds >= SECONDS:
            break
        seconds += _timed(partial(next, numbers), device)
        steps, tokens = steps + 1, tokens + int(syllabus.split.lengths[group].sum())
    training.keep_best()
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint.write(LocalFiles(Path(scratch)), training.checkpoint())
    evaluate_rate = _evaluate_rate(training, config, corpus, device)
    on_gpu = device == "cuda"
    return {
        "host_bytes": host.peak_memory(),
        "gpu_bytes": torch.cuda.max_memory_reserved() if on_gpu else 0,
        "gpu_total": torch.cuda.get_device_properties(0).total_memory if on_gpu else 0,
        "steps": steps,
        "step_seconds": seconds / steps,
        "train_rate": seconds / tokens,
        "evaluate_rate": evaluate_rate,
        "environment": environment(torch.device(device)),
    }


def _syllabus(config: TrialConfig, corpus: Corpus) -> Syllabus:
    return syllabus_of(corpus, config.schedule, config.objective, config.train, config.seed)


def _largest(training: Training, syllabus: Syllabus, device: str) -> None:
    """A step on the largest batch: it needs the most memory, and what the first step alone makes is then made."""
    largest = max(syllabus.batches(1), key=lambda batch: batch.tokens.numel())
    [batch] = on_device([largest], torch.device(device))
    source = generator(syllabus.seed, "train/epoch 1", device)
    beside = one_by_one(syllabus.beside(1)(0), source.device)
    training.update.step(batch, syllabus.objective.at(*syllabus.when(1, 1)), source, beside)


def _evaluate_rate(training: Training, config: TrialConfig, corpus: Corpus, device: str) -> float:
    """Seconds a token of an evaluation, by the largest batch that the validation split has."""
    valid, evaluation, source = corpus.splits["valid"], config.evaluate, generator(config.seed, "probe", device)
    at_once = evaluation.tokens_at_once // prod(training.model.draw_noise(1, evaluation.samples, source).shape[:2])
    largest = max(batches_of_tokens(valid, at_once), key=lambda batch: batch.tokens.numel())
    some = valid.subset(largest.indices.numpy())
    work = partial(evaluate, training.model, some, evaluation, config.seed, "probe")
    return _timed(work, device) / some.num_tokens


def _timed(work: Callable[[], object], device: str) -> float:
    """Wall-clock seconds until the device has done it."""
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--graphs", choices=["True", "False"], required=True)
    options = parser.parse_args()
    threading.Thread(target=_end_with, args=(options.parent,), daemon=True).start()
    host.set_up(options.threads)
    config = TrialConfig.parse(json.load(sys.stdin))
    corpus = load(config.data, options.corpora)
    with host.own_stream(options.device):
        print(json.dumps(measure(config, corpus, options.device, graphs=options.graphs == "True")))


def _end_with(parent: int) -> None:
    """End this process once the one that made it is gone: what it finds is nobody's then, and its memory in the way."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)


if __name__ == "__main__":
    main()
