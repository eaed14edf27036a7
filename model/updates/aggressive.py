"""Aggressive training of the inference network (He et al. 2019, algorithm 1): the encoder catches up before each step.

While it lasts, a step is an inner loop of steps of the encoder alone, and then one of the decoder alone. An epoch that
leaves the mutual information of sentences and latents lower than the one before ends it: both step together for good.
What the paper leaves open is as in its authors' code.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain, islice
from typing import Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor

from data.batch import Batch
from data.corpus import Split
from model.core import LatentModel, TextModel
from model.descent import Descent, DescentConfig, Gradient, Normalisation, gradient_of, norm_of, scale_of
from model.diagnostics import information_in_pools
from model.objective import Loss
from model.update import Step, Update

Information = Callable[[LatentModel, Split, int], float]
"""Mutual information of sentences and latents on a split, nats; the seed is that of its draws."""


class Config(DescentConfig):
    aggressive: bool = True  # at the start; false is `joint`, step for step
    inner_steps: PositiveInt = 99  # of the encoder before a step of the decoder, at most; below `block`, always so many
    block: PositiveInt = 15  # inner steps whose mean loss a token is held against that of the block before
    clip_apart: bool = False  # clip encoder and decoder each by its own norm; He et al. by that of both
    pool: PositiveInt = 32  # sentences among which mutual information is measured

    @model_validator(mode="after")
    def _is_not_idle(self) -> Self:
        fields = type(self).model_fields
        idle = [name for name in ("inner_steps", "block", "pool") if getattr(self, name) != fields[name].default]
        if idle and not self.aggressive:
            raise ValueError(
                f"aggressive: false has no inner loop, and {idle[0]} has nothing to decide; leave one of them out"
            )
        return self

    def build(self, model: TextModel) -> "Aggressive":
        inference = {id(parameter) for parameter in model.inference_parameters()}
        if not inference:
            raise ValueError(
                "update aggressive trains the encoder by itself, and this model has none; give it update: joint"
            )
        named = dict(model.named_parameters())
        encoder = {name: parameter for name, parameter in named.items() if id(parameter) in inference}
        decoder = {name: parameter for name, parameter in named.items() if id(parameter) not in inference}
        return Aggressive(
            model,
            encoder=self.descent(encoder),
            decoder=self.descent(decoder),
            clip=self.clip,
            clip_apart=self.clip_apart,
            normalisation=self.normalisation,
            aggressive=self.aggressive,
            inner_steps=self.inner_steps,
            block=self.block,
            information=partial(_information, pool=self.pool),
        )


class Aggressive(Update):
    def __init__(
        self,
        model: TextModel,
        *,
        encoder: Descent,
        decoder: Descent,
        clip: float,
        clip_apart: bool,
        normalisation: Normalisation,
        aggressive: bool,
        inner_steps: int,
        block: int,
        information: Information,
    ):
        self.model = model
        self.encoder = encoder
        self.decoder = decoder
        self.clip = clip
        self.clip_apart = clip_apart
        self.normalisation = normalisation
        self.inner_steps = inner_steps
        self.block = block
        self.information = information
        self.is_aggressive = aggressive
        # Nats after the last epoch. The code of He et al. begins with 0, from which an estimate that is noise may fall.
        self._informed = -math.inf
        device = next(model.parameters()).device
        self._encoder_steps = torch.zeros((), dtype=torch.int64, device=device)  # inner ones, of this epoch

    def step(self, batch: Batch, loss: Loss, generator: torch.Generator, others: Iterable[Batch] = ()) -> Step:
        failed = self._catch_up(batch, loss, generator, others) if self.is_aggressive else None
        gradient = gradient_of(self.model, batch, loss, generator, self.normalisation)
        skipped = ~gradient.finite if failed is None else ~gradient.finite | failed
        clipped = self._step(self.decoder, gradient, skipped)
        if not self.is_aggressive:
            clipped = clipped | self._step(self.encoder, gradient, skipped)
        return Step(gradient.bound, clipped, skipped)

    def _catch_up(self, batch: Batch, loss: Loss, generator: torch.Generator, others: Iterable[Batch]) -> Tensor:
        """Steps of the encoder alone, until a block's loss rose; whether a gradient of theirs was not finite."""
        failed = torch.zeros((), dtype=torch.bool, device=batch.tokens.device)
        before, total, tokens = math.inf, torch.zeros((), dtype=torch.float64, device=failed.device), 0
        for number, each in enumerate(islice(chain([batch], others), self.inner_steps), start=1):
            gradient = gradient_of(self.model, each, loss, generator, self.normalisation)
            self._step(self.encoder, gradient, ~gradient.finite)
            failed = failed | ~gradient.finite
            self._encoder_steps += gradient.finite
            total = total + len(each.tokens) * gradient.loss
            tokens += each.tokens.numel()
            if number % self.block == 0:
                now = total.item() / tokens
                if not now <= before:  # one that is not a number ends it too
                    break
                before, total, tokens = now, torch.zeros_like(total), 0
        return failed

    def _step(self, part: Descent, gradient: Gradient, skip: Tensor) -> Tensor:
        """Whether the gradient was scaled down."""
        norm = norm_of(part.parameters) if self.clip_apart else gradient.norm
        part.step(scale_of(norm, self.clip), skip)
        return norm > self.clip

    def end_epoch(self, model: TextModel, valid: Split, seed: int) -> Mapping[str, float]:
        """While it was aggressive: `encoder_steps`, in the inner loops of the epoch, and `information`, in nats."""
        if not self.is_aggressive:
            return {}
        assert isinstance(model, LatentModel)
        now = self.information(model, valid, seed)
        self.is_aggressive, self._informed = now >= self._informed, now
        steps = float(self._encoder_steps.item())
        self._encoder_steps.zero_()
        return {"encoder_steps": steps, "information": now}

    @property
    def learning_rate(self) -> float:
        return self.decoder.learning_rate

    def decay(self, factor: float) -> None:
        for part in (self.encoder, self.decoder):
            part.learning_rate *= factor

    def restart(self) -> None:
        for part in (self.encoder, self.decoder):
            part.restart()

    def state_dict(self) -> dict[str, Tensor]:
        return {
            "learning_rate": torch.tensor(self.learning_rate, dtype=torch.float64),
            "is_aggressive": torch.tensor(self.is_aggressive),
            "information": torch.tensor(self._informed, dtype=torch.float64),
            "encoder_steps": self._encoder_steps,
            **self.encoder.state(),
            **self.decoder.state(),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for part in (self.encoder, self.decoder):
            part.learning_rate = float(state["learning_rate"])
            part.restore(state)
        self.is_aggressive = bool(state["is_aggressive"])
        self._informed = float(state["information"])
        self._encoder_steps.copy_(state["encoder_steps"])


def _information(model: LatentModel, split: Split, seed: int, pool: int) -> float:
    return information_in_pools(model, split, seed, "aggressive/information", pool)
