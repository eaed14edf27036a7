"""How an attempt at a trial ends: stopped, out of room, or failed for a reason that the store keeps."""

import errno
import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch

from model.update import NonFiniteError
from sweep.jobs import Attempt, AttemptLog, SupersededError
from sweep.record import FailureKind, TrialFailure

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


class ConfigurationError(ValueError):
    """What was asked for cannot be done here."""


@contextmanager
def guarded(attempt: Attempt, epoch: Callable[[], int]) -> Iterator[None]:
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
    except torch.AcceleratorError:  # after which nothing runs on the GPU in this process: it is the worker that is lost
        with suppress(OSError):
            attempt.give_up()
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
    return "config" if isinstance(error, ConfigurationError) else "error"


@contextmanager
def logged(attempt: Attempt) -> Iterator[None]:
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
