"""The benchmarks run, and their files can be gone on from; what they measure is for people to read."""

import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from sweep.config import TrialConfig
from sweep.plan import make_plan
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from tests.bench.bench_gpu import cells_of, estimate, side_by_side, write_words_at_random
from tests.bench.gpu_arithmetic import GPUS, step_of
from tests.bench.slots import Slept, measured
from tests.faults.chaos import SMALL

ROOT = Path(__file__).parents[1]
SPEC = """
name: three
base:
  data: {kind: lines, name: tiny}
  model: {embedding_dim: 4, hidden_dim: 5}
  train: {epochs: 3, batch_size: 4}
axes:
  method:
    LSTM-LM: {model: lstm_lm, schedule: constant}
    LSTM-VAE: {model: {kind: lstm_vae, latent_dim: 2}}
    SA-VAE: {model: {kind: sa_vae, latent_dim: 2, svi_steps: 2}}
"""


def run(module: str, *arguments: str, timeout: float = 110) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_it_measures_and_compares(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    few = ["--sizes", "tiny", "--systems", "LSTM-VAE", "--tasks", "weigh", "--rounds", "1"]
    printed = run("tests.bench", *few, "--json", str(file))
    measured = json.loads(file.read_text())
    assert [row["task"] for row in measured["rows"]] == ["weigh"]
    for row in measured["rows"]:
        assert row["ours"] > 0
        assert row["ours_by_plain"] == pytest.approx(row["ours"] / row["plain"])
        assert 0 < row["ours_by_floor"] < 1
        assert row["peak_mib"] > 50
    assert "tiny, LSTM-VAE, IW" in printed
    compared = run("tests.bench", "--compare", str(file), str(file)).splitlines()
    assert len(compared) == 1 + len(measured["rows"])


@pytest.mark.slow
def test_systems_are_compared_on_the_same_tokens(tmp_path: Path, lines_corpus: Path) -> None:
    spec, file = tmp_path / "three.yaml", tmp_path / "systems.json"
    spec.write_text(SPEC)
    asked = [str(spec), "--tokens", "60", "--valid", "2", "--corpora", str(lines_corpus), "--json", str(file)]
    printed = run("tests.bench.systems", *asked)
    measured = json.loads(file.read_text())
    first, *others = measured["rows"]
    assert [row["system"] for row in measured["rows"]] == ["LSTM-LM", "LSTM-VAE", "SA-VAE"]
    assert {row["tokens"] for row in measured["rows"]} == {measured["budget"]["tokens"]}
    assert 60 <= measured["budget"]["tokens"] < 60 + 4 * 5
    for row in measured["rows"]:
        assert all(0 < row[name] < math.inf for name in ("nll", "nelbo_paper", "speed", "peak_mib", "cost"))
    assert all(math.isfinite(row[name]) for row in others for name in ("kl", "mi"))
    assert not {"kl", "mi"} & {*first}

    file.write_text(json.dumps({**measured, "rows": [first]}))
    continued = run("tests.bench.systems", *asked)
    again = json.loads(file.read_text())
    assert again["rows"][0] == first
    assert [row["nll"] for row in again["rows"]] == [row["nll"] for row in measured["rows"]]
    assert continued.splitlines()[:-2] == printed.splitlines()[:-2]
    assert run("tests.bench.systems", "--reads", str(file)) == continued


@pytest.mark.slow
def test_threads_are_compared(tmp_path: Path, lines_corpus: Path) -> None:
    spec, file = tmp_path / "three.yaml", tmp_path / "threads.json"
    spec.write_text(SPEC)
    few = ["--tokens", "20", "--rounds", "1", "--cores", "2", "--methods", "LSTM-LM"]
    printed = run("tests.bench.threads", str(spec), *few, "--corpora", str(lines_corpus), "--json", str(file))
    (row,) = json.loads(file.read_text())["rows"]
    assert row["ratio"] == pytest.approx(row["ones"] / row["many"])
    assert printed.splitlines()[-1].split() == [
        "LSTM-LM",
        *(f"{row[n]:.0f}" for n in ("ones", "many")),
        f"{row['ratio']:.2f}",
    ]


def test_slots_are_busy_for_the_trials_share_of_the_makespan() -> None:
    """Two slots for ten seconds, of which trials take fifteen; the launch was a second before the first."""
    times = {"a": [(1.0, 5.0), (5.5, 8.5)], "b": [(9.0, 11.0), (1.0, 6.0), (6.1, 7.1)]}
    slept = [Slept(process, *each) for process, own in times.items() for each in own]
    found = measured(slept, slots=2, launched=0.0)
    assert (found["trials"], found["workers"], found["makespan"]) == (5, 2, 10.0)
    assert found["efficiency"] == pytest.approx(15 / 20)
    assert found["efficiency_from_launch"] == pytest.approx(15 / 22, abs=1e-4)
    assert (found["overhead_median"], found["overhead_largest"]) == (0.5, 1.9)


@pytest.mark.slow
def test_a_launch_is_measured() -> None:
    few = ["--trials", "6", "--slots", "2", "--shortest", "0.1", "--longest", "0.5", "--without-tune"]
    found = json.loads(run("tests.bench.scheduling", *few))["ours"]
    assert found["trials"] == 6
    assert 1 <= found["workers"] <= 3
    assert 0 < found["efficiency_from_launch"] < found["efficiency"] <= 1
    assert 0 < found["overhead_median"] <= found["overhead_largest"]


@pytest.mark.slow
@pytest.mark.timeout(310)
def test_the_steps_of_a_growing_sweep_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "scale.json"
    steps = ["plan", "train", "table", "mirror", "missing"]
    few = ["--trials", "20", "--seeds", "2", "--run", "3", "--only", *steps]
    printed = run("tests.bench.scale", *few, "--json", str(file), timeout=300)
    rows = json.loads(file.read_text())["rows"]
    assert [row["step"] for row in rows] == steps
    assert all(row["of"] == 20 and row["seconds"] > 0 and row["bytes"] > 2**26 for row in rows)
    assert next(row["trials"] for row in rows if row["step"] == "train") == 3
    assert "3 of 20 trained" in printed


BARE = """
import runpy, sys
for name in ("ray", "optuna", "mlflow", "typer", "rich", "fsspec", "scipy", "matplotlib"):
    sys.modules[name] = None
sys.argv[1:] = {arguments}
runpy.run_module("tests.bench.bench_gpu", run_name="__main__")
"""


@pytest.mark.slow
def test_a_gpu_is_measured_on_a_machine_with_little_more_than_pytorch(tmp_path: Path) -> None:
    """Here its CPU: what it does is the same, but for the recording of steps. A table is begun."""
    cells = ["Standard / LSTM-LM", "Inputless / LSTM-VAE-AVG (L = 5)"]
    write_words_at_random(tmp_path, 0.001)
    (tmp_path / "random").rename(tmp_path / "ptb")
    small = ["--device", "cpu", "--seconds", "0.3", "--size", "64", "--precisions", "fp32", "--minutes", "0.06"]
    where = ["--corpora", str(tmp_path), "--json", str(tmp_path / "gpu.json"), "--results", str(tmp_path / "results")]
    asked = [*small, *where, "--together", "1", "3", "--processes", "2", "--cells", *cells]
    done = subprocess.run(
        [sys.executable, "-c", BARE.format(arguments=asked)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [(row["cell"], row["loss"], row["gradient"]) for row in found["checked"]] == [(cell, 0, 0) for cell in cells]
    arms = [("eager", 1), ("graphed", 1), ("graphed", 3), ("processes", 2)]
    assert [(row["how"], row["trials"]) for row in found["rows"]] == [*arms, *arms]
    assert all(row["tokens_per_second"] > 0 for row in found["rows"])
    assert found["hours"]["fp32"] > 0
    assert "training of these 2 cells, fp32:" in done.stdout
    plan, store = make_plan(SweepSpec.load("ptb"), tmp_path), TrialStore(tmp_path / "results")
    counts = Counter(store.states(plan.record.wanted).values())
    assert counts["done"] + counts["started"] > 0
    assert counts["failed"] == 0
    assert f"{counts['done']} of 60 trials are done" in done.stdout


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_the_arithmetic_of_a_gpu_is_that_of_its_assumptions(precision: str) -> None:
    [gpu] = [gpu for gpu in GPUS if gpu.precision == precision]
    sizes = {"embedding_dim": 100, "hidden_dim": 400, "latent_dim": 32}
    rest = {**SMALL, "train": {"batch_size": 32}, "seed": 0}
    lm, one, ten = (
        step_of(TrialConfig.parse({**rest, "model": model}), operations, 32 * 23, 10_000, gpu)
        for model, operations in (
            ({"kind": "lstm_lm", "embedding_dim": 100, "hidden_dim": 400}, 4.8e6),
            ({"kind": "lstm_vae", **sizes}, 5.7e6),
            ({"kind": "lstm_vae", **sizes, "samples": 10}, 49e6),
        )
    )
    assert lm.graphed < one.graphed < ten.graphed
    for step in (lm, one, ten):
        assert step.work < step.together(20) + 1e-12 <= step.graphed <= step.eager
        assert step.together(1) == step.graphed
    # 736 words, of which each is multiplied by each weight three times, and their logits, which pass five times.
    assert one.work == pytest.approx(6 * 736 * 5.7e6 / gpu.large + 5 * 736 * 10_000 * gpu.size / 3.6e12)


def test_what_failed_on_a_gpu_is_not_the_fastest(tmp_path: Path) -> None:
    write_words_at_random(tmp_path, 0.001)
    (tmp_path / "random").rename(tmp_path / "ptb")
    plan = make_plan(SweepSpec.load("ptb"), tmp_path)
    config = TrialConfig.parse(plan.record.trials[0].config)
    tokens = 5 * 30 * plan.corpora(config.data).splits["train"].num_tokens

    def row(cell: str, trials: int, speed: float) -> dict[str, object]:
        measured = {"tokens_per_second": speed} if speed else {"failed": "out of memory"}
        return {"cell": cell, "precision": "fp32", "how": "graphed", "trials": trials, **measured}

    rows = [
        row("a", 1, 10.0),
        row("a", 5, 40.0),
        row("a", 20, 50.0),
        row("b", 1, 5.0),
        row("b", 5, 8.0),
        row("b", 20, 0),
    ]
    assert len(cells_of(plan)) == 12
    assert estimate(rows, plan, "fp32") == pytest.approx(tokens * (1 / 50 + 1 / 8) / 3600)
    assert side_by_side(rows, "fp32") == 5
    failed = [row("a", 1, 0)]
    assert (estimate(failed, plan, "fp32"), side_by_side(failed, "fp32")) == (math.inf, 1)
