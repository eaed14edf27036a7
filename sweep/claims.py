"""Who is at work in a store: launches, which others can see to be alive, and the claims that they have on things.

A launch is a process that trains. While it lives it renews `launches/<id>.json`; that file is all that says it does.
A claim is a numbered file in the folder of what is claimed: whoever made the highest number has it, until its launch
is gone or gives it up. So a claim needs no clean-up after a crash, and a writer that lost its claim can find out.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data.files import Files

RENEWED = 5.0
"""Seconds between two signs of life of a launch, and between two looks of its own whether it is to stop."""
WATCHED = 2.0
"""Seconds between two looks of a worker whether its launch is to stop."""
STALE = 60.0
"""Seconds without a sign of life after which a launch counts as dead; at once if its process is known to be gone."""


@dataclass(frozen=True)
class LaunchFacts:
    """What a launch says of itself. heartbeat, began: Unix seconds. machine: of a process id's meaning. news: free."""

    id: str
    sweep: str
    host: str
    machine: str
    pid: int
    pid_began: str
    began: float
    heartbeat: float
    news: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_alive(self) -> bool:
        if self.machine == _machine():
            return _began(self.pid) == self.pid_began
        return time.time() - self.heartbeat < STALE

    def __str__(self) -> str:
        age = max(0.0, time.time() - self.heartbeat)
        return f"process {self.pid} on {self.host} (last sign of life {age:.0f} s ago)"


class TakenError(RuntimeError):
    """Somebody else who is alive has it."""

    def __init__(self, owner: LaunchFacts):
        super().__init__(f"taken by {owner}")
        self.owner = owner


class Launch:
    """This process's presence in a store, for as long as the context lasts. Renewed by a thread.

    stop: set when somebody asked this launch to end, or when it lost `lease`, the claim on its sweep.
    news: called at each renewal for what others should see, e.g. how far the mirror is behind.
    """

    def __init__(self, files: Files, sweep: str, news: Callable[[], Mapping[str, Any]] = dict):
        self._files = files
        self._news = news
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="launch", daemon=True)
        pid, now = os.getpid(), time.time()
        self._facts = LaunchFacts(
            uuid.uuid4().hex, sweep, socket.gethostname(), _machine(), pid, _began(pid), now, now
        )  # fmt: skip
        self.lease: Claim | None = None
        self.stop = threading.Event()

    @property
    def id(self) -> str:
        return self._facts.id

    def __enter__(self) -> "Launch":
        self._publish()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(OSError):  # a store that is away learns of the end by the silence
            for name in (_file(self.id), _stop_file(self.id)):
                self._files.remove(name)

    def request_stop(self) -> None:
        """End this launch in good order, wherever its workers are. Raises OSError when they cannot be told."""
        self.stop.set()
        request_stop(self._files, self.id)

    def _publish(self) -> None:
        facts = {**asdict(self._facts), "heartbeat": time.time(), "news": dict(self._news())}
        self._files.publish(_file(self.id), json.dumps(facts).encode())

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED):
            # A full disk or a store that is away for a while: what cannot be said now is said later.
            try:
                self._publish()
                if is_stop_requested(self._files, self.id) or (self.lease is not None and not self.lease.holds()):
                    self.stop.set()
            except OSError:
                continue


@dataclass(frozen=True)
class Claim:
    """The right to write in a folder of the store, until a later claim is made. number: from 1."""

    files: Files
    number: int

    def holds(self) -> bool:
        return self.number == _newest(self.files)

    def give_up(self) -> None:
        """Let others have it although our launch lives on."""
        self.files.publish(_claim_file(self.number), b"{}")


def take(files: Files, launch: str, launches: Files) -> Claim:
    """Claim the thing whose claims are in `files`; of several that try, one has it. Our own launch's claim is replaced.

    Raises TakenError when another launch that is alive has it.
    """
    while True:
        newest = _newest(files)
        if newest:
            owner = owner_of(files, newest, launches)
            if owner is not None and owner.id != launch:
                raise TakenError(owner)
            if owner is None:
                _bury(launches, _launch_of(files, newest))
        mine = Claim(files, newest + 1)
        # Whoever was slow may make a number that was used and removed: then it is not the highest.
        if files.create(_claim_file(mine.number), json.dumps({"launch": launch}).encode()) and mine.holds():
            if newest:
                files.remove(_claim_file(newest))
            return mine


def owner_of(files: Files, number: int, launches: Files) -> LaunchFacts | None:
    """The living launch that has a claim; None when there is none, or when it was given up."""
    facts = find(launches, _launch_of(files, number))
    return facts if facts is not None and facts.is_alive else None


def _launch_of(files: Files, number: int) -> str:
    return str(_read(files, _claim_file(number)).get("launch", ""))


def _bury(launches: Files, id: str) -> None:
    """Remove what a launch that died without a word left."""
    if id.isalnum():
        for name in (_file(id), _stop_file(id)):
            launches.remove(name)


def holder(files: Files, launches: Files) -> LaunchFacts | None:
    """Who has the thing whose claims are in `files`, if anybody who is alive."""
    newest = _newest(files)
    return owner_of(files, newest, launches) if newest else None


def find(launches: Files, id: str) -> LaunchFacts | None:
    """What a launch said last; None when it has ended, or its file cannot be understood."""
    if not id.isalnum():
        return None
    try:
        return LaunchFacts(**_read(launches, _file(id)))
    except TypeError:
        return None


def request_stop(launches: Files, id: str) -> None:
    launches.publish(_stop_file(id), b"")


def is_stop_requested(launches: Files, id: str) -> bool:
    try:
        launches.read(_stop_file(id))
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True


@contextmanager
def watched_stop(launches: Files, id: str) -> Iterator[threading.Event]:
    """For a worker of a launch: an event that is set once that is asked to stop. Looked at now, then by a thread."""
    stop, ended = threading.Event(), threading.Event()
    if is_stop_requested(launches, id):
        stop.set()

    def watch() -> None:
        while not stop.is_set() and not ended.wait(WATCHED):
            try:
                if is_stop_requested(launches, id):
                    stop.set()
            except OSError:
                continue  # asked again in a moment

    thread = threading.Thread(target=watch, name="stop", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        ended.set()
        thread.join()


def _read(files: Files, name: str) -> dict[str, Any]:
    """A file of this module's own as plain values; nothing of one that is not there or damaged."""
    try:
        value = json.loads(files.read(name))
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _newest(files: Files) -> int:
    numbers = [name.removesuffix(".json") for name in files.names()]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _claim_file(number: int) -> str:
    return f"{number:08d}.json"


def _file(id: str) -> str:
    return f"{id}.json"


def _stop_file(id: str) -> str:
    return f"{id}.stop"


def _machine() -> str:
    """Where a process id means the same process: this boot of this host, and this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode()}"


def _began(pid: int) -> str:
    """When a process began, in the system's own unit, so that a number that is used again is told apart; '' if gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "alive"
