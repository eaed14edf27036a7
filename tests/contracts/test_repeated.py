"""Steps that are repeated come to the bits of steps that are taken one by one, and ask the host for nothing.

Here on a CPU, where nothing is recorded: what a GPU records is the same functions on the same tensors.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from data.cache import load
from data.vocabulary import from_sentences
from model import cross_entropy, host, train
from model.core import TextModel
from model.precision import at_precision
from model.repeated import Repeated
from model.steps import OneByOne, Steps, Syllabus
from model.update import Update
from sweep.claims import Launch
from sweep.config import TrialConfig, kinds
from sweep.one import train_one
from sweep.outcome import Right, StoppedError
from sweep.record import TrialResult
from sweep.store import TrialStore
from sweep.trial import prepare, run_trial
from sweep.verify import differences, numbers
from tests.contracts.test_resume import AfterSteps, documents

OBJECTIVES = [kind for kind in kinds("objective") if kind != "elbo"]
DOCUMENTS = documents()
DOCUMENTS |= {
    f"objective {kind}": {**DOCUMENTS["lstm_vae under joint"], "objective": {"kind": kind}} for kind in OBJECTIVES
}
NOT_REPEATABLE = {"sa_vae under joint", *(name for name in DOCUMENTS if name.endswith("under aggressive"))}


aten = torch.ops.aten
HOSTS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.lift_fresh.default, aten.equal.default)
"""Operations that wait for a device, or that send it what is only known on the host."""


class HostIsAskedError(Exception):
    """A number of the device was wanted on the host."""


class AsksNothing(TorchDispatchMode):
    """In which nothing waits for a device."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in HOSTS:
            raise HostIsAskedError(str(function))
        return function(*args, **(kwargs or {}))


class Watched(Repeated):
    taken: int = 0

    def _do(self, sentences: int, length: int) -> None:
        Watched.taken += 1
        with AsksNothing():
            super()._do(sentences, length)


@pytest.fixture
def repeating(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the trainings that follow repeat their steps where they can, as on a GPU."""

    def steps_of(model: TextModel, update: Update, syllabus: Syllabus, *, graphs: bool) -> Steps:
        return (Watched if model.is_repeatable and update.is_repeatable else OneByOne)(model, update, syllabus)

    def repeat() -> None:
        monkeypatch.setattr(train, "steps_of", steps_of)
        monkeypatch.setattr(cross_entropy, "are_equal", lambda weights: True)  # as on a GPU, where it is not asked

    return repeat


@pytest.mark.parametrize("name", DOCUMENTS)
def test_it_comes_to_the_same_bits(
    name: str, repeating: Callable[[], None], lines_corpus: Path, tmp_path: Path
) -> None:
    config = TrialConfig.parse(DOCUMENTS[name])
    expected = run_trial(config, TrialStore(tmp_path / "one by one"), lines_corpus)
    repeating()
    Watched.taken = 0
    found = run_trial(config, TrialStore(tmp_path / "repeated"), lines_corpus)
    assert_equal(found, expected)
    assert (Watched.taken > 0) == (name not in NOT_REPEATABLE)


def test_it_goes_on_in_the_middle_of_an_epoch(
    repeating: Callable[[], None], lines_corpus: Path, tmp_path: Path
) -> None:
    config = TrialConfig.parse(DOCUMENTS["adam"])
    expected = run_trial(config, TrialStore(tmp_path / "one by one"), lines_corpus)
    repeating()
    store = TrialStore(tmp_path / "repeated")
    with Launch(store.launches, "") as launch, pytest.raises(StoppedError):
        run_trial(config, store, lines_corpus, right=Right(launch.id, AfterSteps(10)))
    assert store.progress(expected.key)["step"] > 0
    assert_equal(run_trial(config, store, lines_corpus), expected)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_gpu_repeats_what_can_be_unless_it_is_told_not_to(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (Repeated, OneByOne):
        monkeypatch.setattr(train, each.__name__, lambda *given, chosen=each: chosen)
    config = TrialConfig.parse(DOCUMENTS[name])
    model = config.model.build(from_sentences([["a"]], "<unk>"))
    update = config.update.build(at_precision(model, config.train.precision))
    assert train.steps_of(model, update, None) is OneByOne
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(model, "parameters", lambda: iter([on_gpu]))
    can_be = OneByOne if name in NOT_REPEATABLE else Repeated
    assert train.steps_of(model, update, None) is can_be
    assert train.steps_of(model, update, None, graphs=False) is OneByOne


def test_whether_a_gpu_is_to_repeat_steps_comes_from_the_resources(
    monkeypatch: pytest.MonkeyPatch, lines_corpus: Path, tmp_path: Path
) -> None:
    asked = []

    def steps_of(model: TextModel, update: Update, syllabus: Syllabus, *, graphs: bool) -> Steps:
        asked.append(graphs)
        return OneByOne(model, update, syllabus)

    monkeypatch.setattr(train, "steps_of", steps_of)
    spec = tmp_path / "spec.yaml"
    base = {name: DOCUMENTS["lstm_lm under joint"][name] for name in ("data", "model", "train")}
    spec.write_text(json.dumps({"name": "one", "base": base, "seeds": 1}))
    for override in ((), ("resources.graphs=false",)):
        store = TrialStore(tmp_path / f"results {override}")
        train_one(str(spec), override, 0, store, lines_corpus, "cpu", 1, quiet=True)
    assert asked == [True, False]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_gpu_comes_to_the_same_numbers_by_its_graphs(
    name: str, monkeypatch: pytest.MonkeyPatch, lines_corpus: Path, tmp_path: Path
) -> None:
    recorded = []

    def record(steps: Repeated, *shape: int) -> torch.cuda.CUDAGraph:
        recorded.append(shape)
        return RECORD(steps, *shape)

    monkeypatch.setattr(Repeated, "_record", record)
    config = TrialConfig.parse(DOCUMENTS[name])
    stores = [TrialStore(tmp_path / how) for how in ("eager", "graphed")]
    eager, graphed = (
        run_trial(config, store, lines_corpus, device="cuda", graphs=graphs)
        for store, graphs in zip(stores, (False, True), strict=True)
    )
    assert graphed.test == pytest.approx(eager.test, rel=1e-4)
    assert bool(recorded) == (name not in NOT_REPEATABLE)


RECORD = Repeated._record


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_waited_for_nowhere_in_an_epoch(lines_corpus: Path) -> None:
    config = TrialConfig.parse(DOCUMENTS["lstm_vae under joint"])
    corpus = load(config.data, lines_corpus)
    with host.own_stream("cuda"):
        training = prepare(config, corpus, "cuda")
        syllabus = train.syllabus_of(corpus, config.schedule, config.objective, config.train, config.seed)
        steps = train.steps_of(training.model, training.update, syllabus)
        for epoch in range(1, steps.ready_after + 1):
            assert list(steps.take(epoch, None))
        numbers = steps.take(steps.ready_after + 1, None)
        next(numbers)  # an epoch begins with a word to the device
        torch.cuda.set_sync_debug_mode("error")
        try:
            assert list(numbers)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def assert_equal(found: TrialResult, expected: TrialResult) -> None:
    assert found.key == expected.key
    assert not list(differences(numbers(expected), numbers(found)))
