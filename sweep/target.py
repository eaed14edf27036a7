"""Where a sweep can be sent to be run: one small class a kind of place, in a file of its own in `targets/`."""

import importlib
import pkgutil
import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from sweep import targets
from sweep.config import unknown
from sweep.document import folders

CLUSTER = "cluster"


@dataclass(frozen=True)
class Job:
    """What a cluster is to run. id: its name there, and its submission's in the store. command: words, not quoted."""

    id: str
    command: Sequence[str]


def new_id(sweep: str) -> str:
    """A name for a submission of a sweep, never used before: from a letter on, in lower case, as Kubernetes has it."""
    name = re.sub(r"[^a-z0-9]+", "-", sweep.lower())[:30].strip("-")
    return f"{'' if name[0].isalpha() else 'sweep-'}{name}-{uuid4().hex[:8]}"


class Target(ABC):
    """A kind of place. What there is to configure stands in its files of `conf/cluster/`, or in the environment."""

    @abstractmethod
    def shown(self, job: Job) -> str:
        """All that `send` sends, as text."""

    @abstractmethod
    def send(self, job: Job) -> str:
        """Have a job run; returns how the place calls it.

        Raises ValueError when the place is not safe, or does not take it.
        """

    @abstractmethod
    def is_over(self, handle: str) -> bool:
        """Whether a job, by what `send` returned, neither runs nor will. Raises OSError when that cannot be asked."""


def names() -> list[str]:
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(targets.__path__))


def target(name: str) -> Target:
    """The target of that name. Raises ValueError when there is none, naming those there are."""
    if name not in names():
        raise ValueError(unknown("target", name, names()))
    found: Target = importlib.import_module(f"{targets.__name__}.{name.replace('-', '_')}").Target()
    return found


def cluster_file(name: str) -> str:
    """The text of a file of `conf/cluster/`: the user's own in the working directory, else the one that ships."""
    for folder in folders(CLUSTER):
        file = folder.joinpath(*name.split("/"))
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise AssertionError(f"conf/{CLUSTER}/{name} ships")


def answer(*words: str, given: str = "") -> str:
    """Standard output of a program of the place's own, which is given a text on its standard input.

    Raises ValueError when it is not installed, OSError with what it said when it fails.
    """
    try:
        done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ValueError(f"{words[0]} is not installed here; submit from a machine that has it") from None
    if done.returncode:
        raise OSError(f"{words[0]}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
    return done.stdout
