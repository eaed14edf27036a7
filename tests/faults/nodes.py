"""The cluster of `cluster.py` as a test has it: started and ended, and told which nodes join and die."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.faults.chaos import ended, workers_with

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


class Nodes:
    """address: of the head, which trains nothing."""

    def __init__(self, program: "subprocess.Popen[str]"):
        assert program.stdin is not None
        assert program.stdout is not None
        self._input, self._output = program.stdin, program.stdout
        self.address = self._output.readline().strip()

    def tell(self, word: str) -> None:
        """`add` or `lose`; returns when it is done."""
        self._input.write(f"{word}\n")
        self._input.flush()
        assert self._output.readline() == f"{word}\n", "the cluster has ended"

    def workers(self) -> list[int]:
        """Processes that train a trial on one of them now."""
        return workers_with("RAY_AUTH_TOKEN", TOKEN["RAY_AUTH_TOKEN"])


def without_folders(*folders: Path) -> list[str]:
    """What starts a program that finds nothing in these folders, as on another machine; [] without the right to it."""
    mount = 'for each; do [ "$each" = -- ] && break; mount -t tmpfs none "$each" || exit; shift; done; shift; exec "$@"'
    start = ["unshare", "--mount", "sh", "-c", mount, "sh", *map(str, folders), "--"]
    return [] if subprocess.run([*start, "true"], capture_output=True, check=False).returncode else start


@contextmanager
def cluster_of(
    trainers: int, mode: str = "token", before: Sequence[str] = (), last: Sequence[str] = ()
) -> Iterator[Nodes]:
    """A head, and so many nodes that train. before: what they are started by. last: the last one's environment."""
    program = subprocess.Popen(
        [*before, sys.executable, str(Path(__file__).with_name("cluster.py")), str(trainers), *last],
        env={**os.environ, **TOKEN, "RAY_AUTH_MODE": mode},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with ended(program):
        yield Nodes(program)
        program.communicate(timeout=60)
