"""A server of S3 on loopback: moto's, in a process of its own, with a log of its requests and a few bad habits.

Its buckets' names say which: `denied-…` refuses everything, `careless-…` ignores If-None-Match, `busy-…` answers the
first conditional put with a conflict, `broken-…` breaks off while it sends a file for the first time.
"""

import json
import os
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import pytest

MISSING = [name for name in ("s3fs", "moto", "flask", "flask_cors") if find_spec(name) is None]

PAGE = 10
"""Names in an answer of the server; 1000 of S3's own."""


@dataclass
class Server:
    process: subprocess.Popen[str] = field(repr=False)
    endpoint: str
    page: int = PAGE

    def new_bucket(self, habit: str = "good") -> str:
        """A URI."""
        bucket = f"{habit}-{uuid.uuid4().hex}"
        self._ask("PUT", f"/{bucket}")
        return f"s3://{bucket}"

    def requests(self) -> list[str]:
        """Since the last call, each as e.g. `GET /bucket/key?query`."""
        requests: list[str] = json.loads(self._ask("GET", "/_log"))
        return requests

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _ask(self, method: str, path: str) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(self.endpoint + path, method=method)) as answer:
            content: bytes = answer.read()
        return content


def start() -> Server:
    environment = os.environ | {"MOTO_S3_DEFAULT_MAX_KEYS": str(PAGE)}
    process = subprocess.Popen(
        [sys.executable, __file__], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert process.stdout is not None
    return Server(process, f"http://127.0.0.1:{int(process.stdout.readline())}")


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    """A server, and the environment in which it is found."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)} (pip install 'text-vae-sweep[dev]')")
    server = start()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield server
    server.stop()


@pytest.fixture
def new_server(s3: Server) -> Iterator[Callable[[], Server]]:
    """Starts servers that a test may stop."""
    servers: list[Server] = []

    def begin() -> Server:
        servers.append(start())
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


def serve() -> None:
    """Print the port, then serve until killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    moto: Any = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()  # moto looks whether a key is there, then puts: not S3's promise
    log: list[str] = []
    done: set[str] = set()

    def fault(status: str, code: str, start_response: Any) -> Iterable[bytes]:
        start_response(status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()]

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        uri, method = environ["RAW_URI"], environ["REQUEST_METHOD"]
        if uri == "/_log":
            content = json.dumps(log).encode()
            log.clear()
            start_response("200 OK", [("Content-Length", str(len(content)))])
            return [content]
        log.append(f"{method} {uri}")
        habit, is_file = uri[1:].partition("-")[0], "/" in uri[1:].partition("?")[0]
        if habit == "denied" and is_file | (method != "PUT"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return fault("403 Forbidden", "AccessDenied", start_response)
        if habit == "careless":
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if habit == "busy" and "HTTP_IF_NONE_MATCH" in environ and uri not in done:
            done.add(uri)
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return fault("409 Conflict", "ConditionalRequestConflict", start_response)
        if habit == "broken" and method == "GET" and is_file and uri not in done:
            done.add(uri)
            start_response("200 OK", [("Content-Length", "1000"), ("Connection", "close")])
            return [b"half"]
        answered: Iterable[bytes] = moto(environ, start_response)
        return answered

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with one_at_a_time:
            return list(answer(environ, start_response))

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve()
