"""A trained model with averaged hidden states on text whose true −log p is known: which numbers can be believed."""

import threading
from pathlib import Path

import pytest

from sweep.claims import Launch
from sweep.config import TrialConfig
from sweep.evaluation import EvaluationSettings
from sweep.measuring import run_evaluation
from sweep.outcome import Right
from sweep.store import TrialStore
from sweep.trial import run_trial

CONFIG = {
    "data": {"kind": "grammar", "train": 3000, "valid": 200, "test": 300, "topics": 2, "list_length": 8},
    "model": {
        "kind": "lstm_vae",
        "embedding_dim": 24,
        "hidden_dim": 48,
        "latent_dim": 16,
        "samples": 10,
        "average": True,
        "input_dropout": 0.0,
        "output_dropout": 0.0,
        "init_range": 0.3,
    },
    "schedule": {"kind": "linear", "epochs": 4},
    "update": {"kind": "joint"},
    "train": {"epochs": 14, "batch_size": 12},
    "evaluate": {},
    "seed": 0,
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_papers_number_goes_below_the_truth_and_no_strict_one_does(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    result = run_trial(TrialConfig.parse(CONFIG), store, tmp_path)
    with Launch(store.launches, "") as launch:
        found = run_evaluation(
            EvaluationSettings(samples=5, draws=100), store, result.key, tmp_path, device="cpu", threads=1,
            right=Right(launch.id, threading.Event()),
        ).test  # fmt: skip
    truth = result.corpus["source_nll"]["test"]
    names = [f"{kind}_{form}" for kind in ("nelbo", "iw") for form in ("paper", "strict", "exch", "l1")]
    print(f"\ntruth {truth:.2f}; " + ", ".join(f"{name} {found[name]:.2f}" for name in names))
    # The truth is that of the very sentences that are measured.
    assert found["nelbo_paper"] < truth - 0.3
    assert found["iw_paper"] < truth - 0.3
    for kind in ("nelbo", "iw"):
        for form in ("strict", "exch", "l1"):
            assert found[f"{kind}_{form}"] > truth
    # The joint charge is far tighter than a KL for each, and weights lower every bound.
    assert found["nelbo_exch"] < found["nelbo_strict"]
    for form in ("strict", "exch", "l1"):
        assert found[f"iw_{form}"] < found[f"nelbo_{form}"]
    assert found["mi"] > 0.5
