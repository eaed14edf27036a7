"""A Ray cluster that is up, by its jobs API at RAY_API_SERVER_ADDRESS; http://127.0.0.1:8265 by default."""

import json
import os
import shlex
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sweep import target
from sweep.ray_token import TURN_ON, is_loopback, token
from sweep.target import Job

ANSWER_SECONDS = 30.0
OK, NOT_FOUND = 200, 404
# Past any proxy of the environment, which would read the token.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
OVER = {"STOPPED", "SUCCEEDED", "FAILED"}


class Target(target.Target):
    def shown(self, job: Job) -> str:
        return f"POST {_address()}/api/jobs/\n{json.dumps(_request(job), indent=1)}"

    def send(self, job: Job) -> str:
        address = _address()
        try:
            if _ask(f"{address}/api/version", {})[0] == OK:
                raise ValueError(
                    f"the Ray cluster at {address} runs what anybody sends; to turn its token on, {TURN_ON}"
                )
            status, _ = _ask(f"{address}/api/jobs/", _bearer(), json.dumps(_request(job)).encode())
        except OSError as error:
            raise ValueError(
                f"Ray's jobs API at {address} cannot be reached ({_reason(error)}); check RAY_API_SERVER_ADDRESS, and "
                f"the tunnel that leads there"
            ) from None
        if status != OK:
            raise ValueError(
                f"Ray's jobs API at {address} refuses the job (HTTP status {status}); check that the token here is the "
                f"cluster's"
            )
        return job.id

    def is_over(self, handle: str) -> bool:
        status, content = _ask(f"{_address()}/api/jobs/{handle}", _bearer())
        if status == NOT_FOUND:  # a cluster that was started anew knows of no earlier job
            return True
        if status != OK:
            raise OSError(f"Ray's jobs API answers with HTTP status {status}")
        return json.loads(content)["status"] in OVER


def _address() -> str:
    """Raises ValueError when the token would travel there for everybody to read."""
    address = os.environ.get("RAY_API_SERVER_ADDRESS") or "http://127.0.0.1:8265"
    parts = urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return address.rstrip("/")
    raise ValueError(
        f"RAY_API_SERVER_ADDRESS {address!r} would have the token sent in the clear; make a tunnel, such as "
        f"'ssh -L 8265:127.0.0.1:8265 HEAD' or 'kubectl port-forward', and give http://127.0.0.1:8265"
    )


def _reason(error: OSError) -> str:
    """Without urllib's brackets around it."""
    return str(error.reason) if isinstance(error, urllib.error.URLError) else str(error)


def _request(job: Job) -> Mapping[str, Any]:
    return {"submission_id": job.id, "entrypoint": shlex.join(job.command)}


def _bearer() -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token()}"}


def _ask(url: str, headers: Mapping[str, str], content: bytes | None = None) -> tuple[int, bytes]:
    """HTTP status and content of an answer. Raises OSError when there is none."""
    request = urllib.request.Request(url, content, {**headers, "Content-Type": "application/json"})
    try:
        with _DIRECT.open(request, timeout=ANSWER_SECONDS) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
