"""Packing on a real Ray: shapes are probed once, numbers stay what they are, and claims on memory are kept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.config import TrialConfig
from sweep.store import TrialStore
from sweep.trial import run_trial
from tests.sweep.test_cli import Workplace, numbers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
ROOT = Path(__file__).parents[2]


def test_each_shape_is_probed_once_and_no_number_changes(tmp_path: Path, lines_corpus: Path) -> None:
    workplace = Workplace(tmp_path, lines_corpus)
    assert "unknown" in workplace.sweep_here("plan", "tiny.yaml").stdout
    first = workplace.sweep("run", "tiny.yaml", "resources=auto", "--no-tracking")
    assert first.stderr.count("probe of ") == 4
    assert "4/4 done" in first.stderr
    probes = sorted((tmp_path / "results" / "probes").iterdir())
    assert len(probes) == 4
    assert all(folder.name.endswith("-cpu-1") and (folder / "result.json").exists() for folder in probes)
    trained, other = workplace.results(), TrialStore(tmp_path / "alone")
    for key, result in trained.items():
        config = TrialConfig.parse(json.loads(result)["config"])
        alone = run_trial(config, other, lines_corpus)
        assert numbers(alone.to_json().encode()) == numbers(result)
        assert alone.key == key
    grown = workplace.sweep("run", "tiny.yaml", "resources=auto", "seeds=2", "--no-tracking")
    assert "probe of " not in grown.stderr
    assert len(workplace.results()) == 8
    planned = workplace.sweep_here("plan", "tiny.yaml", "seeds=3").stdout
    assert "unknown" not in planned
    assert "measured on " in planned


PROGRAM = """
import json, sys
from pathlib import Path
from sweep.claims import Launch
from sweep.launch import cluster, launch
from sweep.queue import TrialQueue
from sweep.record import WantedTrial
from sweep.resources import Resources, Share
from sweep.spec import RetryPolicy
from sweep.store import TrialStore
from tests.bench.pretend import pretend

folder = Path(sys.argv[1])

def work(assignment, device, report):
    pretend(assignment, 2.0, 0.0)

found = {}
with cluster(Resources(), None, 2) as where:
    [node] = where.nodes
    for part in (0.3, 0.6):
        store = TrialStore(folder / str(part))
        trials = [WantedTrial(f"{number:064}", {"number": str(number)}, 0, {}) for number in range(4)]
        with Launch(store.launches, "claims") as this:
            queue = TrialQueue(trials, store, RetryPolicy(), [], this.id, lambda key: 0)
            share = Share(1, 0, part * node.memory)
            launch(queue, store, folder, where, this, 60.0, work, lambda key: share)
        results = store.results(trial.key for trial in trials).values()
        times = sorted((result.started, result.finished) for result in results)
        found[part] = sum(after[0] < before[1] for before, after in zip(times, times[1:]))
        assert len(times) == 4
print(json.dumps(list(found.values())))
"""


def test_a_nodes_memory_is_claimed_once(tmp_path: Path) -> None:
    """Four trials on two cores: side by side where both fit, one after the other where they do not."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    side_by_side, overcommitted = json.loads(done.stdout.splitlines()[-1])
    assert side_by_side >= 2
    assert overcommitted == 0
