"""A webhook as an observer of a launch: it takes notes, and one thread posts them. It never blocks and never raises."""

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat

from sweep.record import EpochRecord, TrialFailure, WantedTrial

ANSWER_SECONDS = 10.0
TRIES, PAUSE = 2, 3.0
"""Of one message, and seconds between them."""
_Message = Mapping[str, object]


class NotifySettings(BaseModel):
    """webhook: name of the environment variable with the address, which is a secret. failures: how many are told.

    stalled_minutes: without an epoch or an end of any trial, after which that is told, once until there is one again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    webhook: str = Field("SWEEP_WEBHOOK", pattern=r"^[A-Z][A-Z0-9_]*$", max_length=100)
    failures: NonNegativeInt = 3
    stalled_minutes: PositiveFloat = 60.0


@contextmanager
def notified(settings: NotifySettings | None, sweep: str, tell: Callable[[str], None]) -> Iterator["Notifier | None"]:
    """A notifier of a launch while it lasts, where the spec or the environment asks for one; then whatever could not
    be posted is told.

    Raises ValueError, which does not show the address, when there is none although the spec asks, or it is none.
    """
    url = _webhook(settings, os.environ)
    if url is None:
        yield None
        return
    notifier = Notifier(url, sweep, settings or NotifySettings())
    try:
        yield notifier
    finally:
        if problem := notifier.close():
            tell(problem)


def _webhook(settings: NotifySettings | None, environment: Mapping[str, str]) -> str | None:
    name = (settings or NotifySettings()).webhook
    url = environment.get(name, "")
    if not url:
        if settings is None:
            return None
        raise ValueError(f"notify.webhook: the environment has no {name}; export it there, or leave notify out")
    if not _is_address(url):
        raise ValueError(f"{name} must hold an http:// or https:// address; what it holds is none, so correct it")
    return url


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and url.isascii() and " " not in url


class Notifier:
    """An observer of a launch, from its making to `close`. It posts one JSON object a message, with

    event: `failed`, for the first of them, `stalled` or `finished`. sweep: its name. text: a sentence for people;
    and for a failure its trial, key, kind and message, for the end the exit code.
    """

    def __init__(self, url: str, sweep: str, settings: NotifySettings):
        self._url = url
        self._sweep = sweep
        self._settings = settings
        # What is to be posted, or None: a trial has got on.
        self._events: SimpleQueue[_Message | None] = SimpleQueue()
        self._num_failures = 0
        self._problem = ""
        self._closing = threading.Event()
        # Whatever the interpreter's end finds unsent is not worth a wait.
        self._sender = threading.Thread(target=self._work, name="notify", daemon=True)
        self._sender.start()

    def started(self, trial: WantedTrial) -> None:
        """That it was handed out does not say that anything moves."""

    def epoch(self, trial: WantedTrial, record: EpochRecord) -> None:
        self._events.put(None)

    def finished(self, trial: WantedTrial, result: object) -> None:
        self._events.put(None)

    def failed(self, trial: WantedTrial, failure: TrialFailure) -> None:
        self._num_failures += 1
        if self._num_failures > self._settings.failures:
            self._events.put(None)
            return
        last = "; further ones are not told" if self._num_failures == self._settings.failures else ""
        text = f"{trial.name} failed: {failure.kind}: {failure.message}{last}"
        facts = {"trial": trial.name, "key": trial.key, "kind": failure.kind, "message": failure.message}
        self._events.put(self._message("failed", text, **facts))

    def returned(self, trial: WantedTrial) -> None:
        """What it came to follows."""

    def pruned(self, trial: WantedTrial) -> None:
        self._events.put(None)

    def said(self, sentence: str) -> None:
        """For whoever sits before it."""

    def ended(self, exit_code: int, text: str) -> None:
        """The sweep has come to its end."""
        self._events.put(self._message("finished", text, exit_code=exit_code))

    def close(self) -> str | None:
        """Post what is left. One sentence of warning when something could not be told."""
        self._closing.set()
        self._sender.join(TRIES * (ANSWER_SECONDS + PAUSE))
        if self._sender.is_alive():
            self._problem = self._problem or f"no answer within {ANSWER_SECONDS:g} s"
        if not self._problem:
            return None
        return f"the webhook of {self._settings.webhook} could not be told everything ({self._problem})"

    def _message(self, event: str, text: str, **facts: object) -> _Message:
        return {"event": event, "sweep": self._sweep, "text": f"sweep '{self._sweep}': {text}", **facts}

    def _work(self) -> None:
        patience = 60.0 * self._settings.stalled_minutes
        since, is_told = time.monotonic(), False
        while not (self._closing.is_set() and self._events.empty()):
            try:
                message = self._events.get(timeout=0.2)
            except Empty:
                if not is_told and time.monotonic() - since > patience:
                    is_told = True
                    text = f"no trial has come any further for {self._settings.stalled_minutes:g} minutes"
                    self._post(self._message("stalled", text))
                continue
            since, is_told = time.monotonic(), False
            if message is not None:
                self._post(message)

    def _post(self, message: _Message) -> None:
        for left in reversed(range(TRIES)):
            problem = post(self._url, message)
            if not problem:
                return
            if left:
                time.sleep(PAUSE)
        self._problem = self._problem or problem


def post(url: str, message: _Message) -> str:
    """Post a JSON object; what went wrong, without the address, or '' when it was taken."""
    request = urllib.request.Request(
        url, json.dumps(message).encode(), {"Content-Type": "application/json", "User-Agent": "text-vae-sweep"}
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return f"HTTP status {error.code}"
    except urllib.error.URLError as error:
        return error.reason.strerror or "no answer" if isinstance(error.reason, OSError) else "no connection"
    except (OSError, http.client.HTTPException, ValueError) as error:  # the last of a redirect to no address
        return type(error).__name__
