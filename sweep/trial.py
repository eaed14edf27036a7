"""run_trial: one training of one TrialConfig, from whatever the store has of it to its result; no Ray, no MLflow.

`python -m sweep.trial CONFIG.json` trains one on a machine that has only PyTorch, NumPy, pydantic and safetensors.
"""

import errno
import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from data.cache import load
from data.corpus import Corpus
from model import checkpoint, host
from model.evaluate import evaluate
from model.plateau import Plateau
from model.precision import at_precision
from model.randomness import generator
from model.train import EpochRecord, Training, course_of, fit
from model.update import NonFiniteError
from sweep.claims import Launch
from sweep.config import TrialConfig, trial_key
from sweep.environment import environment
from sweep.record import RECORD_VERSION, FailureKind, TrialFailure, TrialResult
from sweep.store import Attempt, AttemptLog, SupersededError, TrialStore

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
LOG_TAIL = 20


class TrialFailedError(RuntimeError):
    """The trial stopped for a reason of its own, which the store has."""

    def __init__(self, failure: TrialFailure):
        super().__init__(f"trial {failure.key[:12]}: {failure.message}")
        self.failure = failure


class StoppedError(RuntimeError):
    """The trial was asked to stop and left a checkpoint from which it continues."""


class NoRoomError(OSError):
    """The store takes no more: full, or read-only. The trial continues from its last checkpoint when it does."""


@dataclass(frozen=True)
class Right:
    """On whose behalf a trial is trained: the launch that claims it, and the event that asks it to stop."""

    launch: str
    stop: threading.Event


def run_trial(
    config: TrialConfig,
    store: TrialStore,
    corpora: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    right: Right | None = None,
    key: str | None = None,
) -> TrialResult:
    """Train a trial, or continue it from its newest whole checkpoint; if it is done, return its result.

    `on_epoch` is called after each epoch's checkpoint is in the store; SystemExit from it stops the trial. Same config,
    same machine: same bits on CPU.
    Sets the number of threads, and how PyTorch uses the CPU, for the whole process.
    right: by default that of a launch of its own. key: the trial's, if the caller knows it; a corpus that has changed
    or is missing is then a failure of that trial.
    Raises TrialFailedError when it fails, its cause recorded; TakenError when another launch trains it;
    SupersededError when another attempt took over; StoppedError and NoRoomError as they say; OSError when the store
    cannot be reached, which is no failure of the trial.
    """
    if right is None:
        with Launch(store.launches, "") as own:
            return run_trial(
                config, store, corpora, device=device, threads=threads, on_epoch=on_epoch,
                right=Right(own.id, own.stop), key=key,
            )  # fmt: skip
    host.set_up(threads)
    try:
        corpus = load(config.data, corpora)
    except ValueError as error:
        if key is None:
            raise
        with _guarded(store.begin(key, config.document(), right.launch), lambda: 0):
            raise _ConfigError(str(error)) from error
    found = trial_key(config, corpus.content_hash)
    if store.state(found) == "done":
        return store.result(found)
    attempt = store.begin(key or found, config.document(), right.launch)
    if store.state(attempt.key) == "done":  # since it was looked at: whoever had it gave it up by finishing
        attempt.withdraw()
        return store.result(attempt.key)
    trial = _Trial(config, corpus, device, attempt, on_epoch, right.stop)
    with _guarded(attempt, lambda: trial.epoch), _logged(attempt):
        if found != attempt.key:
            raise _ConfigError(
                f"corpus {corpus.title} here is not the one that was planned with; plan again, or copy it"
            )
        return trial.run()


class _ConfigError(ValueError):
    """What was asked for cannot be done here."""


@dataclass
class _Trial:
    """One attempt at a trial, from the store to the store."""

    config: TrialConfig
    corpus: Corpus
    device: str
    attempt: Attempt
    on_epoch: Callable[[EpochRecord], None]
    stop: threading.Event
    training: Training | None = None
    saved: float = 0.0

    @property
    def epoch(self) -> int:
        return self.training.epoch + 1 if self.training else 0

    def run(self) -> TrialResult:
        started = time.time()
        try:
            training = self.training = prepare(self.config, self.corpus, self.device)
        except ValueError as error:
            raise _ConfigError(str(error)) from error
        found = checkpoint.read_newest(self.attempt.checkpoints)
        if found is not None:
            training.restore(found)
            within = f", step {found.step} of the next" if found.step else ""
            self.attempt.log(f"continuing after epoch {training.epoch}{within}")
        self.saved = time.monotonic()
        config = self.config
        fit(
            training, self.corpus, config.schedule, config.objective, config.train, config.evaluate, config.seed,
            self._keep, self._is_due,
        )  # fmt: skip
        result = _result(self.attempt.key, config, self.corpus, training, started)
        self.attempt.finish(result, training.best)
        return result

    def _is_due(self) -> bool:
        return self.stop.is_set() or time.monotonic() - self.saved > self.config.train.checkpoint_minutes * 60

    def _keep(self, record: EpochRecord | None) -> None:
        assert self.training is not None
        self.attempt.check()
        checkpoint.write(self.attempt.checkpoints, self.training.checkpoint())
        self.saved = time.monotonic()
        if record is not None:
            self.attempt.log(describe(record))
            self.on_epoch(record)
        if self.stop.is_set():
            raise StoppedError(f"trial {self.attempt.key[:12]} was asked to stop; the same command continues it")


