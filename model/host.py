"""How this process uses the machine: threads, memory, and the library that multiplies matrices on a CPU."""

import ctypes
import functools
import re
import resource
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
STREAMS = 32
"""Of a process on a GPU: PyTorch then hands out the first again."""
GPU_CONTEXT = 768 * 2**20
"""Bytes of a GPU that CUDA and its libraries take for each process, beside what PyTorch allocates. Not measured."""


def set_up(threads: int = 1) -> None:
    """Settings of the whole process, for trials on a CPU; on a GPU they do nothing that is felt.

    threads: one by default, since as many trials side by side do more work than as many threads in one trial.
    """
    torch.set_num_threads(threads)
    keep_memory()
    choose_products()


@functools.cache
def keep_memory() -> None:
    """Have freed memory stay with the process: every step asks for the same again, and fresh pages cost time.

    Where the C library is not glibc nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@functools.cache
def choose_products() -> None:
    """Have a GPU multiply float32 matrices in float32, and on a CPU oneDNN if what it then gives is float32.

    PyTorch asks it only where a lower precision is allowed. A CPU with AVX-512 alone then still computes in float32,
    faster than MKL; one with AMX rounds to bfloat16. So the numbers decide, never the name of the setting.
    """
    # Once in a process: a training beside this one may have a GPU do otherwise for the moment.
    multiply_on_gpu_in("ieee")
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    matmul.fp32_precision = "bf16"
    if not multiplies_in_single(torch.mm):
        matmul.fp32_precision = "ieee"


def multiply_on_gpu_in(precision: Literal["ieee", "tf32"]) -> None:
    """What a GPU makes of float32 matrices; PyTorch would let cuDNN's LSTMs and convolutions round them to TF32."""
    backends: Any = torch.backends
    for part in (backends.cuda.matmul, backends.cudnn.rnn, backends.cudnn.conv):
        part.fp32_precision = precision


def multiplies_in_single(product: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Whether products of float32 matrices have the error of float32: on small and large ones, transposed or not.

    The relative error of a product of random matrices is about 2^-24 in float32, 2^-11 in TF32, 2^-9 in bfloat16.
    """
    source = torch.Generator().manual_seed(0)
    for rows, inner, columns in ((32, 400, 1600), (320, 1600, 400), (512, 1024, 2048)):
        left = torch.randn(rows, inner, generator=source)
        right = torch.randn(inner, columns, generator=source)
        exact = left.double() @ right.double()
        for a, b in ((left, right), (left, right.t().contiguous().t()), (left.t().contiguous().t(), right)):
            if (product(a, b) - exact).norm() > 2**-18 * exact.norm():
                return False
    return True


def own_stream(device: str) -> AbstractContextManager[object]:
    """Have what this thread gives a GPU to do wait for nothing but what it has given it before; nothing on a CPU."""
    if device != "cuda":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]


def empty_gpu_memory() -> None:
    """Give back what PyTorch keeps of a GPU for what comes next; nothing of this process may be running there."""
    # A workspace for each pair of a thread and a stream that multiplied matrices, up to 32 MiB: not in its cache.
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()


def limit_gpu_memory(share: float) -> None:
    """Have this process take no more of its GPU's memory than its share, CUDA's own part of it included."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(allocator_fraction(share, total))


def allocator_fraction(share: float, total: int) -> float:
    """Of a GPU of `total` bytes, what PyTorch may allocate for a process that has a share of it."""
    return 1.0 if share >= 1 else max(0.0, share - GPU_CONTEXT / total)


def peak_memory() -> int:
    """Bytes of this process that were resident at the most until now."""
    try:
        # Of this program alone: getrusage begins with what the parent had when it made the process.
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
