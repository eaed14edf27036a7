"""Every random draw of a trial comes from a generator named by the trial's seed and by what it is for.

Draws for one purpose never move those for another: evaluating more, or more often, leaves training as it was.
"""

import hashlib

import torch
from torch import Tensor


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that is a pure function of (seed, purpose), e.g. (3, "train/epoch 7")."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def seed_of(source: torch.Generator) -> int:
    """A seed that is a pure function of where a generator stands, for draws that are to be made more than once.

    Leaves the generator there. Whoever asks again without drawing in between gets the same.
    """
    digest = hashlib.sha256(source.get_state().numpy().tobytes()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def dropout(x: Tensor, rate: float, source: torch.Generator) -> Tensor:
    """x with entries zeroed at `rate` and the rest scaled by 1 / (1 − rate); like torch's, but from a generator."""
    if rate == 0.0:
        return x
    # In single precision whatever x is, and several times faster than bernoulli_ on a CPU.
    keep = torch.rand(x.shape, generator=source, device=x.device).lt_(1.0 - rate).div_(1.0 - rate)
    return x * keep.to(x.dtype)