def prepare(config: TrialConfig, corpus: Corpus, device: str) -> Training:
    """The model with its parameters drawn, its update, and the plateau rule, before the first epoch."""
    model = config.model.build(corpus.vocabulary)
    config.objective.check(model)
    # Drawn on the CPU whatever the device, so that a trial starts from the same weights everywhere.
    model.initialise(generator(config.seed, "parameters"))
    model.to(device)
    update = config.update.build(at_precision(model, config.train.precision))
    return Training(
        model, update, Plateau(config.train.plateau, config.schedule.warmup(course_of(corpus, config.train)))
    )


def _result(key: str, config: TrialConfig, corpus: Corpus, training: Training, started: float) -> TrialResult:
    model, history = training.model, training.history
    model.load_state_dict(training.best)
    best = history[training.best_epoch - 1]
    evaluation, splits = config.evaluate, corpus.splits
    test = evaluate(model, splits["test"], evaluation, config.seed, "test") if evaluation.test else {}
    seconds = sum(record.seconds for record in history)
    return TrialResult(
        version=RECORD_VERSION,
        key=key,
        config=config.document(),
        corpus=corpus.facts(),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        latents_per_sentence=model.latents_per_sentence,
        best_epoch=best.epoch,
        beta_at_best=best.beta,
        valid=best.valid,
        test=test,
        history=tuple(history),
        cost={
            "seconds": seconds,
            "epochs": len(history),
            "train_tokens_per_second": corpus.splits["train"].num_tokens * len(history) / seconds,
        },
        environment=environment(next(model.parameters()).device),
        started=min(started, history[0].timestamp - history[0].seconds),
        finished=time.time(),
    )


@contextmanager
def _guarded(attempt: Attempt, epoch: Callable[[], int]) -> Iterator[None]:
    """Record why an attempt failed. epoch: in which it is."""
    try:
        yield
    except (StoppedError, SystemExit):
        with suppress(OSError):
            attempt.log("stopped")
            attempt.give_up()
        raise
    except SupersededError:
        raise
    except Exception as error:
        if isinstance(error, OSError):  # of the store, which may be back in a moment: no failure of the trial
            with suppress(OSError):
                attempt.give_up()
            if error.errno in NO_ROOM:
                raise NoRoomError(error.errno, f"trial {attempt.key[:12]}: {error.strerror}") from error
            raise
        failure = _failure(attempt, error, epoch())
        attempt.log(f"failed: {failure.message}")
        attempt.fail(failure)
        raise TrialFailedError(failure) from error


def _failure(attempt: Attempt, error: BaseException, epoch: int) -> TrialFailure:
    return TrialFailure(
        key=attempt.key,
        kind=_kind(error),
        message=str(error) or type(error).__name__,
        traceback="".join(traceback.format_exception(error)),
        epoch=epoch,
        host=socket.gethostname(),
        timestamp=time.time(),
        attempt=attempt.number,
        log_tail="\n".join(attempt.lines[-LOG_TAIL:]),
    )


def _kind(error: BaseException) -> FailureKind:
    if isinstance(error, NonFiniteError):
        return "non-finite"
    # PyTorch has no class of its own for a CPU that has no memory left.
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    if on_cpu or isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "out-of-memory"
    return "config" if isinstance(error, _ConfigError) else "error"


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def describe(record: EpochRecord) -> str:
    """An epoch as one line of a log."""
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.timestamp))
    valid = "  ".join(f"{name} {value:.3f}" for name, value in record.valid.items())
    best = "  best" if record.improved else ""
    return f"{clock}  epoch {record.epoch}  beta {record.beta:.3f}  lr {record.lr:g}  valid: {valid}{best}"


@contextmanager
def _logged(attempt: Attempt) -> Iterator[None]:
    """Warnings of the packages `model` and `data` go to the trial's own log while it runs."""
    handler = AttemptLog(attempt)
    loggers = [logging.getLogger(name) for name in ("model", "data")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


if __name__ == "__main__":
    from sweep.alone import main

    main()
