"""The first thing a user does: `make demo`, then looking at what it left."""

import json
import math
import os
import re
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from data.corpora.grammar import Config as GrammarConfig
from data.corpora.grammar import Grammar
from sweep.plan import results_of
from sweep.record import SweepRecord, TrialResult
from sweep.store import TrialStore
from tests.here import sweep_here

ROOT = Path(__file__).parents[1]
SWEEP = Path(sys.executable).with_name("sweep")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Demo:
    folder: Path
    printed: str

    @property
    def store(self) -> TrialStore:
        return TrialStore(self.folder / "results")

    def table(self, form: str) -> str:
        return self.store.sweep("demo").read(f"table.{form}").decode()

    def sweep(self, *arguments: str) -> str:
        """What a command prints that starts no Ray."""
        return sweep_here(*arguments, folder=ROOT, environment=environment_of(self.folder)).stdout

    @property
    def record(self) -> SweepRecord:
        return self.store.recorded("demo")

    def results(self, **labels: str) -> list[TrialResult]:
        """Results of the trials with these labels."""
        results = results_of(self.record, self.store)
        return [results[trial.key] for trial in self.record.trials if labels.items() <= trial.labels.items()]


def environment_of(folder: Path) -> dict[str, str]:
    return {**os.environ, "SWEEP_RESULTS": str(folder / "results"), "SWEEP_CORPORA": str(folder / "corpora")}


