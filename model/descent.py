"""Gradient descent: the gradient of a loss on one batch, and optimizers that step along it without waiting for it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor, nn

from data.batch import Batch
from model.core import Bound, TextModel
from model.objective import Loss
from model.update import UpdateConfig

Normalisation = Literal["sentence", "token"]
"""Of the loss: the sum over a sentence's tokens, the scale of the paper's settings, or divided by their number."""
OptimizerName = Literal["sgd", "adam", "adamw"]


class DescentConfig(UpdateConfig):
    """What every update that descends a gradient is told; the paper's by default (section 4: SGD 1.0, clip 5).

    beta1, beta2, epsilon: Adam's (Kingma and Ba 2015, algorithm 1). weight_decay: of `adamw` (Loshchilov and Hutter
    2019), apart from the gradient; of the others, added to it.
    """

    learning_rate: PositiveFloat = Field(1.0, json_schema_extra={"in_shape": False})
    # On the norm of all parameters' gradients together.
    clip: PositiveFloat = Field(5.0, json_schema_extra={"in_shape": False})
    normalisation: Normalisation = Field("sentence", json_schema_extra={"in_shape": False})
    optimizer: OptimizerName = Field("sgd", json_schema_extra={"in_key": "unless default"})
    beta1: float = Field(0.9, ge=0, lt=1, json_schema_extra={"in_key": "unless default", "in_shape": False})
    beta2: float = Field(0.999, ge=0, lt=1, json_schema_extra={"in_key": "unless default", "in_shape": False})
    epsilon: PositiveFloat = Field(1e-8, json_schema_extra={"in_key": "unless default", "in_shape": False})
    weight_decay: NonNegativeFloat = Field(0.0, json_schema_extra={"in_key": "unless default", "in_shape": False})

    @model_validator(mode="after")
    def _fits_the_optimizer(self) -> Self:
        if self.optimizer != "sgd" and "learning_rate" not in self.model_fields_set:
            raise ValueError(
                f"optimizer {self.optimizer} moves each parameter by about the learning rate, whose default is for "
                "sgd; give a learning_rate too, such as 0.001"
            )
        fields = DescentConfig.model_fields
        idle = [name for name in ("beta1", "beta2", "epsilon") if getattr(self, name) != fields[name].default]
        if self.optimizer == "sgd" and idle:
            raise ValueError(f"{idle[0]} is of Adam, and optimizer sgd has none; leave it out, or give optimizer: adam")
        return self

    def descent(self, parameters: Mapping[str, nn.Parameter]) -> "Descent":
        """Of some of a model's parameters, by name."""
        given = list(parameters.values())
        if self.optimizer == "sgd":
            plain = torch.optim.SGD(given, lr=self.learning_rate, weight_decay=self.weight_decay, fused=True)
            return Descent(parameters, plain, ())
        rule = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        adam = rule(
            given,
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.epsilon,
            weight_decay=self.weight_decay,
            fused=True,
        )
        return Descent(parameters, adam, MOMENTS)


MOMENTS = ("exp_avg", "exp_avg_sq")
"""PyTorch's names for what Adam keeps of the shape of each parameter."""


class Descent:
    """One optimizer on some parameters of a model, and all that it remembers."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, moments: Sequence[str]
    ):
        """optimizer: a fused one. moments: names of what it keeps of each parameter, in its own shape, from 0."""
        self._named = parameters
        self._optimizer = optimizer
        self._learning_rate = float(optimizer.param_groups[0]["lr"])
        self._moments = moments
        self.restart()

    @property
    def parameters(self) -> Iterable[nn.Parameter]:
        return self._named.values()

    def step(self, scale: Tensor, skip: Tensor) -> None:
        """Along the gradients at the parameters divided by `scale`; where `skip` is true, nothing is touched."""
        # A fused optimizer divides by the one and does nothing if the other is 1, on the device.
        self._optimizer.grad_scale = scale  # type: ignore[attr-defined]
        self._optimizer.found_inf = skip.float()  # type: ignore[attr-defined]
        self._optimizer.step()

    @property
    def learning_rate(self) -> float:
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = value
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value

    def keep_rate_on_device(self) -> None:
        """Have the optimizer read the learning rate where it is when a step is taken, as a float32."""
        for group in self._optimizer.param_groups:
            device = group["params"][0].device
            group["lr"] = torch.tensor(self._learning_rate, dtype=torch.float32, device=device)
            if "capturable" in group:
                group["capturable"] = True

    def restart(self) -> None:
        """Forget all steps so far; the learning rate stays, and so does where each tensor is."""
        # Made here and not by the first step, so that a state has the same names before it and after.
        for parameter in self.parameters:
            state = self._optimizer.state[parameter]
            if not state and self._moments:
                state |= {name: torch.empty_like(parameter, requires_grad=False) for name in self._moments}
                state["step"] = torch.empty((), device=parameter.device)
            for tensor in state.values():
                tensor.zero_()

    def state(self) -> dict[str, Tensor]:
        """By name of the parameter and PyTorch's of what is kept of it."""
        return {
            f"{name}.{key}": tensor
            for name, parameter in self._named.items()
            for key, tensor in self._optimizer.state[parameter].items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """From a state with these names, among others."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


@dataclass(frozen=True)
class Gradient:
    """Of the loss of one batch, left at the parameters.

    loss: scalar, nats per sentence, also where what is descended is divided by tokens. bound: what it is made of; both
    detached. norm: of all parameters' gradients together. finite: scalar boolean, of the loss and every gradient.
    """

    loss: Tensor
    bound: Bound
    norm: Tensor
    finite: Tensor


def gradient_of(
    model: TextModel, batch: Batch, loss: Loss, generator: torch.Generator, normalisation: Normalisation
) -> Gradient:
    """The gradient of a loss on a batch, in place of what the parameters held. generator: of latents and dropout."""
    sentences, length = batch.tokens.shape
    noise = model.draw_noise(sentences, model.training_draws, generator)
    value, bound = model.through(loss, batch.tokens, noise, generator)
    descended = value if normalisation == "sentence" else value / length
    model.zero_grad()
    descended.backward()
    norm = norm_of(model.parameters())
    # The norm is finite only if the loss and every gradient are.
    finite = torch.isfinite(descended.detach()) & torch.isfinite(norm)
    return Gradient(value.detach(), bound.map(Tensor.detach), norm, finite)


def norm_of(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Scalar norm of all gradients together, of the parameters that have one."""
    return torch.nn.utils.get_total_norm(p.grad for p in parameters if p.grad is not None)


def scale_of(norm: Tensor, clip: float) -> Tensor:
    """What a gradient of a norm is divided by, so that it is at most `clip`."""
    return (norm / clip).clamp(min=1.0)
