"""What is shown while a sweep runs: on a terminal, in a log, and at the first failure."""

import io
import re
import threading

import pytest
from rich.console import Console

from sweep.progress import Progress, Tally, duration, of_training
from sweep.record import EpochRecord, TrialFailure, TrialResult, WantedTrial

TRIALS = [WantedTrial(f"key{n}", {"method": f"m{n}"}, 0, {"train": {"epochs": 4}}) for n in range(4)]
COSTS = {"key0": 4.0, "key1": 2.0, "key2": 1.0, "key3": 1.0}
VALID = {"nelbo_paper": 20.5, "ppl_paper": 7.25}


def record(epoch: int) -> EpochRecord:
    return EpochRecord(epoch, 1000.0, 1.0, 1.0, 1.0, VALID, VALID, True)


def result(key: str) -> TrialResult:
    history = tuple(record(epoch) for epoch in range(1, 5))
    return TrialResult(
        1, key, {}, {}, 7, 1, 4, 1.0, VALID, VALID, history, {"seconds": 65.0}, {}, started=0.0, finished=1.0
    )  # fmt: skip


def shown(is_terminal: bool) -> str:
    """What a launch of four trials prints, in which one fails and one is still running at the end."""
    out = io.StringIO()
    with Progress(TRIALS, COSTS, Console(file=out, force_terminal=is_terminal, width=100), of_training) as progress:
        for trial in TRIALS[:3]:
            progress.started(trial)
        progress.epoch(TRIALS[0], record(1))
        progress.finished(TRIALS[1], result("key1"))
        progress.failed(TRIALS[2], TrialFailure("key2", "error", "it broke", "trace", 1, "here", 1000.0))
        view = Console(file=io.StringIO(), width=100)
        view.print(progress._view())
        assert isinstance(view.file, io.StringIO)
        lines = view.file.getvalue().splitlines()
        assert lines[0].startswith("1/4 done  1 failed  1 running  1 to go  ETA ")
        assert set(lines[1].strip()) <= set("━╸╺")
        assert re.match(r"running +epoch +valid nats +ppl", lines[2])
        assert re.match(r"m0 / seed 0 +1/4 +20\.50 +7\.2", lines[3])
    return out.getvalue()


def test_a_log_has_a_line_a_trial() -> None:
    lines = shown(is_terminal=False).splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"\d\d:\d\d:\d\d  m1 / seed 0: valid 20\.50 nats in 4 epochs, 1m05s  \[1/4 done .*\]", lines[0])
    assert "FAILED m2 / seed 0 (error): it broke; see trials/key2/failure.json" in lines[1]


def test_a_terminal_shows_failures_at_once() -> None:
    printed = shown(is_terminal=True)
    assert "FAILED m2 / seed 0 (error): it broke" in printed
    assert "in 4 epochs" not in printed


def test_the_time_left_follows_from_the_work_left() -> None:
    tally = Tally(TRIALS, COSTS)
    assert tally.eta() is None
    tally.began -= 30.0
    tally.end("key1", tally.done)
    eta = tally.eta()
    assert eta == pytest.approx(90.0, rel=0.1)


def test_a_trial_whose_worker_is_gone_waits_again() -> None:
    with Progress(TRIALS, COSTS, Console(file=io.StringIO(), width=100), of_training) as progress:
        progress.started(TRIALS[0])
        progress.epoch(TRIALS[0], record(1))
        progress.returned(TRIALS[0])
        assert str(progress._tally).startswith("0/4 done  0 running  4 to go")


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.4, 60, 3599, 3600, 7261)] == [
        "0s", "59s", "1m00s", "59m59s", "1h00m", "2h01m",
    ]  # fmt: skip


def test_many_failures_under_a_fast_live_view_come_to_an_end() -> None:
    """Printing and drawing take two locks, each from its own thread: never one while holding the other."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Progress(TRIALS, COSTS, console, of_training) as progress:
        progress._live.auto_refresh = False
        over = threading.Event()

        def draw() -> None:
            # A pause, since a lock that is asked for again at once is never had by the other thread.
            while not over.wait(1e-4):
                progress._live.refresh()

        thread = threading.Thread(target=draw, daemon=True)
        thread.start()
        try:
            for _ in range(300):
                progress.failed(TRIALS[2], TrialFailure("key2", "error", "it broke", "trace", 1, "here", 1000.0))
        finally:
            over.set()
        thread.join(timeout=20)
        assert not thread.is_alive()
