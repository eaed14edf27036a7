"""Steps that are repeated come to the bits of steps that are taken one by one, and ask the host for nothing.

Here on a CPU, where nothing is recorded: what a GPU records is the same functions on the same tensors.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model import cross_entropy, train
from model.core import TextModel
from model.repeated import Repeated
from model.steps import OneByOne, Steps, Syllabus
from model.update import Update
from sweep.claims import Launch
from sweep.config import TrialConfig, kinds
from sweep.outcome import Right, StoppedError
from sweep.record import TrialResult
from sweep.store import TrialStore
from sweep.trial import run_trial
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

    def steps_of(model: TextModel, update: Update, syllabus: Syllabus) -> Steps:
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


def assert_equal(found: TrialResult, expected: TrialResult) -> None:
    assert found.key == expected.key
    assert not list(differences(numbers(expected), numbers(found)))
