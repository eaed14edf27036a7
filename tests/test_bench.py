"""The benchmark runs, and two of its files can be compared; what it measures is for people to read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.bench", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_it_measures_and_compares(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    few = ["--sizes", "tiny", "--systems", "LSTM-VAE", "--tasks", "weigh", "--rounds", "1"]
    printed = run(*few, "--json", str(file))
    measured = json.loads(file.read_text())
    assert [row["task"] for row in measured["rows"]] == ["weigh"]
    for row in measured["rows"]:
        assert row["ours"] > 0
        assert row["ours_by_plain"] == pytest.approx(row["ours"] / row["plain"])
        assert 0 < row["ours_by_floor"] < 1
        assert row["peak_mib"] > 50
    assert measured["threads"]["ratio"] > 0
    assert "tiny, LSTM-VAE, IW" in printed
    compared = run("--compare", str(file), str(file)).splitlines()
    assert len(compared) == 1 + len(measured["rows"])
