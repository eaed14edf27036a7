"""The precision that training computes in; parameters, their optimizer and every evaluation stay in float32."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from model import host
from model.core import Bound, Reader, TextModel

Precision = Literal["fp32", "tf32", "bf16"]
"""tf32: float32 of which a GPU's matrix products read 10 bits of the mantissa (Ampere and newer); on a CPU, fp32."""

logger = logging.getLogger(__name__)


def at_precision(model: TextModel, precision: Precision) -> TextModel:
    """What an update trains: the model itself, or its bfloat16 image with the same parameters."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    if precision == "tf32" and on_cpu:
        logger.warning("a CPU has no TF32: train.precision tf32 is fp32 here")
    if precision != "bf16":
        return model
    if on_cpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        logger.warning("this CPU has no bfloat16 arithmetic: train.precision bf16 is many times slower than fp32 here")
    return InBfloat16(model)


_PRODUCTS = threading.RLock()


@contextmanager
def products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Have a GPU multiply float32 matrices as a training at `precision` does, in what is launched meanwhile.

    That is a setting of the process: whatever goes by it, evaluations included, is launched by one thread at a time.
    """
    if device.type != "cuda":
        yield
        return
    with _PRODUCTS:
        if precision == "tf32":
            host.multiply_on_gpu_in("tf32")
        try:
            yield
        finally:
            host.multiply_on_gpu_in("ieee")


def at_least_single(x: Tensor) -> Tensor:
    """x, or its float32 where it has fewer bits: for probabilities, KL terms and what adds up over steps."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class InBfloat16(TextModel):
    """A model seen through weights rounded to bfloat16; gradients arrive at the float32 parameters."""

    def __init__(self, model: TextModel):
        super().__init__()
        self.model = model
        self.latents_per_sentence = model.latents_per_sentence
        self.training_draws = model.training_draws
        self.is_repeatable = model.is_repeatable

    def initialise(self, generator: torch.Generator) -> None:
        self.model.initialise(generator)

    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        return self.model.draw_noise(num_sentences, draws, generator)

    def weighing(self, beta: float) -> "InBfloat16":
        return InBfloat16(self.model.weighing(beta))

    def bound(self, tokens: Tensor, noise: Tensor, generator: torch.Generator) -> Bound:
        bound: Bound = self.through(type(self.model).bound, tokens, noise, generator)
        return bound.map(at_least_single)

    def through(self, function: Callable[..., Any], *arguments: Any) -> Any:
        rounded = {name: parameter.bfloat16() for name, parameter in self.model.named_parameters()}
        return functional_call(self.model, rounded, (function, *arguments))

    def inference_parameters(self) -> Sequence[nn.Parameter]:
        return self.model.inference_parameters()

    def reader(self, latents: Tensor) -> Reader:
        return self.model.reader(latents)

    @property
    def operations_per_token(self) -> float:
        return self.model.operations_per_token
