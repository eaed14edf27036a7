"""How a process of ours ends: one sentence, and an exit code that scripts can go by."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sweep.claims import TakenError
from sweep.jobs import SupersededError
from sweep.outcome import StoppedError, TrialFailedError

DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 3
"""All trials done; some failed; a mistake in what was asked for; not at its end, the same command continues."""


@contextmanager
def told() -> Iterator[None]:
    """Have what is raised in it end the process with a sentence on standard error, and no traceback."""
    try:
        yield
    except ValueError as error:
        _end(f"error: {error}", USAGE)
    except TrialFailedError as error:
        _end(f"failed: {error}", SOME_FAILED)
    except (StoppedError, SupersededError) as error:
        _end(f"stopped: {error}", INTERRUPTED)
    except TakenError as error:
        _end(f"stopped: it is being trained by {error.owner}; wait for that to end", INTERRUPTED)
    except OSError as error:
        _end(f"error: {error}; nothing that was finished is lost, the same command goes on", INTERRUPTED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _end(sentence: str, code: int) -> None:
    sys.stderr.write(sentence + "\n")
    sys.exit(code)
