"""Which trials a plan wants, which of them are missing, and in which order they are handed out."""

from pathlib import Path

import pytest
import torch

from sweep.document import Document, parse
from sweep.plan import Plan, count_states, make_plan
from sweep.queue import TrialQueue
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.trial import run_trial

DOCUMENT = """
name: toy
base:
  data: {kind: lines, name: tiny}
  model: {embedding_dim: 5, hidden_dim: 7}
  train: {epochs: 1, batch_size: 4}
axes:
  method:
    LM: {model: lstm_lm}
    VAE: {model: {kind: lstm_vae, samples: 5}}
    VAE again: {model: {kind: lstm_vae, samples: 5}}
seeds: 2
"""


def plan_of(corpora: Path, *overrides: str) -> tuple[SweepSpec, Plan]:
    spec = SweepSpec.of(Document("toy.yaml", parse(DOCUMENT)), overrides)
    return spec, make_plan(spec, corpora)


def test_trials_that_cells_share_are_wanted_once(lines_corpus: Path) -> None:
    _, plan = plan_of(lines_corpus)
    assert len(plan.record.trials) == 6
    assert len(plan.wanted) == 4


def test_longest_first_and_each_once(lines_corpus: Path, tmp_path: Path) -> None:
    _, plan = plan_of(lines_corpus)
    queue = TrialQueue(plan.missing(TrialStore(tmp_path / "results")))
    order = []
    while (trial := queue.next()) is not None:
        order.append((trial.labels["method"], trial.seed))
    assert order == [("VAE", 0), ("VAE", 1), ("LM", 0), ("LM", 1)]
    assert queue.next() is None


def test_what_is_done_is_not_missing(lines_corpus: Path, tmp_path: Path) -> None:
    spec, plan = plan_of(lines_corpus)
    store = TrialStore(tmp_path / "results")
    assert plan.expected_seconds(store) is None
    run_trial(spec.trial_config(spec.cells()[0], 1), store, lines_corpus)
    assert [trial.name for trial in plan.missing(store)] == ["VAE / seed 0", "VAE / seed 1", "LM / seed 0"]
    assert count_states(store, plan.wanted) == {"done": 1, "failed": 0, "started": 0, "missing": 3}
    assert plan.expected_seconds(store)


def test_a_bigger_plan_keeps_the_keys_of_the_smaller(lines_corpus: Path) -> None:
    _, small = plan_of(lines_corpus)
    _, big = plan_of(lines_corpus, "seeds=3")
    assert set(small.wanted) < set(big.wanted)
    assert len(big.wanted) == 6


def test_other_text_is_another_trial(lines_corpus: Path) -> None:
    _, before = plan_of(lines_corpus)
    (lines_corpus / "tiny" / "test.txt").write_text("w1 w2\n")
    _, after = plan_of(lines_corpus)
    assert not set(before.wanted) & set(after.wanted)


def test_a_missing_corpus_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"corpus 'tiny' needs train\.txt, .* run `sweep data import tiny DIR`"):
        plan_of(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_planning_allocates_no_parameters(lines_corpus: Path) -> None:
    before = torch.get_rng_state()
    _, plan = plan_of(lines_corpus, "model.hidden_dim=30000")
    assert min(plan.costs.values()) > 1e9
    assert torch.equal(torch.get_rng_state(), before)
