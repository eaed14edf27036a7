"""What a result has to say of where it came from: code, packages, machine."""

import functools
import platform
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("torch", "numpy", "safetensors", "pydantic", "ray", "mlflow", "optuna", "text-vae-sweep")
UNKNOWN = "unknown"


def environment(device: torch.device) -> dict[str, str]:
    """Facts of this process: host, processor or GPU with its driver, threads, Python, packages, commit of the code.

    commit: of the checkout that this package is in, `dirty` where files of it differ from that; `unknown` elsewhere.
    """
    commit, dirty = code()
    return {
        "host": socket.gethostname(),
        **(_gpu(device) if device.type == "cuda" else {"device": processor()}),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "system": platform.platform(),
        "commit": commit,
        "dirty": dirty,
        **{name: found for name in PACKAGES if (found := _version(name))},
    }


@functools.cache
def code() -> tuple[str, str]:
    """The commit that this package is checked out from, and whether it was changed since: `yes`, `no` or `unknown`."""
    here = Path(__file__).parents[1]
    if _git(here, "rev-parse", "--show-toplevel") != str(here.resolve()):
        return UNKNOWN, UNKNOWN
    changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    return _git(here, "rev-parse", "HEAD") or UNKNOWN, UNKNOWN if changed is None else ("yes" if changed else "no")


@functools.cache
def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu(device: torch.device) -> dict[str, str]:
    return {"device": torch.cuda.get_device_name(device), "cuda": str(torch.version.cuda), "driver": _driver()}


@functools.cache
def _driver() -> str:
    said = _run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return said.splitlines()[0] if said else UNKNOWN


def _git(folder: Path, *arguments: str) -> str | None:
    return _run("git", "-C", str(folder), *arguments)


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@functools.cache  # a distribution's whole description is parsed each time
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
