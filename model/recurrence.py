"""An LSTM over inputs that are partly the same at every step, the same for several chains, or both.

PyTorch's own wants the whole input. For many chains on a CPU the input projection is split instead: the part of the
words is computed once for all chains that read the same ones, the part of whatever stays the same in time (the latent)
once for all steps, as a bias of each row. The loop over steps is then matrix products and little else.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from model.precision import at_least_single

aten = torch.ops.aten


def lstm(
    module: nn.LSTM, words: Tensor, rows: Tensor, hidden: Tensor, cell: Tensor, *, twice: bool = False
) -> Tensor:  # fmt: skip
    """(T, C, B, m) hidden states of C chains of B sentences, from their (C, B, m) initial hidden and cell states.

    words: (T, C or 1, B or 1, d), read step by step, by all chains (sentences) if there is only one. rows: (C, B, n),
    beside them at every step. The module has one layer, d + n inputs and m outputs. Differentiable once, or with
    `twice` as often as one likes, at the price of speed and memory.
    """
    if twice:
        return _step_by_step(module, words, rows, hidden, cell)
    if not _split_pays(words, hidden):
        return _whole(module, words, rows, hidden, cell)
    of_inputs, of_hidden, input_bias, hidden_bias = module.all_weights[0]
    of_words, of_rows = of_inputs.split([words.shape[-1], rows.shape[-1]], dim=1)  # type: ignore[no-untyped-call]
    bias = functional.linear(rows, of_rows, input_bias + hidden_bias)
    states: Tensor = _Recurrence.apply(  # type: ignore[no-untyped-call]
        words, bias, hidden, cell, of_words, of_hidden, torch.is_grad_enabled()
    )
    return states


def _split_pays(words: Tensor, hidden: Tensor) -> bool:
    """As measured: for one chain nothing is saved, and below 2^13 numbers a step the calls cost more than they save."""
    is_shared = words.shape[1:3] != hidden.shape[:2]
    return not words.is_cuda and (is_shared or len(hidden) > 1) and hidden.numel() >= 2**13


def _whole(module: nn.LSTM, words: Tensor, rows: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
    """The same by the module itself: oneDNN on a CPU, cuDNN on a GPU."""
    steps, (chains, sentences) = len(words), rows.shape[:2]
    wide = torch.cat([words.expand(-1, chains, sentences, -1), rows.expand(steps, -1, -1, -1)], dim=-1)
    start = hidden.flatten(0, 1).unsqueeze(0), cell.flatten(0, 1).unsqueeze(0)
    # The module's own call goes by its mode, and what cuDNN did in evaluation it cannot differentiate.
    is_kept = torch.is_grad_enabled()
    states: Tensor = torch.lstm(
        wide.flatten(1, 2), start, tuple(module.all_weights[0]), True, 1, 0.0, is_kept, False, False
    )[0]
    return states.view(steps, chains, sentences, -1)


def _step_by_step(module: nn.LSTM, words: Tensor, rows: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
    """The same by its equations: neither oneDNN's nor cuDNN's backward pass can be differentiated again."""
    of_inputs, of_hidden, input_bias, hidden_bias = module.all_weights[0]
    of_words, of_rows = of_inputs.split([words.shape[-1], rows.shape[-1]], dim=1)  # type: ignore[no-untyped-call]
    bias = functional.linear(rows, of_rows, input_bias + hidden_bias)
    cell, states = at_least_single(cell), []
    for read in (functional.linear(words, of_words) + bias).unbind():
        i, f, g, o = (read + functional.linear(hidden, of_hidden)).chunk(4, dim=-1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = (o.sigmoid() * cell.tanh()).to(hidden.dtype)
        states.append(hidden)
    return torch.stack(states)


class _Recurrence(torch.autograd.Function):
    """Gates in PyTorch's order: input, forget, candidate, output (Gers et al. 2000).

    Without `keep`, for a gradient, cells and gates are there for one step alone. Cells, which add up over the steps,
    and their gradients are float32 even where the rest is bfloat16.
    """

    @staticmethod
    def forward(
        ctx: Any,
        words: Tensor,
        bias: Tensor,
        hidden: Tensor,
        cell: Tensor,
        of_words: Tensor,
        of_hidden: Tensor,
        keep: bool,
    ) -> Tensor:
        steps, slots = len(words), len(words) if keep else 1
        projected = words.flatten(0, -2).mm(of_words.t()).view(*words.shape[:-1], -1)  # (T, C or 1, B or 1, 4m)
        cell = at_least_single(cell)
        states = hidden.new_empty(steps + 1, *hidden.shape)  # before the first step, and after each
        cells = cell.new_empty(slots + 1, *cell.shape)
        squashed = cell.new_empty(slots, *cell.shape)  # tanh of the cells
        # Where nothing is shared they take the projection's place.
        gates = projected if projected.shape[1:] == bias.shape else projected.new_empty(slots, *bias.shape)
        states[0], cells[0] = hidden, cell
        # Views are made once for all steps: at a batch's size their making is as dear as the arithmetic on them.
        each, flat, rows = gates.unbind(), gates.flatten(1, 2).unbind(), states.flatten(1, 2).unbind()
        minus_one = gates.new_tensor(-1.0)
        parts = [part.unbind() for part in gates.chunk(4, dim=-1)]
        c, tanh_c, h, to_gates = cells.unbind(), squashed.unbind(), states.unbind(), of_hidden.t()
        for step, read in enumerate(projected.unbind()):
            slot, kept = step % len(gates), step % slots
            i, f, g, o = (part[slot] for part in parts)
            before, after = (c[step], c[step + 1]) if keep else (c[step % 2], c[1 - step % 2])
            torch.add(read, bias, out=each[slot])
            flat[slot].addmm_(rows[step], to_gates)
            # tanh x = 2 sigmoid 2x − 1, in a third of the time of PyTorch's own on a CPU.
            g *= 2.0
            each[slot].sigmoid_()
            torch.add(minus_one, g, alpha=2.0, out=g)
            torch.mul(f, before, out=after).addcmul_(i, g)
            squash = torch.mul(after, 2.0, out=tanh_c[kept]).sigmoid_()
            torch.mul(o, torch.add(minus_one, squash, alpha=2.0, out=squash), out=h[step + 1])
        if keep:
            ctx.save_for_backward(words, of_words, of_hidden, gates, states, cells, squashed)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        words, of_words, of_hidden, gates, states, cells, squashed = ctx.saved_tensors
        d_hidden, d_cell = torch.zeros_like(states[0]), torch.zeros_like(cells[0])
        spare, other, d_rows = torch.empty_like(d_cell), torch.empty_like(d_cell), d_hidden.flatten(0, 1)
        # The gradients of the gates, before their sigmoid or tanh, take the place of the gates: they are the largest.
        flat = gates.flatten(1, 2).unbind()
        sigmoid_backward, tanh_backward = aten.sigmoid_backward.grad_input, aten.tanh_backward.grad_input
        each = zip(
            *(part.unbind() for part in gates.chunk(4, dim=-1)),
            *(part.unbind() for part in (gradients[0], cells[:-1], squashed)),
            strict=True,
        )
        for step, (i, f, g, o, d_state, c, tanh_c) in reversed(list(enumerate(each))):
            d_hidden += d_state
            torch.mul(d_hidden, o, out=spare)
            d_cell += tanh_backward(spare, tanh_c, grad_input=spare)
            sigmoid_backward(torch.mul(d_hidden, tanh_c, out=spare), o, grad_input=o)
            torch.mul(d_cell, i, out=spare)
            sigmoid_backward(torch.mul(d_cell, g, out=other), i, grad_input=i)
            tanh_backward(spare, g, grad_input=g)
            torch.mul(d_cell, c, out=spare)
            d_cell *= f
            sigmoid_backward(spare, f, grad_input=f)
            torch.mm(flat[step], of_hidden, out=d_rows)
        of_words_too, of_hidden_too = ctx.needs_input_grad[4:6]
        d_of_hidden = gates.flatten(0, 2).t().mm(states[:-1].flatten(0, 2)) if of_hidden_too else None
        d_projected = gates.sum_to_size(*words.shape[:-1], gates.shape[-1]).flatten(0, 2)
        d_words = d_projected.mm(of_words).view(words.shape) if ctx.needs_input_grad[0] else None
        d_of_words = d_projected.t().mm(words.flatten(0, 2)) if of_words_too else None
        return d_words, gates.sum(dim=0), d_hidden, d_cell, d_of_words, d_of_hidden, None
