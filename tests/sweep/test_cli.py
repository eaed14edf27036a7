"""The command line as a user meets it: real processes, real Ray, a real MLflow database."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.here import sweep_here

SWEEP = Path(sys.executable).with_name("sweep")
pytestmark = pytest.mark.timeout(400)  # several real launches a test, on a machine that may be busy
SPEC = """
name: tiny
base:
  data: {kind: lines, name: tiny}
  model: {embedding_dim: 6, hidden_dim: 8}
  schedule: {kind: linear, epochs: 2}
  train: {epochs: 3, batch_size: 4}
axes:
  setting:
    Standard: {model: {inputs: words}}
    Inputless: {model: {inputs: none}}
  method:
    LSTM-LM: {model: lstm_lm, schedule: constant}
    LSTM-VAE-AVG (L = 2): {model: {kind: lstm_vae, latent_dim: 3, samples: 2, average: true}}
seeds: 1
"""


class Workplace:
    """A folder with a spec, a corpora root and a results folder, where commands are run."""

    def __init__(self, folder: Path, corpora: Path):
        self.folder = folder
        self.environment = {
            **os.environ,
            "SWEEP_RESULTS": str(folder / "results"),
            "SWEEP_CORPORA": str(corpora),
        }
        self.environment.pop("MLFLOW_TRACKING_URI", None)
        self.write(SPEC)

    def write(self, spec: str) -> None:
        (self.folder / "tiny.yaml").write_text(spec)

    def sweep(self, *arguments: str, code: int = 0, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [SWEEP, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def sweep_here(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """The same in this process."""
        return sweep_here(*arguments, folder=self.folder, environment=self.environment, code=code)

    def results(self) -> dict[str, bytes]:
        paths = sorted((self.folder / "results" / "trials").glob("*/result.json"))
        return {path.parent.name: path.read_bytes() for path in paths}

    def nothing_left(self) -> bool:
        return not (self.folder / "results").exists()


@pytest.fixture
def workplace(tmp_path: Path, lines_corpus: Path) -> Workplace:
    return Workplace(tmp_path, lines_corpus)


@pytest.mark.slow
def test_a_sweep_is_run_once_and_grows(workplace: Workplace) -> None:
    """Run, run again, add a seed, share trials with another sweep, look at it."""
    first = workplace.sweep("run", "tiny.yaml")
    assert "4 trials wanted, 0 done, 0 to continue, 0 failed, 4 not begun" in first.stderr
    assert "4/4 done" in first.stderr
    assert "LSTM-VAE-AVG (L = 2)" in first.stdout
    assert "Traceback" not in first.stderr
    assert "ray" not in first.stdout.lower()
    trained = workplace.results()
    assert len(trained) == 4
    folder = workplace.folder / "results" / "sweeps" / "tiny"
    tables = {path.name: path.read_bytes() for path in folder.glob("table.*")}
    assert set(tables) == {f"table.{suffix}" for suffix in ("txt", "md", "tex", "html", "csv", "json")}

    again = workplace.sweep_here("run", "tiny.yaml")
    assert again.stdout == first.stdout
    assert "4 done" in again.stderr
    assert "running" not in again.stderr
    assert workplace.results() == trained
    assert {path.name: path.read_bytes() for path in folder.glob("table.*")} == tables

    grown = workplace.sweep("run", "tiny.yaml", "seeds=2")
    assert "8 trials wanted, 4 done, 0 to continue, 0 failed, 4 not begun" in grown.stderr
    assert len(workplace.results()) == 8
    assert trained.items() <= workplace.results().items()

    shared = workplace.sweep_here("run", "tiny.yaml", "name=other", "seeds=[1]")
    assert "4 trials wanted, 4 done" in shared.stderr
    assert len(workplace.results()) == 8

    status = json.loads(workplace.sweep_here("status", "tiny", "--json").stdout)
    assert (status["done"], status["missing"], len(status["trials"])) == (8, 0, 8)
    assert (
        "tiny (eight trials): 8 trials wanted"
        in workplace.sweep_here("plan", "tiny.yaml", "seeds=2", "about=eight trials").stdout
    )
    plan = json.loads(workplace.sweep_here("plan", "tiny.yaml", "seeds=3", "--json").stdout)
    assert (plan["wanted"], plan["done"], plan["missing"]) == (12, 8, 4)
    assert plan["expected_seconds"] > 0
    assert workplace.sweep_here("table", "tiny").stdout == grown.stdout
    assert "\\toprule" in workplace.sweep_here("table", "tiny", "--format", "tex").stdout
    sizes = workplace.sweep_here("table", "tiny", "--data").stdout
    assert "tiny" in sizes
    json.loads(workplace.sweep_here("table", "tiny", "--json").stdout)


@pytest.mark.slow
def test_a_failing_trial_does_not_stop_the_others(workplace: Workplace) -> None:
    workplace.write(
        SPEC.replace(
            "LSTM-LM: {model: lstm_lm, schedule: constant}",
            "LSTM-LM: {model: lstm_lm, update: {kind: joint, learning_rate: 3.0e+38, clip: 1.0e+38}}\n"
            "    hungry: {model: {kind: lstm_vae, latent_dim: 3, samples: 100000000000}}",
        )
        + "exclude: [{setting: Inputless, method: hungry}]\n"
    )
    done = workplace.sweep("run", "tiny.yaml", "--no-tracking", code=1)
    assert done.stderr.count("FAILED") == 3
    assert "(non-finite)" in done.stderr
    # Out of memory: once more, alone.
    assert done.stderr.count("tried again alone now") == 1
    assert json.loads(workplace.sweep_here("failures", "tiny", "--json").stdout)[1][0]["attempt"] == 2
    assert "in epoch 1, " in done.stderr
    assert len(workplace.results()) == 2
    status = workplace.sweep_here("status", "tiny").stdout
    assert "failed: Standard / LSTM-LM / seed 0: non-finite: in epoch 1, " in status
    retried = workplace.sweep("retry", "tiny", "--kind", "out-of-memory", "--no-tracking", code=1)
    assert retried.stderr.count("FAILED") == 1
    failures = json.loads(workplace.sweep_here("failures", "tiny", "--json").stdout)
    assert [[failure["attempt"] for failure in group] for group in failures] == [[1, 1], [4]]
    # One cause, told once.
    assert workplace.sweep_here("failures", "tiny").stdout.startswith("2 trials: non-finite: in epoch 1, ")
    assert "Traceback" not in done.stderr
    assert not (workplace.folder / "results" / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", pytest.param("SIGTERM", marks=pytest.mark.long), "sweep stop"])
def test_an_interrupted_sweep_says_how_to_go_on(workplace: Workplace, how: str) -> None:
    long = ["run", "tiny.yaml", "--no-tracking", "train.epochs=100000", "train.plateau.patience=100000"]
    process = subprocess.Popen(
        [SWEEP, *long], cwd=workplace.folder, env=workplace.environment, stderr=subprocess.PIPE, text=True
    )
    trials = workplace.folder / "results" / "trials"
    wait_for(lambda: bool(list(trials.glob("*/checkpoint/epoch-*/manifest.json"))))
    if how == "sweep stop":
        assert f"asked process {process.pid} on " in workplace.sweep_here("stop", "tiny").stdout
    else:
        process.send_signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert "  stopping: 60 s for what runs to leave a checkpoint" in errors
    assert "stopped with 4 trials left; 'sweep run tiny.yaml train.epochs=100000" in errors
    assert "Traceback" not in errors
    assert workplace.results() == {}
    # Whatever had begun can be continued, and says that it was stopped.
    assert begun(trials)
    for folder in begun(trials):
        assert list(folder.glob("checkpoint/epoch-*/manifest.json"))
        assert (folder / "log.txt").read_text().splitlines()[-1] == "stopped"
    assert list((workplace.folder / "results" / "launches").iterdir()) == []


def test_a_launch_that_is_interrupted_before_it_began(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by Ctrl-C while a cluster is opened."""

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("sweep.train_cli.run", interrupted)
    done = workplace.sweep_here("run", "tiny.yaml", "--no-tracking", code=3)
    assert "stopped with 4 trials left; 'sweep run tiny.yaml' continues" in done.stderr
    assert "tables:" not in done.stderr
    assert workplace.nothing_left()


