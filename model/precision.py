"""The precision that training computes in; parameters, their optimizer and every evaluation stay in float32."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from model.core import Bound, Reader, TextModel

Precision = Literal["fp32", "bf16"]

logger = logging.getLogger(__name__)


def at_precision(model: TextModel, precision: Precision) -> TextModel:
    """What an update trains: the model itself, or its bfloat16 image with the same parameters."""
    if precision == "fp32":
        return model
    on_cpu = next(model.parameters()).device.type == "cpu"
    if on_cpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        logger.warning("this CPU has no bfloat16 arithmetic: train.precision bf16 is many times slower than fp32 here")
    return InBfloat16(model)


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
