"""What a GPU makes of float32 matrices: float32, but for a training at tf32. The settings need no GPU to be seen."""

import threading

import pytest
import torch

from model import host
from model.precision import products

GPU = torch.device("cuda")


def settings() -> set[str]:
    """Of all that multiplies."""
    cudnn = torch.backends.cudnn
    return {part.fp32_precision for part in (torch.backends.cuda.matmul, cudnn.rnn, cudnn.conv)}  # type: ignore[attr-defined,union-attr]


def test_tf32_is_of_a_training_alone() -> None:
    host.set_up()
    with products("tf32", GPU):
        assert settings() == {"tf32"}
        with products("fp32", torch.device("cpu")):
            assert settings() == {"tf32"}
    assert settings() == {"ieee"}
    with pytest.raises(ZeroDivisionError), products("tf32", GPU):
        raise ZeroDivisionError
    assert settings() == {"ieee"}


def test_an_evaluation_in_another_thread_waits_for_it() -> None:
    host.set_up()
    seen: list[set[str]] = []

    def evaluate() -> None:
        with products("fp32", GPU):
            seen.append(settings())

    with products("tf32", GPU):
        other = threading.Thread(target=evaluate)
        other.start()
        other.join(0.2)
        assert not seen
    other.join(10)
    assert seen == [{"ieee"}]