@pytest.mark.slow
def test_an_existing_cluster_is_used_and_left_running(workplace: Workplace) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workplace.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    start = ["start", "--head", "--block", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    with (workplace.folder / "head.txt").open("w") as output:
        head = subprocess.Popen(
            [SWEEP.with_name("ray"), *start, "--node-ip-address=127.0.0.1", f"--port={port}"],
            env=workplace.environment,
            stdout=output,
            stderr=output,
        )
        try:
            wait_for(lambda: "runtime started" in (workplace.folder / "head.txt").read_text())
            command = ["run", "tiny.yaml", "train.epochs=1", "--no-tracking", "--address", f"127.0.0.1:{port}"]
            # Meanwhile another sweep with a wrong token: most of what it takes is waiting.
            stranger = subprocess.Popen(
                [SWEEP, *command, "name=other", "seeds=2"],
                cwd=workplace.folder,
                env=workplace.environment | {"RAY_AUTH_TOKEN": secrets.token_hex(32)},
                stderr=subprocess.PIPE,
                text=True,
            )
            with stranger:
                assert "4/4 done" in workplace.sweep(*command).stderr
                _, refused = stranger.communicate(timeout=120)
            assert stranger.returncode == 2, refused
            expected = f"error: no Ray cluster answers at 127.0.0.1:{port}, or not to this token"
            assert refused.splitlines()[-1].startswith(expected)
            assert head.poll() is None
        finally:
            head.terminate()
            head.wait(timeout=30)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def begun(trials: Path) -> list[Path]:
    return [path.parent for path in trials.glob("*/config.json")]


def numbers(result: bytes) -> dict[str, object]:
    """A result without what depends on the clock and the process."""
    fields: dict[str, object] = json.loads(result)
    history = fields["history"]
    assert isinstance(history, list)
    for record in history:
        del record["timestamp"], record["seconds"]
    for name in ("cost", "environment", "started", "finished", "sha256"):
        del fields[name]
    return fields


def test_one_trial_without_ray(workplace: Workplace) -> None:
    result = json.loads(workplace.sweep("trial", "tiny.yaml", "Standard", "LSTM-VAE-AVG (L = 2)", "--json").stdout)
    assert result["config"]["model"]["samples"] == 2
    assert list(workplace.results()) == [result["key"]]
    diverging = ["LSTM-LM", "Standard", "update.learning_rate=3.0e+38", "update.clip=1.0e+38"]
    failed = workplace.sweep_here("trial", "tiny.yaml", *diverging, code=1).stderr.splitlines()[-1]
    assert failed.startswith("failed: trial ")
    assert "in epoch 1, " in failed
    assert "choose 2 cells of tiny" in workplace.sweep_here("trial", "tiny.yaml", "Standard", code=2).stderr


MISTAKES = {
    "mistyped key": (
        ("hidden_dim", "hiden_dim"),
        ["run", "tiny.yaml"],
        "error: tiny.yaml:5: base.model.hiden_dim: unknown key 'hiden_dim'; did you mean 'hidden_dim'?",
    ),
    "mistyped method": (
        ("model: lstm_lm", "model: lstm_ml"),
        ["run", "tiny.yaml"],
        "error: tiny.yaml:13: axes.method.LSTM-LM.model: unknown choice of conf/model/ 'lstm_ml'; did you mean ",
    ),
    "impossible combination": (
        ("hidden_dim: 8", "hidden_dim: 8, word_dropout: 0.5"),
        ["plan", "tiny.yaml"],
        "error: tiny.yaml:13: axes.method.LSTM-LM.model: inputs: none already replaces every word, so that ",
    ),
    "missing corpus": (
        ("name: tiny}", "name: absent}"),
        ["run", "tiny.yaml"],
        "error: corpus 'absent' needs train.txt, and ",
    ),
    "out of range": (
        ("epochs: 3", "epochs: 0"),
        ["run", "tiny.yaml"],
        "error: tiny.yaml:7: base.train.epochs: input should be greater than 0, not 0",
    ),
    "results that are a file": (
        ("", ""),
        ["run", "tiny.yaml", "--results", "/dev/null/x"],
        "error: results folder /dev/",
    ),
    "too many CPUs": (
        ("seeds: 1", "seeds: 1\nresources: {cpu: 4096}"),
        ["run", "tiny.yaml", "--no-tracking"],
        "error: resources: a trial asks for 4096 CPUs and 0 GPUs, but the largest node has ",
    ),
    "unknown sweep": (("", ""), ["run", "tinny"], "error: unknown sweep 'tinny'"),
    "no such sweep": (("", ""), ["table", "tiny"], "error: no sweep 'tiny' was run in "),
    "no such format": (("", ""), ["table", "tiny", "--format", "pdf"], "error: "),
    "no such address": (
        ("", ""),
        ["run", "tiny.yaml", "--no-tracking", "--address", "127.0.0.1:1"],
        "error: no Ray cluster answers at 127.0.0.1:1 ([Errno 111] Connection refused); check the address",
    ),
}


NEEDS_RAY = ("too many CPUs", "no such address")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(workplace: Workplace, mistake: str) -> None:
    (old, new), command, expected = MISTAKES[mistake]
    workplace.write(SPEC.replace(old, new) if old else SPEC)
    done = (workplace.sweep if mistake in NEEDS_RAY else workplace.sweep_here)(*command, code=2)
    complaint = [line for line in done.stderr.splitlines() if not line.startswith("tiny: ")]
    assert len(complaint) == 1, done.stderr
    assert complaint[0].startswith(expected), done.stderr
    assert workplace.nothing_left()
    assert done.stdout == ""


def test_usage_errors_are_code_2(workplace: Workplace) -> None:
    for arguments in (["nonsense"], ["run"], ["run", "--nonsense"]):
        assert workplace.sweep_here(*arguments, code=2).stderr
    assert "Train what is missing" in workplace.sweep_here("run", "--help").stdout


def test_corpora_are_imported_and_listed(workplace: Workplace) -> None:
    source = workplace.folder / "mine"
    source.mkdir()
    for name in ("train", "valid", "test"):
        (source / f"{name}.txt").write_text(f"some {name} words\n\nand more\n")
    done = workplace.sweep_here("data", "import", "mine", str(source))
    assert "1 of 3 lines are empty and are dropped" in done.stderr
    listed = {row["name"]: row for row in json.loads(workplace.sweep_here("data", "list", "--json").stdout)}
    assert {"mine", "tiny", "ptb", "yahoo", "grammar"} <= set(listed)
    assert listed["mine"]["sentences"] == "2 / 2 / 2"
    assert listed["ptb"]["sentences"] == "–"
    assert "sweep data fetch ptb" in listed["ptb"]["note"]
    shown = workplace.sweep_here("data", "list").stdout
    assert "The text is the user's own" in shown
    assert "licence, or how to get it" in shown
    refused = workplace.sweep_here("data", "import", "mine", str(source), code=2).stderr
    assert "pass --force to replace it" in refused
    assert "error" in workplace.sweep_here("data", "import", "../mine", str(source), code=2).stderr
