"""How many tokens a second a device trains on: one trial, several side by side in a process, or a process for each.

`python -m tests.bench.gpu_speed` is one of those processes: what to train as a line of its input; it says when it is
warm, begins at the next line, and says what it did.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from data.batch import excerpt
from data.cache import load
from data.corpus import Corpus
from model import host
from model.repeated import Repeated
from model.steps import OneByOne
from model.train import syllabus_of
from sweep.config import TrialConfig
from sweep.trial import prepare

How = Literal["eager", "graphed"]
BATCHES = 160
"""Of an epoch, evenly over the text's: enough for its mean length, and all steps are soon warm."""


@dataclass
class Stretch:
    """Of one trial: its steps and tokens between two moments."""

    steps: int = 0
    tokens: int = 0


@dataclass
class Measured:
    """All of a process. bytes: that PyTorch has reserved on the GPU at the most."""

    seconds: float
    stretches: list[Stretch] = field(default_factory=list)
    bytes: int = 0

    @property
    def tokens_per_second(self) -> float:
        return sum(each.tokens for each in self.stretches) / self.seconds

    @property
    def steps_per_second(self) -> float:
        return sum(each.steps for each in self.stretches) / self.seconds


def some_of(corpus: Corpus, config: TrialConfig) -> Corpus:
    """What is trained on here."""
    train = excerpt(corpus.splits["train"], config.train.batch_size, BATCHES)
    return replace(corpus, splits={**corpus.splits, "train": train})


def measure(
    config: TrialConfig,
    corpus: Corpus,
    device: str,
    how: How,
    trials: int,
    seconds: float,
    begin: Callable[[], object] = lambda: None,
) -> Measured:
    """Trials that differ in their seeds, each in a thread and on a stream of its own, once all are warm.

    begin: called when they are, before the first begins. Raises whatever one of them raises, such as
    torch.OutOfMemoryError.
    """
    host.set_up(1)
    if device == "cuda":
        host.empty_gpu_memory()
        torch.cuda.reset_peak_memory_stats()
    stretches, errors = [Stretch() for _ in range(trials)], list[BaseException]()
    ready, ends = threading.Barrier(trials + 1, begin), threading.Event()

    def train(seed: int) -> None:
        try:
            with host.own_stream(device):
                _train(config.with_seed(seed), corpus, device, how, ready, ends, stretches[seed])
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=train, args=(seed,), daemon=True) for seed in range(trials)]
    for thread in threads:
        thread.start()
    try:
        ready.wait()
        began = time.perf_counter()
        time.sleep(seconds)
    except threading.BrokenBarrierError:
        began = 0.0
    ends.set()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    found = Measured(time.perf_counter() - began, stretches)
    found.bytes = torch.cuda.max_memory_reserved() if device == "cuda" else 0
    return found


def measure_processes(
    config: TrialConfig, corpora: Path, device: str, how: How, trials: int, seconds: float
) -> Measured:
    """The same, each in a process of its own; all begin once the last is warm. Raises RuntimeError where one fails."""
    with ExitStack() as stack:
        command = [sys.executable, "-m", "tests.bench.gpu_speed"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(trials)]
        for process in processes:
            stack.callback(process.kill)

        def each(line: str) -> list[str]:
            """What each answers to a line that all are told first."""
            for process in processes:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            return [process.stdout.readline() for process in processes]

        given = {"config": config.document(), "corpora": str(corpora), "device": device, "how": how}
        are_warm = all(each(json.dumps({**given, "seconds": seconds})))
        answers = each("begin") if are_warm else []
    if not answers or not all(answers):
        raise RuntimeError("a process failed, as it says above")
    found = [Measured(**json.loads(answer)) for answer in answers]
    stretches = [Stretch(**each) for process in found for each in process.stretches]
    return Measured(max(each.seconds for each in found), stretches, sum(each.bytes for each in found))


def _one_of_many() -> None:
    given = json.loads(sys.stdin.readline())
    config = TrialConfig.parse(given["config"])
    corpus = some_of(load(config.data, Path(given["corpora"])), config)

    def begin() -> None:
        print("warm", flush=True)
        sys.stdin.readline()

    print(json.dumps(asdict(measure(config, corpus, given["device"], given["how"], 1, given["seconds"], begin))))


def _train(
    config: TrialConfig,
    corpus: Corpus,
    device: str,
    how: How,
    ready: threading.Barrier,
    ends: threading.Event,
    stretch: Stretch,
) -> None:
    training = prepare(config, corpus, device)
    syllabus = syllabus_of(corpus, config.schedule, config.objective, config.train, config.seed)
    steps = (Repeated if how == "graphed" else OneByOne)(training.model, training.update, syllabus)
    training.model.train()
    for epoch in range(1, steps.ready_after + 1):
        for _ in steps.take(epoch, None):
            pass
    _wait(device)
    ready.wait()
    for epoch in range(steps.ready_after + 1, 10**6):
        tokens = [int(syllabus.split.lengths[group].sum()) for group in syllabus.groups(epoch)]
        for number in steps.take(epoch, None):
            stretch.steps, stretch.tokens = stretch.steps + 1, stretch.tokens + tokens[number - 1]
            if ends.is_set():
                _wait(device)
                return


def _wait(device: str) -> None:
    """Until what this thread has given the GPU to do is done; what others have is theirs."""
    if device == "cuda":
        torch.cuda.current_stream().synchronize()


def ceiling(device: str, precision: str, size: int = 4096) -> float:
    """Multiplications a second of products of square matrices, the most that the device does of them."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    host.multiply_on_gpu_in("tf32" if precision == "tf32" else "ieee")
    left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    best = 0.0
    for _ in range(5):
        _wait(device)
        began = time.perf_counter()
        for _ in range(4):
            left @ right
        _wait(device)
        best = max(best, 4 * size**3 / (time.perf_counter() - began))
    host.multiply_on_gpu_in("ieee")
    return best


def facts(device: str) -> dict[str, Any]:
    if device != "cuda":
        return {"device": "cpu", "torch": torch.__version__}
    found = torch.cuda.get_device_properties(0)
    return {
        "device": found.name,
        "memory": found.total_memory,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


if __name__ == "__main__":
    _one_of_many()
