"""Settings of the process: chosen by what they do, not by what they are called."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from model import host


def rounded_to(bits: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A product whose factors keep so many bits of their mantissas, as hardware of lower precision has it."""

    def product(a: Tensor, b: Tensor) -> Tensor:
        return cut(a) @ cut(b)

    def cut(x: Tensor) -> Tensor:
        mantissa, exponent = torch.frexp(x)
        return torch.ldexp(torch.round(mantissa * 2**bits) / 2**bits, exponent)

    return product


def test_products_of_float32_pass() -> None:
    assert host.multiplies_in_single(torch.mm)


@pytest.mark.parametrize(
    ("name", "bits"), [("bfloat16", 8), ("TF32 and half precision", 11), ("a split of bfloat16", 16)]
)
def test_products_of_fewer_bits_do_not(name: str, bits: int) -> None:
    assert not host.multiplies_in_single(rounded_to(bits))


def test_products_that_are_wrong_for_one_layout_do_not() -> None:
    def product(a: Tensor, b: Tensor) -> Tensor:
        return a @ b if b.is_contiguous() else a @ b.bfloat16().float()

    assert not host.multiplies_in_single(product)


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_set_up_decides_for_the_process() -> None:
    program = "from model import host; import torch; host.set_up(); host.set_up(2); "
    assert run(program + "print(torch.get_num_threads(), host.multiplies_in_single(torch.mm))") == "2 True"


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_freed_memory_stays_and_is_used_again() -> None:
    """The second round of large allocations needs no new page."""
    program = """
import resource, torch
from model import host
host.set_up()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    assert int(run(program)) < 2**24 * 4 / 4096 / 8


def test_float32_is_float32_on_a_gpu_too() -> None:
    """The settings are there without one."""
    host.set_up()
    backends: Any = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.rnn, backends.cudnn.conv)
    assert [part.fp32_precision for part in parts] == ["ieee"] * 3
