"""The softmax layer and its cross-entropy in one, in chunks of rows: the (N, V) logits never exist as a whole.

The gradient is made in the forward pass, while a chunk's probabilities are at hand; backward only scales it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from model.precision import at_least_single

CHUNK_BYTES = 28 * 2**20
"""Of logits at a time. Above 32 MiB glibc gives memory back to the system after each use and fetches it anew."""

MIN_ROWS = 256
"""Of a chunk: with fewer rows the matrix products lose speed."""


def cross_entropy(hidden: Tensor, layer: nn.Linear, targets: Tensor, *, equal_weights: bool) -> Tensor:
    """(N, K) −log softmax(layer(hidden))[target] in nats, of (N, m) hidden states with K targets each.

    With `equal_weights` the gradient holds for losses in which all targets weigh the same, once, and memory is bounded.
    Without, it holds for any loss and can be differentiated again, at the price of all logits at once.
    """
    if not torch.is_grad_enabled():
        return _nll(hidden, layer, targets)
    if equal_weights:
        nll: Tensor = _EquallyWeighted.apply(  # type: ignore[no-untyped-call]
            hidden, layer.weight, layer.bias, targets
        )
        return nll
    return -_logits(hidden, layer.weight, layer.bias).log_softmax(dim=1).gather(1, targets)


def _nll(hidden: Tensor, layer: nn.Linear, targets: Tensor) -> Tensor:
    parts = []
    for rows in _chunks(len(hidden), layer.out_features):
        logits = _logits(hidden[rows], layer.weight, layer.bias)
        log_p = torch.log_softmax(logits, dim=1, out=logits)
        parts.append(-log_p.gather(1, targets[rows]))
    return torch.cat(parts)


class _EquallyWeighted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        nll: list[Tensor] = []
        # Refinement of a posterior wants the gradient of the hidden states alone.
        d_hidden, d_weight = torch.empty_like(hidden), torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        d_bias = None if bias is None else torch.zeros_like(bias)
        for number, rows in enumerate(_chunks(len(hidden), len(weight))):
            logits, expected = _logits(hidden[rows], weight, bias), targets[rows]
            chosen, top = logits.gather(1, expected), logits.amax(dim=1, keepdim=True)
            p = torch.softmax(logits, dim=1, out=logits)
            # log Σ exp = the highest logit − log of its probability, which, unlike the target's, is never tiny.
            nll.append(top - p.amax(dim=1, keepdim=True).log() - chosen)
            # The gradient of the logits, in their place.
            if targets.shape[1] > 1:
                p *= targets.shape[1]
            slope = p.scatter_add_(1, expected, torch.full_like(chosen, -1.0)).to(weight.dtype)
            torch.mm(slope, weight, out=d_hidden[rows])
            if d_weight is not None:
                d_weight.addmm_(slope.t(), hidden[rows], beta=min(number, 1))
            if d_bias is not None:
                d_bias += slope.sum(dim=0)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return torch.cat(nll)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weights,) = gradients
        scale = weights[0, 0]
        # On a GPU the question would make every step wait for its answer.
        assert weights.is_cuda or are_equal(weights), "targets of unequal weight need equal_weights=False"
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        scaled = (None if each is None else each.mul_(scale) for each in (d_hidden, d_weight, d_bias))
        return *scaled, None


def are_equal(weights: Tensor) -> bool:
    """Whether all that are numbers are the same one."""
    return bool(((weights == weights[0, 0]) | ~weights.isfinite()).all())


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return at_least_single(functional.linear(hidden, weight, bias))


def _chunks(num_rows: int, width: int) -> Iterator[slice]:
    """Consecutive rows, in as few and as equal chunks as the limits allow."""
    most = max(MIN_ROWS, CHUNK_BYTES // (4 * width))
    size = -(-num_rows // -(-num_rows // most))
    for start in range(0, num_rows, size):
        yield slice(start, start + size)