def run(command: Sequence[str | Path], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment_of(folder), capture_output=True, text=True, check=False, timeout=580
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo as `make` runs it, in this virtual environment where make made it."""
    folder = tmp_path_factory.mktemp("demo")
    is_from_make = (Path(sys.prefix) / ".ready").exists()
    command = ["make", "--no-print-directory", "demo", f"VENV={sys.prefix}"] if is_from_make else [SWEEP, "run", "demo"]
    return Demo(folder, run(command, folder))


def test_it_prints_the_table_and_writes_it_in_every_format(demo: Demo) -> None:
    for text in ("LSTM-LM", "LSTM-VAE (L = 5)", "LSTM-VAE-AVG (L = 5) †", "entropy of the source", "n = 2"):
        assert text in demo.printed
    assert demo.table("txt").strip() in demo.printed
    assert "\\bottomrule" in demo.table("tex")
    assert "entropy of the source" in demo.table("csv")
    assert len(demo.results()) == 16


def test_no_model_beats_the_source_and_the_standard_ones_come_near(demo: Demo) -> None:
    config = GrammarConfig()
    grammar = Grammar(config.topics, config.list_length, config.topic_exponent, config.shared_exponent)
    sentences = config.read(Path()).splits["test"]
    nlls = [-grammar.log_probability(sentence) for sentence in sentences]
    entropy, error = statistics.fmean(nlls), statistics.stdev(nlls) / math.sqrt(len(nlls))
    for setting in ("Standard", "Inputless"):
        for method in {trial.labels["method"] for trial in demo.record.trials}:
            results = demo.results(setting=setting, method=method)
            assert len(results) == 2
            assert results[0].corpus["source_nll"]["test"] == pytest.approx(entropy)
            mean = statistics.fmean(result.test["nll"] for result in results)
            assert mean > entropy - 2 * error, (setting, method)
            if setting == "Standard" and method in ("LSTM-LM", "LSTM-VAE"):
                assert mean < entropy + 5, method


def test_the_papers_number_of_averaged_states_is_below_their_strict_bound(demo: Demo) -> None:
    for result in demo.results(method="LSTM-VAE-AVG (L = 5)"):
        assert result.test["nll"] == pytest.approx(result.test["nelbo_paper"] + 4 * result.test["kl"], rel=1e-6)
        assert result.test["kl"] > 0


def test_running_it_again_trains_nothing_and_prints_the_same(demo: Demo) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (demo.folder / "results").glob("trials/*/*")}

    before = times()
    assert {path.name for path in before} == {"config.json", "log.txt", "result.json", "weights.safetensors"}
    assert demo.sweep("run", "demo").strip() in demo.printed
    assert times() == before


def test_more_seeds_are_only_the_new_trials(demo: Demo) -> None:
    plan = json.loads(demo.sweep("plan", "demo", "seeds=3", "--json"))
    assert (plan["wanted"], plan["done"], plan["missing"]) == (24, 16, 8)


def test_mlflow_has_one_finished_run_a_trial(demo: Demo) -> None:
    with sqlite3.connect(demo.folder / "results" / "mlflow.db") as database:
        statuses = database.execute("SELECT status, COUNT(*) FROM runs GROUP BY status").fetchall()
        keys = database.execute("SELECT value FROM tags WHERE key = 'sweep.trial_key'").fetchall()
        kinds = database.execute("SELECT value FROM tags WHERE key = 'sweep.summary' ORDER BY value").fetchall()
    assert statuses == [("FINISHED", 16 + 8 + 1)]
    assert sorted(key for (key,) in keys) == sorted(trial.key for trial in demo.record.trials)
    assert [kind for (kind,) in kinds] == ["cell"] * 8 + ["sweep"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)


def test_the_readme_shows_a_table_of_this_demo(demo: Demo) -> None:
    """Same rows, columns and footnotes; digits, and whose are the best, are those of the machine it was printed on."""

    def shape(text: str) -> list[str]:
        lines = re.sub(r"[ ─]+", " ", re.sub(r"\d+\.\d", "x", text.replace("*", " "))).split("\n")
        return [line.rstrip() for line in lines]

    assert shape(blocks("")[0].strip()) == shape(demo.table("txt").strip())


def test_the_readmes_commands_work(demo: Demo) -> None:
    """Each as written, `DIR` in place; of sweeps that take hours or minutes, the plan."""
    text = demo.folder / "text"
    text.mkdir()
    for name in ("train", "valid", "test"):
        (text / f"{name}.txt").write_text(f"this is {name}\nthis is text <unk>\n" * 9)
    (demo.folder / "mine.yaml").write_text(next(block for block in blocks("yaml") if "name: mine" in block))
    (demo.folder / "line-by-line.yaml").write_text(next(block for block in blocks("yaml") if "name: demo" in block))
    demo.sweep("plan", str(demo.folder / "line-by-line.yaml"))
    with (demo.folder / "line-by-line.yaml").open("a") as spec:
        spec.write(next(block for block in blocks("yaml") if block.startswith("search:")))
    assert "0 of 48 suggestions tried in 2 cells" in demo.sweep("plan", str(demo.folder / "line-by-line.yaml"))
    shown = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    shown += re.findall(r"`(sweep [^`]+)`", (ROOT / "README.md").read_text())
    commands = [
        line.split() for line in shown if re.match(r"sweep \w+ .*", line) and not {"KEY", "NAME"} & set(line.split())
    ]
    assert ["sweep", "run", "ptb"] in commands
    for command in commands:
        if command[1] in ("ui", "stop", "search") or "fetch" in command or {"--address", "URI"} & set(command):
            demo.sweep(command[1], "--help")
            continue
        words = [
            word.replace("DIR", str(text)).replace("mine.yaml", str(demo.folder / "mine.yaml")) for word in command
        ]
        if words[1] in ("run", "probe"):
            words[1] = "plan"
        if words[1] == "submit":
            words.append("--dry-run")
        if words[1] in ("table", "figures", "evaluate"):
            words[2] = "demo"
        if "--iw" in words:  # 500 take minutes
            words[words.index("--iw") + 1] = "20"
        if words[1] == "import" or "import" in words:
            words.append("--force")
        if words[1] == "evaluate":
            run([SWEEP, *words[1:]], demo.folder)
        else:
            demo.sweep(*words[1:])
