"""Sweeps on a cluster of three nodes, of which one dies and to which one comes: they end as if nothing had happened."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.spec import SweepSpec
from tests.contracts.test_extension import ROOT
from tests.faults.chaos import Sweep, Undisturbed, ended, wait_for, write_spec
from tests.faults.nodes import TOKEN, Nodes, cluster_of, without_folders

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def nodes(chaos_corpora: Path) -> Iterator[Nodes]:
    """One cluster for all: each test leaves it with as many nodes as it found. The nodes have no such corpora."""
    with cluster_of(2, before=without_folders(chaos_corpora)) as found:
        yield found


def test_a_node_is_lost_with_the_trial_on_it(
    nodes: Nodes, tmp_path: Path, chaos_corpora: Path, undisturbed: Undisturbed
) -> None:
    """Which goes on elsewhere from its checkpoint."""
    sweep = Sweep(tmp_path / "chaos", chaos_corpora, address=nodes.address, extra=dict(TOKEN))
    with ended(sweep.start()) as process:
        wait_for(lambda: sweep.progress() > 4 and len(nodes.workers()) == 2)
        nodes.tell("lose")
        nodes.tell("add")
        sweep.finish(process)
    assert "worker-lost" in sweep.said()
    undisturbed.check(sweep)


def test_nodes_without_the_corpora_probe_train_and_evaluate(nodes: Nodes, tmp_path: Path, chaos_corpora: Path) -> None:
    """What each of these reads is sent to them."""
    sweep = Sweep(tmp_path / "chaos", chaos_corpora, address=nodes.address, epochs=1, extra=dict(TOKEN))
    sweep.finish(sweep.start("seeds=1", "resources=auto", "--no-tracking"))
    assert "4 shapes of trial are measured first" in sweep.said()
    words = [*sweep.command("evaluate", "chaos"), "--iw", "10", "--no-tracking", "--address", nodes.address]
    done = subprocess.run(
        words, cwd=sweep.folder, env=sweep.environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[4/4 done" in done.stderr


def test_200_trials_of_no_work(nodes: Nodes, tmp_path: Path, lines_corpus: Path) -> None:
    """So short that what there is to get wrong is the handing out. In the end the node that came is alone."""
    few = "seeds=50"
    spec = SweepSpec.load(str(write_spec(tmp_path, epochs=1)), [few])
    sweep = Sweep(tmp_path / "chaos", lines_corpus, address=nodes.address, epochs=1, extra=dict(TOKEN))
    lost = one_comes_and_others_die(sweep, nodes, 2, few, "--no-tracking")
    nodes.tell("add")
    assert_as_undisturbed(sweep, spec)
    results = sweep.store.results(sweep.store.files.names("trials")).values()
    assert len(results) == 200
    assert sum(result.started > lost for result in results) > 10, "the new node had no work"


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_ptb_quick(nodes: Nodes, tmp_path: Path) -> None:
    """At a size at which its three trials take some minutes."""
    corpora = Path(os.environ.get("SWEEP_CORPORA", ROOT / "corpora"))
    if not (corpora / "ptb").is_dir():
        pytest.skip("needs the Penn Treebank: sweep data fetch ptb")
    small = ["model.embedding_dim=16", "model.hidden_dim=32", "train.checkpoint_minutes=0.1"]
    sweep = Sweep(tmp_path / "quick", corpora, address=nodes.address, spec="ptb-quick", extra=dict(TOKEN))
    one_comes_and_others_die(sweep, nodes, 1, *small, "--no-tracking")
    assert_as_undisturbed(sweep, SweepSpec.load("ptb-quick", small))


def one_comes_and_others_die(sweep: Sweep, nodes: Nodes, dying: int, *words: str) -> float:
    """Run a sweep to its end; so many nodes die, at work, once the new one is, too. Returns when they were dead."""
    wait_for(lambda: not nodes.workers())  # of the test before
    with ended(sweep.start(*words)) as process:
        wait_for(lambda: len(nodes.workers()) == 2 or process.poll() is not None)
        nodes.tell("add")
        wait_for(lambda: len(nodes.workers()) == 3 or process.poll() is not None)
        assert process.poll() is None, "it was faster"
        for _ in range(dying):
            nodes.tell("lose")
        lost = time.time()
        sweep.finish(process, seconds=1200)
    return lost


def assert_as_undisturbed(sweep: Sweep, spec: SweepSpec) -> None:
    """Each trial was done once, and came to what it comes to when nothing happens."""
    (sweep.folder / "undisturbed").mkdir()
    Undisturbed.of(spec, sweep.folder / "undisturbed", sweep.corpora).check_store(sweep)
    keys = sweep.store.files.names("trials")
    told = re.findall(r"\[(\d+)/(\d+) done", sweep.said())
    assert told == [(str(number), str(len(keys))) for number in range(1, len(keys) + 1)]
    for key in keys:
        epochs = re.findall(r"  epoch (\d+)  ", sweep.store.log(key))
        assert epochs == sorted(set(epochs), key=int), sweep.store.log(key)
