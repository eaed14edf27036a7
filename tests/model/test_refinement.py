"""Descent on the parameters of posteriors, and its derivative: on losses whose Hessian is known, against other code."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from model.randomness import generator
from model.refinement import EPSILON, Descent, InnerLoss, exact_product, finite_product, once, through

SHAPE = (2, 4, 3)


def numbers(name: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(0, name), dtype=torch.float64)


def curved(scale: float = 1.0) -> InnerLoss:
    """Neither quadratic in the parameters nor linear in the weights, which are (3,) and (3, 3)."""
    offset = numbers(f"offset {scale}", *SHAPE)

    def loss(parameters: Tensor, weights: Sequence[Tensor], twice: bool) -> Tensor:
        first, second = weights
        mixed = torch.tanh((parameters + offset) @ second) * first
        return scale * (mixed.square().sum() + (first * parameters).exp().sum() / 8.0)

    return loss


def weights_of() -> list[Tensor]:
    return [numbers("first", 3).requires_grad_(), numbers("second", 3, 3).requires_grad_()]


def test_both_products_are_those_of_the_hessian() -> None:
    loss, weights, parameters, vector = curved(), weights_of(), numbers("parameters", *SHAPE), numbers("v", *SHAPE)
    hessians = torch.autograd.functional.hessian(lambda *all_: loss(all_[0], all_[1:], True), (parameters, *weights))
    expected = [torch.tensordot(vector, row, dims=3) for row in hessians[0]]
    for product, tolerance in ((exact_product, 1e-12), (finite_product, 1e-3)):
        for found, wanted in zip(product(loss, parameters, weights, vector), expected, strict=True):
            assert found is not None
            assert (found - wanted).norm() <= tolerance * wanted.norm()


def by_autograd(descent: Descent, losses: list[InnerLoss], start: Tensor, weights: list[Tensor]) -> Tensor:
    """The steps as they are written in the paper, differentiated as a whole."""
    parameters, velocity = start, torch.zeros_like(start)
    for loss in losses:
        (gradient,) = torch.autograd.grad(loss(parameters, weights, True), parameters, create_graph=True)
        clipped = torch.empty_like(gradient)
        for which in (0, 1):
            for row in range(gradient.shape[1]):
                part = gradient[which] if descent.together else gradient[which, row] * math.sqrt(descent.batch)
                factor = descent.clip / part.norm()
                clipped[which, row] = gradient[which, row] * (factor if factor < 1 else 1.0)
        velocity = descent.momentum * velocity - clipped
        parameters = parameters + descent.learning_rate * velocity
    return parameters


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("clip", [0.7, 3.0, 1e6])
def test_steps_and_their_derivative_are_those_of_the_paper(clip: float, together: bool) -> None:
    descent, losses = Descent(0.3, 0.5, clip, 1e6, 4, together), [curved(), curved(0.5), curved(0.25)]
    results = []
    for way in ("paper", "exact", "finite"):
        start, weights = numbers("start", *SHAPE).requires_grad_(), weights_of()
        if way == "paper":
            end = by_autograd(descent, losses, start, weights)
        else:
            end = descent.run(start, losses, through(descent, way, weights))  # type: ignore[arg-type]
        results.append((end, *torch.autograd.grad(end.sin().sum(), (start, *weights))))
    for tolerance, found in ((1e-12, results[1]), (2e-4, results[2])):
        for one, wanted in zip(found, results[0], strict=True):
            assert (one - wanted).norm() <= tolerance * wanted.norm()
    without = descent.run(numbers("start", *SHAPE), losses, once(descent, weights_of()))
    assert not without.requires_grad
    assert torch.equal(without, results[1][0])


@pytest.mark.parametrize("together", [False, True])
def test_steps_that_overshoot_do_not_make_gradients_explode(together: bool) -> None:
    """At a curvature of 10 each step of length 1 multiplies what comes back by more than 9; it is clipped each time."""
    losses: list[InnerLoss] = [lambda parameters, weights, twice: 5.0 * (parameters * weights[0]).square().sum()] * 20
    largest = {}
    for backward_clip in (1e60, 0.5):
        descent = Descent(1.0, 0.5, 1e60, backward_clip, 4, together)
        start, weight = (
            numbers("start", *SHAPE).requires_grad_(),
            torch.ones(3, dtype=torch.float64, requires_grad=True),
        )
        end = descent.run(start, losses, through(descent, "exact", [weight]))
        of_start, of_weight = torch.autograd.grad(end, (start, weight), torch.ones_like(end))
        dims = (1, 2) if together else (2,)
        largest[backward_clip] = float(of_start.norm(dim=dims).max()) * (1 if together else 2), float(of_weight.norm())
    assert min(largest[1e60]) > 1e15
    assert largest[0.5] == pytest.approx((0.5, 0.5))


def test_many_sentences_alike_are_clipped_as_each_by_itself() -> None:
    gradient = numbers("gradient", 2, 1, 3).expand(-1, 32, -1) / 32
    norms = gradient[:, :, :].norm(dim=(1, 2))
    for clip in (0.5 * float(norms.min()), float(norms.mean()), 2.0 * float(norms.max())):
        alone, together = (Descent(1.0, 0.5, clip, 1e6, 32, each).clipped(gradient) for each in (False, True))
        assert torch.allclose(alone, together)
        assert bool((together.norm(dim=(1, 2)) <= clip + 1e-12).all())
        # Means and log-variances are clipped apart.
        assert torch.allclose(together.norm(dim=(1, 2)), norms.clamp(max=clip))


def test_nothing_moves_where_the_gradient_is_zero() -> None:
    start, weights = torch.zeros(SHAPE, dtype=torch.float64, requires_grad=True), weights_of()
    losses: list[InnerLoss] = [lambda parameters, weights, twice: (parameters.square() * weights[0].exp()).sum()] * 2
    descent = Descent(0.1, 0.5, 1.0, 1.0, 32)
    end = descent.run(start, losses, through(descent, "exact", weights))
    end.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(end, start)
    assert start.grad is not None
    assert bool(start.grad.isfinite().all())


def their_backward(
    descent: Descent, losses: list[InnerLoss], start: Tensor, weights: list[Tensor], gradient: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """`OptimN2N.forward_mom` and `backward_mom` of Kim et al., from their description in words."""

    def clip(tensors: list[Tensor]) -> list[Tensor]:
        norm = torch.stack([each.norm() for each in tensors]).norm()
        return [each * min(1.0, descent.clip / float(norm)) for each in tensors]

    def slopes(loss: InnerLoss, at: Tensor) -> list[Tensor]:
        at = at.detach().requires_grad_()
        return list(torch.autograd.grad(loss(at, weights, False), (at, *weights)))

    places, seen, velocity = [start.detach()], [], torch.zeros_like(start)
    for loss in losses:
        of_parameters, *of_weights = slopes(loss, places[-1])
        of_parameters = torch.stack([clip([each])[0] for each in of_parameters])
        seen.append([of_parameters, *of_weights])
        velocity = descent.momentum * velocity - of_parameters
        places.append(places[-1] + descent.learning_rate * velocity)
    back, total = torch.zeros_like(start), [torch.zeros_like(weight) for weight in weights]
    for loss, place, near in zip(reversed(losses), reversed(places[:-1]), reversed(seen), strict=True):
        back = back + descent.learning_rate * gradient
        far = clip(slopes(loss, place + EPSILON * back))
        of_parameters, *of_weights = [(one - other) / EPSILON for one, other in zip(far, near, strict=True)]
        total = [one - other for one, other in zip(total, clip(of_weights), strict=True)]
        [gradient] = clip([gradient - of_parameters])
        back = descent.momentum * back
    return gradient, total


@pytest.mark.parametrize("clip", [0.7, 3.0, 1e6])
def test_kim_clip_is_what_their_code_does(clip: float) -> None:
    descent, losses = Descent(0.3, 0.5, clip, 1e6, 4, together=True), [curved(), curved(0.5), curved(0.25)]
    start, weights = numbers("start", *SHAPE).requires_grad_(), weights_of()
    end = descent.run(start, losses, through(descent, "kim_clip", weights))
    gradient = numbers("gradient", *SHAPE)
    expected, of_weights = their_backward(descent, losses, start, weights, gradient)
    found = torch.autograd.grad(end, (start, *weights), gradient)
    for one, wanted in zip(found, (expected, *of_weights), strict=True):
        assert torch.allclose(one, wanted, rtol=1e-4, atol=1e-6)


def test_kim_clip_is_no_hessian_once_it_clips() -> None:
    """The defect: what the weights get is then parallel to their plain gradient; without clipping all ways agree."""

    def of_weights(second_order: str, clip: float) -> Tensor:
        start, weights = numbers("start", *SHAPE).requires_grad_(), weights_of()
        descent = Descent(1.0, 0.0, clip, 1e6, 4, together=True)
        end = descent.run(start, [curved()], through(descent, second_order, weights))  # type: ignore[arg-type]
        return torch.cat([each.flatten() for each in torch.autograd.grad(end, weights, numbers("vector", *SHAPE))])

    weights = weights_of()
    plain = torch.autograd.grad(curved()(numbers("start", *SHAPE), weights, False), weights)

    def cosine(one: Tensor, other: Tensor) -> float:
        return float(torch.cosine_similarity(one, other, dim=0))

    exact, free, clipped = of_weights("exact", 1e6), of_weights("kim_clip", 1e6), of_weights("kim_clip", 0.5)
    gradient = torch.cat([each.flatten() for each in plain])
    assert cosine(exact, free) > 0.999
    assert abs(cosine(clipped, gradient)) > 0.999
    assert abs(cosine(exact, gradient)) < 0.9
