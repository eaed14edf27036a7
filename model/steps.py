"""The steps of a training, an epoch at a time; here one kernel after the other, as Python comes to them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.batch import Batch, batches, drawn_batches, on_device, one_by_one, training_groups
from data.corpus import Split
from model.core import TextModel
from model.objective import Objective
from model.precision import Precision, products
from model.randomness import generator
from model.schedule import Course, Schedule
from model.tally import Tally
from model.update import Update


@dataclass(frozen=True)
class Partial:
    """An epoch under way, after `step` of its steps and `seconds`: what it has added up, and where its draws stand."""

    step: int
    seconds: float
    tally: Mapping[str, Tensor]
    generator: Tensor


@dataclass(frozen=True)
class Syllabus:
    """What the steps of a training are taken on, in which order, and what each of them lowers.

    batch_size, reshuffle, precision: as `TrainConfig` has them. seed: the trial's.
    """

    split: Split
    batch_size: int
    reshuffle: bool
    precision: Precision
    seed: int
    objective: Objective
    schedule: Schedule
    course: Course

    def when(self, epoch: int, number: int) -> tuple[float, float]:
        """Epochs of training after a step, both from 1, and the KL weight then."""
        now = epoch - 1 + number / self.course.steps
        return now, self.schedule(now, self.course)

    def batches(self, epoch: int) -> Iterator[Batch]:
        return batches(self.split, self.batch_size, self.seed, epoch, reshuffle=self.reshuffle)

    def beside(self, epoch: int) -> Callable[[int], Iterator[Batch]]:
        """As `drawn_batches`."""
        return drawn_batches(self.split, self.batch_size, self.seed, epoch, reshuffle=self.reshuffle)

    def groups(self, epoch: int) -> Sequence[npt.NDArray[np.int64]]:
        """Which sentences stand in each of the batches."""
        return training_groups(self.split, self.batch_size, self.seed, epoch, reshuffle=self.reshuffle)


class Steps(ABC):
    """Takes the steps of one training. source: feeds their draws. tally: what those of the epoch have added up to.

    ready_after: epochs by whose end steps have set up what they set up for later ones.
    """

    source: torch.Generator
    tally: Tally
    ready_after: int = 0

    @abstractmethod
    def take(self, epoch: int, partial: Partial | None) -> Iterator[int]:
        """Those of an epoch, from 1, that come after `partial`: the number of each when it has been taken."""


class OneByOne(Steps):
    """Of any model and update."""

    def __init__(self, model: TextModel, update: Update, syllabus: Syllabus):
        self._device = next(model.parameters()).device
        self._update = update
        self._syllabus = syllabus

    def take(self, epoch: int, partial: Partial | None) -> Iterator[int]:
        syllabus, device, done = self._syllabus, self._device, partial.step if partial else 0
        self.source = generator(syllabus.seed, f"train/epoch {epoch}", device)
        self.tally = Tally(device, partial.tally if partial else None)
        if partial:
            self.source.set_state(partial.generator)
        order, beside = islice(syllabus.batches(epoch), done, None), syllabus.beside(epoch)
        for number, batch in enumerate(on_device(order, device), start=done + 1):
            loss = syllabus.objective.at(*syllabus.when(epoch, number))
            with products(syllabus.precision, device):
                step = self._update.step(batch, loss, self.source, one_by_one(beside(number), device))
            self.tally.add(number, step, *batch.tokens.shape)
            yield number
