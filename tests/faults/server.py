"""MLflow's server as `conf/cluster/mlflow` has it, on a PostgreSQL of its own; both can be killed and come back."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.contracts.test_extension import ROOT
from tests.faults.chaos import wait_for

SERVE = ROOT / "conf" / "cluster" / "mlflow" / "serve.sh"
HOST = "127.0.0.1"


def what_is_missing() -> str:
    """Of what the server needs and a machine may not have; '' if nothing."""
    packages = [name for name in ("psycopg", "flask_wtf") if find_spec(name) is None]
    return ", ".join(packages + ([] if _binaries() else ["PostgreSQL"]))


def _binaries() -> Path | None:
    """The folder of PostgreSQL's programs, which Debian keeps off the PATH."""
    for folder in (*os.environ["PATH"].split(":"), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))):
        if (Path(folder) / "initdb").exists() and (Path(folder) / "postgres").exists():
            return Path(folder)
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@dataclass
class Service:
    """A process with children, in a group of its own."""

    output: Path
    process: "subprocess.Popen[bytes] | None" = None

    def launch(self, command: Sequence[str | Path], **options: Any) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **options)

    def kill(self) -> None:
        """The whole group at once."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@dataclass
class Postgres(Service):
    """A database server in a folder of its own, with a password, at a port of the loopback."""

    folder: Path = Path()
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))

    def make(self) -> None:
        (self.folder / "password").write_text(self.password)
        for path in (self.folder, self.folder / "password"):
            os.chown(path, self._user.get("user", -1), self._user.get("group", -1))
        where = [self._program("initdb"), "--pgdata", self.folder / "data", "--pwfile", self.folder / "password"]
        options = ["--username=mlflow", "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run(
            [*where, *options], check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._user
        )  # fmt: skip
        (self.folder / "password").unlink()
        self.start()
        with self.connected("postgres") as database:
            database.execute("CREATE DATABASE mlflow")

    def start(self) -> None:
        """As often as it takes: processes that a killed one left have a moment to live, in which there is no other."""
        settings = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": ""}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [self._program("postgres"), "-D", self.folder / "data", *options]

        def answers() -> bool:
            if self.process is None or self.process.poll() is not None:
                self.launch(command, cwd=self.folder, **self._user)
            return self._answers()

        wait_for(answers, every=0.2)

    def stop(self) -> None:
        """In good order, so that nothing of it lives on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=60)

    @contextmanager
    def connected(self, name: str = "mlflow") -> Iterator[Any]:
        import psycopg

        with psycopg.connect(
            host=HOST, port=self.port, user="mlflow", password=self.password, dbname=name, autocommit=True
        ) as connection:
            yield connection

    def all_of(self, query: str) -> list[tuple[Any, ...]]:
        with self.connected() as database:
            return list(database.execute(query).fetchall())

    def _answers(self) -> bool:
        import psycopg

        with suppress(psycopg.OperationalError), self.connected("postgres"):
            return True
        return False

    @property
    def _user(self) -> dict[str, Any]:
        """PostgreSQL does not run as root."""
        nobody = pwd.getpwnam("nobody")
        return {} if os.geteuid() else {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def _program(self, name: str) -> Path:
        folder = _binaries()
        assert folder is not None
        return folder / name


@dataclass
class Server(Service):
    """The server of `serve.sh`. folder: for its artifacts and its ini file."""

    folder: Path = Path()
    database: Postgres = field(default_factory=lambda: Postgres(Path()))
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def uri(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        own = {
            "POSTGRES_HOST": HOST,
            "POSTGRES_PORT": str(self.database.port),
            "POSTGRES_PASSWORD": self.database.password,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "k" * 64,
            "ALLOWED_HOSTS": f"{HOST},{HOST}:{self.port}",
            "HOST": HOST,
            "PORT": str(self.port),
            "ARTIFACTS": str(self.folder / "artifacts"),
            "TMPDIR": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self.launch(["/bin/sh", SERVE], env={**os.environ, **own}, cwd=self.folder)

    def wait(self) -> None:
        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.output.read_text()
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return True
            return False

        wait_for(answers)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server and its database, new and with nothing in them, while the context lasts."""
    with ExitStack() as ends:
        # Folders of pytest are its user's alone.
        place = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
        ends.callback(shutil.rmtree, place)
        database = Postgres(folder / "postgres.txt", folder=place)
        ends.callback(database.stop)
        database.make()
        server = Server(folder / "mlflow.txt", folder=folder, database=database)
        ends.callback(server.kill)
        server.start()
        server.wait()
        yield server
