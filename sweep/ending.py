"""How a process that trains is ended before its work is done."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sweep.claims import Launch

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ended_in_good_order(
    this: Launch, grace_seconds: float, say: Callable[[str], None], at_once: Callable[[], None]
) -> Iterator[None]:
    """While in it, Ctrl-C, SIGTERM and requests to stop end a launch in good order.

    What runs has `grace_seconds` to leave a checkpoint. After that, or at a second signal, `at_once` is called, from a
    thread.
    """
    again, over = threading.Event(), threading.Event()

    def interrupt(number: int, frame: object) -> None:
        # Events only: what this interrupts may hold the lock of a console or of the store.
        (again if this.stop.is_set() else this.stop).set()

    def see_it_through() -> None:
        while not this.stop.wait(0.2):
            if over.is_set():
                return
        say(f"stopping: {grace_seconds:g} s for what runs to leave a checkpoint; interrupt again to stop at once")
        with suppress(OSError):  # then the workers are ended below
            this.request_stop()
        ends = time.monotonic() + grace_seconds
        while not over.is_set() and not again.is_set() and time.monotonic() < ends:
            over.wait(0.1)
        if not over.is_set():
            at_once()

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    watcher = threading.Thread(target=see_it_through, name="end", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        for number, handler in before.items():
            signal.signal(number, handler)
