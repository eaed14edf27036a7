"""The sweep of all systems: its driver killed on the way, continued, evaluated, and every row in one table."""

import math
import os
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import pytest

from sweep.evaluation import Evaluation
from sweep.plan import evaluations_of
from sweep.record import SweepRecord
from sweep.store import TrialStore
from tests.faults.chaos import SWEEP, ended, kill, wait_for

NAME = "systems-demo"
SMALL = ["data.train=100", "data.valid=40", "data.test=40", "train.epochs=1", "seeds=1"]


def run(folder: Path, *overrides: str, draws: int) -> tuple[SweepRecord, Mapping[str, Evaluation], str]:
    """Killed with some trials done and others under way. What the sweep wanted, what was measured, what it printed."""
    environment = {**os.environ, "SWEEP_RESULTS": str(folder / "results"), "SWEEP_CORPORA": str(folder / "corpora")}
    store, output = TrialStore(folder / "results"), folder / "said.txt"

    def start(*words: str) -> "subprocess.Popen[bytes]":
        with output.open("wb") as file:
            return subprocess.Popen([str(SWEEP), *words], env=environment, stdout=file, stderr=file)

    def done() -> int:
        return sum(store.state(key) == "done" for key in store.files.names("trials"))

    with ended(start("run", NAME, *overrides)) as process:
        wait_for(lambda: done() >= 3, seconds=600)
        kill(process)
    record = store.recorded(NAME)
    assert done() < len(record.wanted), "it was faster"
    for words in (("run", NAME, *overrides), ("evaluate", NAME, "--iw", str(draws))):
        assert start(*words).wait(timeout=3600) == 0, output.read_text()
    return record, evaluations_of(record, store), output.read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_system_is_trained_and_weighed_and_stands_in_one_table(tmp_path: Path) -> None:
    record, found, printed = run(tmp_path, *SMALL, draws=20)
    assert set(found) == set(record.wanted)
    for trial in record.trials:
        test, has_latents = found[trial.key].test, "-LM" not in trial.labels["method"]
        assert all(math.isfinite(test[name]) for name in ("nelbo_strict", "iw_strict", "ppl_strict"))
        assert ("mi" in test) == has_latents
        # Within the noise of 40 sentences, with a draw of their own each.
        assert test["iw_strict"] <= test["nelbo_strict"] + 0.5
        assert not has_latents or test["kl"] >= 0.0
    rows = list(dict.fromkeys(trial.labels["method"] for trial in record.trials))
    assert len(rows) == 16
    lines = printed.splitlines()
    assert [next(line for line in lines if line.startswith(row)) for row in rows]
    assert len([line for line in lines if line.startswith("method")]) == 1


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_the_plain_vae_collapses_and_several_remedies_do_not(tmp_path: Path) -> None:
    record, found, printed = run(tmp_path, draws=500)
    print(printed)
    information: dict[tuple[str, str], list[float]] = defaultdict(list)
    for trial in record.trials:
        if "mi" in found[trial.key].test:
            information[trial.labels["method"], trial.labels["setting"]].append(found[trial.key].test["mi"])
    means = {cell: fmean(values) for cell, values in information.items()}
    for setting in ("Standard", "Inputless"):
        assert means["LSTM-VAE", setting] < 0.1
        assert sum(mean > 0.5 for (_, of), mean in means.items() if of == setting) >= 3
