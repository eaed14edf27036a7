"""Processes that do one kind of work again and again, a line in for a line out, so that several can take turns.

Lines in: the name of a task. Lines out: its answer as JSON, or what it failed of.
"""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from model import host


class TaskFailedError(ValueError):
    """A task ended with an error that its process expected; here is its sentence."""


class Worker:
    """A process that serves tasks."""

    def __init__(self, process: "subprocess.Popen[str]"):
        self._process = process

    def start(self, task: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(task + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Raises TaskFailedError, and ChildProcessError when there will be none."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError("a process of the benchmark ended before its answer, for the reason above if any")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise TaskFailedError(answer["failed"])
        return answer

    def ask(self, task: str) -> dict[str, Any]:
        self.start(task)
        return self.answer()

    def speed(self, task: str) -> float:
        """Amount of work per CPU-second."""
        done = self.ask(task)
        return float(done["amount"] / done["cpu"])


@contextmanager
def worker(module: str, *options: str) -> Iterator[Worker]:
    command = [sys.executable, "-m", module, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Worker(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def serve(tasks: Mapping[str, Callable[[], Mapping[str, Any]]], expected: tuple[type[Exception], ...] = ()) -> None:
    """Do what standard input asks for until it ends. expected: errors that are an answer, and not the end."""
    for line in sys.stdin:
        try:
            answer = tasks[line.strip()]()
        except expected as error:
            answer = {"failed": str(error)}
        print(json.dumps(answer), flush=True)


def timed(work: Callable[[], float]) -> dict[str, float]:
    """The amount of work that was done, and its CPU seconds, of all threads, and wall-clock seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    amount = work()
    return {"amount": amount, "cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def peak() -> dict[str, float]:
    """Resident memory of this process at its highest so far, MiB."""
    return {"peak_mib": host.peak_memory() / 2**20}


def machine() -> dict[str, str]:
    run = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "commit": run.stdout.strip() or "unknown",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "bf16": str(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
