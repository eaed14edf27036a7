"""Refinement of a posterior's parameters by gradient descent on the loss of each sentence, and its own derivative.

Kim et al. 2018, Algorithm 1: K steps with momentum from where the encoder starts, and the loss after them
differentiated through the steps. That takes, for each step, the product of the loss's Hessian with a vector.

Shapes: B sentences, n latent dimensions; parameters are (2, B, n), the mean and the log-variance of each latent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

InnerLoss = Callable[[Tensor, Sequence[Tensor], bool], Tensor]
"""The scalar that one step lowers, of (2, B, n) parameters and of weights: a sum of one term a sentence, divided by the
size of a batch. The same whenever it is called. The last argument: whether its gradient is differentiated again."""

SecondOrder = Literal["exact", "finite", "kim_clip"]
"""How a Hessian is multiplied: by differentiating twice; by the difference of gradients at two places near each other;
or as the code of Kim et al. does, which clips one of the two, so that what comes out is close to no Hessian's."""

EPSILON = 1e-5
"""By which the code of Kim et al. multiplies the vector for its differences, whatever its length."""


@dataclass(frozen=True)
class Descent:
    """Settings of the steps, for parameters of a loss that is the mean over a batch (Kim et al.: 1, 0.5, 5, 5).

    batch: sentences in that batch. clip: on the norms of the gradients of means and of log-variances, each by itself.
    backward_clip: on those that come back through each step in the same way, and on the gradient of all weights that
    comes back from all steps. Steps that overshoot multiply it from one to the next, without a limit otherwise.
    together: whether the norm is that of the sentences at hand; otherwise it is, for each, that of `batch` like it, so
    that no sentence has a part in another's steps.
    """

    learning_rate: float
    momentum: float
    clip: float
    backward_clip: float
    batch: int
    together: bool = False

    def run(self, start: Tensor, steps: Sequence[InnerLoss], direction: "Direction") -> Tensor:
        """(2, B, n) parameters after one step down each of the losses."""
        parameters, velocity = start, torch.zeros_like(start)
        for loss in steps:
            parameters, downhill = direction(loss, parameters)
            velocity = self.momentum * velocity + downhill
            parameters = parameters + self.learning_rate * velocity
        return parameters

    def clipped(self, gradient: Tensor) -> Tensor:
        """(2, B, n), scaled down where it is above `clip`. Differentiable wherever the loss is twice."""
        return self._within(self.clip, gradient)

    def clipped_back(self, gradient: Tensor) -> Tensor:
        return self._within(self.backward_clip, gradient)

    def _within(self, clip: float, gradient: Tensor) -> Tensor:
        squares = gradient.square().sum(dim=-1, keepdim=True)
        squares = squares.sum(dim=1, keepdim=True) if self.together else self.batch * squares
        # The bound goes before the root, whose slope at 0 is infinite.
        return gradient * (clip / squares.clamp(min=clip**2).sqrt())


Direction = Callable[[InnerLoss, Tensor], tuple[Tensor, Tensor]]
"""Of a step's loss and (2, B, n) parameters: the parameters, as what follows is to differentiate them, and where to."""


def once(descent: Descent, weights: Sequence[Tensor]) -> Direction:
    """Refinement that nothing is differentiated through; its derivative is 0."""
    fixed = [weight.detach() for weight in weights]
    return lambda loss, parameters: (parameters, -descent.clipped(slope(loss, parameters, fixed)))


def through(descent: Descent, second_order: SecondOrder, weights: Sequence[Tensor]) -> Direction:
    """Refinement that is differentiated with respect to where it starts and to the weights of the loss."""
    if second_order == "kim_clip":
        return _as_kim(descent, weights)
    product = {"exact": exact_product, "finite": finite_product}[second_order]
    weights = _ClippedTogether.apply(descent.backward_clip, *weights)  # type: ignore[no-untyped-call]

    def direction(loss: InnerLoss, parameters: Tensor) -> tuple[Tensor, Tensor]:
        kept: Tensor = _ClippedBack.apply(parameters, descent)  # type: ignore[no-untyped-call]
        gradient: Tensor = _Slope.apply(loss, product, kept, *weights)  # type: ignore[no-untyped-call]
        return kept, -descent.clipped(gradient)

    return direction


