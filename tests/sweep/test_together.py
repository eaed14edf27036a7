"""Trials that share a process: each comes to what it comes to alone, and none disturbs the others."""

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep import claims
from sweep.claims import Launch, request_stop
from sweep.config import TrialConfig, trial_key
from sweep.record import EpochRecord
from sweep.resources import Share
from sweep.store import TrialStore
from sweep.together import Told, together
from sweep.trial import run_trial
from sweep.verify import differences, numbers
from sweep.weight import Corpora
from sweep.work import Assignment, Report, Work, train
from tests.faults.chaos import SMALL

VAE = {"kind": "lstm_vae", "embedding_dim": 4, "hidden_dim": 5, "latent_dim": 2}
PLANS = [
    {},
    {"model": VAE},
    {"model": {**VAE, "samples": 3, "average": True}},
    {"model": VAE, "train": {"epochs": 4, "batch_size": 3}},
    {"model": VAE, "train": {"epochs": 2, "batch_size": 8, "precision": "bf16"}},
    {"model": VAE, "update": {"kind": "aggressive", "inner_steps": 4, "block": 2}},
    {"model": {**VAE, "kind": "sa_vae", "svi_steps": 2}},
]


@pytest.fixture
def configs() -> list[TrialConfig]:
    return [TrialConfig.parse({**SMALL, **plan, "seed": seed}) for seed, plan in enumerate(PLANS)]


def run_together(
    configs: Sequence[TrialConfig], store: TrialStore, corpora: Path, work: Work = train, device: str = "cpu"
) -> dict[str, list[Told]]:
    """What each tells, by its key."""
    loaded = Corpora(corpora)
    keys = [trial_key(config, loaded(config.data).content_hash) for config in configs]
    told: dict[str, list[Told]] = {key: [] for key in keys}
    with Launch(store.launches, "together") as this:
        common = {"results": str(store.location), "corpora": str(corpora), "launch": this.id}
        assignments = [
            Assignment(
                key=key, config=config.document(), **common, threads=1, share=asdict(Share(1, float(device == "cuda")))
            )
            for key, config in zip(keys, configs, strict=True)
        ]
        for each in together(assignments, device, work):
            told[each.key].append(each)
    return told


def test_each_comes_to_what_it_comes_to_alone(configs: list[TrialConfig], lines_corpus: Path, tmp_path: Path) -> None:
    """To the bit: architectures, objectives, precisions and updates side by side."""
    store, alone = TrialStore(tmp_path / "together"), TrialStore(tmp_path / "alone")
    told = run_together(configs, store, lines_corpus)
    for config, (key, said) in zip(configs, told.items(), strict=True):
        expected = run_trial(config, alone, lines_corpus)
        assert expected.key == key
        assert not list(differences(numbers(expected), numbers(store.result(key))))
        weights, others = alone.weights(key), store.weights(key)
        assert all(torch.equal(weights[name], others[name]) for name in weights)
        *epochs, end = said
        assert [each.epoch.epoch for each in epochs if each.epoch] == list(range(1, config.train.epochs + 1))
        assert end == Told(key)
    results = store.results(told).values()
    assert max(result.started for result in results) < min(result.finished for result in results), "one after the other"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_each_comes_to_what_it_comes_to_alone_on_a_gpu(
    configs: list[TrialConfig], lines_corpus: Path, tmp_path: Path
) -> None:
    store, alone = TrialStore(tmp_path / "together"), TrialStore(tmp_path / "alone")
    told = run_together(configs, store, lines_corpus, device="cuda")
    for config, key in zip(configs, told, strict=True):
        expected = run_trial(config, alone, lines_corpus, device="cuda")
        assert store.result(key).test == pytest.approx(expected.test, rel=1e-4)


def test_one_that_fails_leaves_the_others_alone(configs: list[TrialConfig], lines_corpus: Path, tmp_path: Path) -> None:
    bad = TrialConfig.parse({**SMALL, "update": {"kind": "joint", "learning_rate": 1e38}, "seed": 0})
    store, alone = TrialStore(tmp_path / "together"), TrialStore(tmp_path / "alone")
    told = run_together([configs[1], bad, configs[3]], store, lines_corpus)
    first, failed, last = told
    assert store.failure(failed).kind == "non-finite", store.failure(failed).traceback
    assert told[failed][-1] == Told(failed)  # the store has all that is to be known
    for key, config in ((first, configs[1]), (last, configs[3])):
        expected = run_trial(config, alone, lines_corpus)
        assert not list(differences(numbers(expected), numbers(store.result(key))))
        assert "not finite" not in store.log(key)


def test_what_the_store_does_not_know_is_told(configs: list[TrialConfig], lines_corpus: Path, tmp_path: Path) -> None:
    def work(assignment: Assignment, device: str, report: Report) -> None:
        if TrialConfig.parse(assignment.config).seed == 1:
            raise ConnectionResetError("the store was away")
        train(assignment, device, report)

    store = TrialStore(tmp_path / "together")
    first, lost, last = (told := run_together(configs[:3], store, lines_corpus, work))
    assert told[lost][-1].cause.splitlines()[-1] == "ConnectionResetError: the store was away"
    assert [store.state(key) for key in (first, lost, last)] == ["done", "missing", "done"]


def test_a_gpu_that_fails_one_fails_all(configs: list[TrialConfig], lines_corpus: Path, tmp_path: Path) -> None:
    def work(assignment: Assignment, device: str, report: Report) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        run_together(configs[:2], TrialStore(tmp_path / "together"), lines_corpus, work)


def test_a_warning_stands_in_the_log_of_its_own_trial(
    configs: list[TrialConfig], lines_corpus: Path, tmp_path: Path
) -> None:
    """All of them run when each warns."""
    running = threading.Barrier(3)

    def warning(model: object, precision: str) -> Any:
        running.wait(30)
        logging.getLogger("model").warning("this is %s", threading.current_thread().name)
        running.wait(30)
        return model

    store = TrialStore(tmp_path / "together")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweep.trial.at_precision", warning)
        told = run_together(configs[:3], store, lines_corpus)
    for key in told:
        assert re.findall("this is (.*)", store.log(key)) == [key[:12]]


def test_those_that_are_stopped_go_on_alone(configs: list[TrialConfig], lines_corpus: Path, tmp_path: Path) -> None:
    """From their checkpoints, to the same bits."""
    store, alone = TrialStore(tmp_path / "together"), TrialStore(tmp_path / "alone")

    def work(assignment: Assignment, device: str, report: Report) -> None:
        def stop_all(record: EpochRecord) -> None:
            report(record)
            request_stop(store.launches, assignment.launch)

        train(assignment, device, stop_all)

    longer = [replace(config, train=config.train.model_copy(update={"epochs": 200})) for config in configs[:3]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "WATCHED", 0.01)
        told = run_together(longer, store, lines_corpus, work)
    assert {store.state(key) for key in told} == {"started"}
    assert all(store.progress(key)["epoch"] < 200 for key in told)
    for config, key in zip(longer, told, strict=True):
        expected, found = run_trial(config, alone, lines_corpus), run_trial(config, store, lines_corpus)
        assert found.key == key
        assert not list(differences(numbers(expected), numbers(found)))
