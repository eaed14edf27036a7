"""Packing on a real Ray: shapes are probed once, numbers stay what they are, and claims on memory are kept."""

import json
import os
import secrets
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from sweep.config import TrialConfig
from sweep.store import TrialStore
from sweep.trial import run_trial
from tests.faults.chaos import wait_for
from tests.sweep.test_cli import SPEC, Workplace, numbers

pytestmark = pytest.mark.timeout(400)
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_each_shape_is_probed_once_and_no_number_changes(tmp_path: Path, lines_corpus: Path) -> None:
    workplace = Workplace(tmp_path, lines_corpus)
    workplace.write(SPEC.replace("    Inputless: {model: {inputs: none}}\n", ""))
    assert "unknown" in workplace.sweep_here("plan", "tiny.yaml").stdout
    first = workplace.sweep("run", "tiny.yaml", "resources=auto", "--no-tracking")
    assert first.stderr.count("probe of ") == 2
    assert "2/2 done" in first.stderr
    probes = sorted((tmp_path / "results" / "probes").iterdir())
    assert len(probes) == 2
    assert all(folder.name.endswith("-cpu-1") and (folder / "result.json").exists() for folder in probes)
    trained, other = workplace.results(), TrialStore(tmp_path / "alone")
    for key, result in trained.items():
        config = TrialConfig.parse(json.loads(result)["config"])
        alone = run_trial(config, other, lines_corpus)
        assert numbers(alone.to_json().encode()) == numbers(result)
        assert alone.key == key
    grown = workplace.sweep("run", "tiny.yaml", "resources=auto", "seeds=2", "--no-tracking")
    assert "probe of " not in grown.stderr
    assert len(workplace.results()) == 4
    planned = workplace.sweep_here("plan", "tiny.yaml", "seeds=3").stdout
    assert "unknown" not in planned
    assert "measured on " in planned


PROGRAM = """
import json, sys
from pathlib import Path
from sweep.claims import Launch
from sweep.cluster import cluster
from sweep.launch import launch
from sweep.queue import TrialQueue
from sweep.record import WantedTrial
from sweep.resources import Resources, Share
from sweep.spec import RetryPolicy
from sweep.store import TrialStore
from sweep.weight import Corpora
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
            each = lambda keys: share if len(keys) == 1 else None
            launch(queue, store, Corpora(folder), where, this, 60.0, work, each)
        results = store.results(trial.key for trial in trials).values()
        times = sorted((result.started, result.finished) for result in results)
        found[part] = sum(after[0] < before[1] for before, after in zip(times, times[1:]))
        assert len(times) == 4
print(json.dumps(list(found.values())))
"""


@pytest.mark.slow
def test_a_nodes_memory_is_claimed_once(tmp_path: Path) -> None:
    """Four trials on two cores: side by side where both fit, one after the other where they do not."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    side_by_side, overcommitted = json.loads(done.stdout.splitlines()[-1])
    assert side_by_side >= 2
    assert overcommitted == 0


NODES = """
import sys
from ray.cluster_utils import Cluster

options = {"object_store_memory": 80 * 2**20}
nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **options})
print(nodes.address, flush=True)
for line in sys.stdin:
    nodes.add_node(num_cpus=int(line), **options)
nodes.shutdown()
"""
"""A head, and a node for each line of its input, with so many cores."""
GROWING = """
import json, sys
from pathlib import Path
from sweep.claims import Launch
from sweep.cluster import cluster
from sweep.launch import launch
from sweep.queue import TrialQueue
from sweep.record import WantedTrial
from sweep.resources import Resources, Share
from sweep.spec import RetryPolicy
from sweep.store import TrialStore
from sweep.weight import Corpora
from tests.bench.pretend import pretend

folder, said = Path(sys.argv[1]), []

def work(assignment, device, report):
    pretend(assignment, 20.0, 0.0)  # longer than a worker takes to start

with cluster(Resources(), sys.argv[2], wait=said.append) as where:
    assert where.slots == 1, where.nodes
    store = TrialStore(folder)
    trials = [WantedTrial(f"{number:064}", {"number": str(number)}, 0, {}) for number in range(12)]
    alone = where.alone(Share(1))
    with Launch(store.launches, "growing") as this:
        queue = TrialQueue(trials, store, RetryPolicy(), [], this.id, lambda key: 0)
        shares = {trial.key: Share(1) if int(trial.key) else alone for trial in trials}
        def share_of(keys):
            return shares[keys[0]] if len(keys) == 1 else None
        launch(queue, store, Corpora(folder), where, this, 60.0, work, share_of)
    results = store.results(trial.key for trial in trials).values()
    most = max(sum(other.started <= each.started < other.finished for other in results) for each in results)
print(json.dumps([said, alone.memory, len(results), most]))
"""


@pytest.mark.long
def test_a_cluster_is_waited_for_and_used_as_it_grows(tmp_path: Path) -> None:
    """From a head by itself to a node of one core, all of which the first trial has, and then to one of five more."""
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    start = partial(subprocess.Popen, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    with start([sys.executable, "-c", NODES], stdin=subprocess.PIPE) as nodes:
        assert nodes.stdin is not None
        assert nodes.stdout is not None
        address = nodes.stdout.readline().strip()
        with start([sys.executable, "-c", GROWING, str(tmp_path), address]) as process:
            time.sleep(20)  # Ray takes that long to import and to join, or the machine is quick and it waits
            for cores, condition in ((1, lambda: True), (5, TrialStore(tmp_path).launches.names)):
                wait_for(condition)
                nodes.stdin.write(f"{cores}\n")
                nodes.stdin.flush()
            printed, _ = process.communicate(timeout=280)
        assert process.returncode == 0
        nodes.communicate(timeout=60)
    said, memory, num_done, most = json.loads(printed.splitlines()[-1])
    assert said == ["no node of the cluster trains yet; waiting up to 15 minutes for one"]
    assert memory > 2**28
    assert num_done == 12
    assert most > 4  # of what one core had running and waiting for it