def slope(loss: InnerLoss, parameters: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """(2, B, n) gradient of the loss with respect to the parameters alone, without a graph."""
    return _slopes(loss, parameters, weights, of_weights=False)[0]


def _slopes(
    loss: InnerLoss, parameters: Tensor, weights: Sequence[Tensor], *, of_weights: bool = True
) -> tuple[Tensor, *tuple[Tensor | None, ...]]:
    """The gradient with respect to the parameters and each of the weights; None for weights that do not matter."""
    with torch.enable_grad():
        parameters = parameters.detach().requires_grad_()
        weights = [weight.detach().requires_grad_(of_weights) for weight in weights]
        wanted = (parameters, *weights) if of_weights else (parameters,)
        found = torch.autograd.grad(loss(parameters, weights, False), wanted, allow_unused=True)
    return found[0], *found[1:]


Product = Callable[[InnerLoss, Tensor, Sequence[Tensor], Tensor], tuple[Tensor | None, ...]]
"""Of a loss, (2, B, n) parameters, weights and a vector like the parameters: the Hessian's rows of the parameters and
of each of the weights, times the vector."""


def exact_product(
    loss: InnerLoss, parameters: Tensor, weights: Sequence[Tensor], vector: Tensor
) -> tuple[Tensor | None, ...]:
    with torch.enable_grad():
        parameters = parameters.detach().requires_grad_()
        weights = [weight.detach().requires_grad_() for weight in weights]
        (gradient,) = torch.autograd.grad(loss(parameters, weights, True), parameters, create_graph=True)
        return torch.autograd.grad(gradient, (parameters, *weights), vector, allow_unused=True)


def finite_product(
    loss: InnerLoss, parameters: Tensor, weights: Sequence[Tensor], vector: Tensor
) -> tuple[Tensor | None, ...]:
    # As far apart as leaves half the digits to the difference.
    distance = 10.0 * torch.finfo(vector.dtype).eps ** 0.5
    scale = distance / vector.norm().clamp(min=torch.finfo(vector.dtype).tiny ** 0.5)
    near = _slopes(loss, parameters, weights)
    far = _slopes(loss, parameters + scale * vector, weights)
    return _quotients(far, near, scale)


def _quotients(
    far: Sequence[Tensor | None], near: Sequence[Tensor | None], scale: Tensor | float
) -> tuple[Tensor | None, ...]:
    pairs = zip(far, near, strict=True)
    return tuple(None if one is None or other is None else (one - other) / scale for one, other in pairs)


class _Slope(torch.autograd.Function):
    """The gradient of a step's loss, differentiable by a product with its Hessian.

    Nothing but the arguments is kept for that: the loss is computed anew, so that memory does not grow with its graph.
    """

    @staticmethod
    def forward(ctx: Any, loss: InnerLoss, product: Product, parameters: Tensor, *weights: Tensor) -> Tensor:
        ctx.loss, ctx.product = loss, product
        ctx.save_for_backward(parameters, *weights)
        return slope(loss, parameters, [weight.detach() for weight in weights])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        parameters, *weights = ctx.saved_tensors
        return None, None, *ctx.product(ctx.loss, parameters, weights, *gradients)


class _ClippedBack(torch.autograd.Function):
    """The identity; the gradient that comes back through it is clipped, of each sentence if its steps are."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, descent: Descent) -> Tensor:
        ctx.descent = descent
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.descent.clipped_back(*gradients), None


class _ClippedTogether(torch.autograd.Function):
    """The identity of some tensors; the gradients that come back through it are clipped as one vector."""

    @staticmethod
    def forward(ctx: Any, clip: float, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.clip = clip
        ctx.set_materialize_grads(False)
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, *_clipped_together(gradients, ctx.clip)


def _clipped_together(gradients: Sequence[Tensor | None], clip: float) -> tuple[Tensor | None, ...]:
    norm = torch.nn.utils.get_total_norm([each for each in gradients if each is not None])
    factor = (clip / norm).clamp(max=1.0)
    return tuple(None if each is None else each * factor for each in gradients)


def _as_kim(descent: Descent, weights: Sequence[Tensor]) -> Direction:
    def direction(loss: InnerLoss, parameters: Tensor) -> tuple[Tensor, Tensor]:
        (kept,) = _ClippedTogether.apply(descent.clip, parameters)  # type: ignore[no-untyped-call]
        return kept, _KimDirection.apply(loss, descent, kept, *weights)  # type: ignore[no-untyped-call]

    return direction


class _KimDirection(torch.autograd.Function):
    """Downhill, clipped, with the derivative of `optim_n2n.py` of Kim et al., defect included.

    The gradient at the far place is clipped as a whole, parameters and weights together; at the near one the
    parameters' is clipped as in a step, and the weights' is not. Clipping itself counts as the identity.
    """

    @staticmethod
    def forward(ctx: Any, loss: InnerLoss, descent: Descent, parameters: Tensor, *weights: Tensor) -> Tensor:
        ctx.loss, ctx.descent = loss, descent
        ctx.save_for_backward(parameters, *weights)
        return -descent.clipped(slope(loss, parameters, [weight.detach() for weight in weights]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        parameters, *weights = ctx.saved_tensors
        clip = ctx.descent.clip
        gradient, *of_weights = _slopes(ctx.loss, parameters, weights)
        near = (ctx.descent.clipped(gradient), *of_weights)
        far = _clipped_together(_slopes(ctx.loss, parameters + EPSILON * gradients[0], weights), clip)
        of_parameters, *rest = _quotients(far, near, EPSILON)
        products = (of_parameters, *_clipped_together(rest, clip))
        return None, None, *(None if each is None else -each for each in products)
