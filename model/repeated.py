"""Steps of training as one launch each: recorded once for a shape of batch, as a CUDA graph, and repeated.

Models as small as these leave a GPU waiting for their kernels to be launched one by one. All that differs from one step
to the next stands in tensors that stay where they are: the place in the epoch, the numbers of the moment, the learning
rate, the generator's state, and what the epoch adds up to.
"""

import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from data.batch import Batch, Resident
from model.core import TextModel
from model.precision import products
from model.randomness import generator
from model.steps import Partial, Steps, Syllabus
from model.tally import Tally
from model.update import Update

BEFORE = 2
"""Steps of a shape that are taken one kernel at a time before it is recorded: libraries set themselves up in the first,
and a shape that comes seldom is not worth it."""
_RECORDING = threading.Lock()
"""PyTorch allows one at a time in a process."""


class Repeated(Steps):
    """Of a model and an update that are repeatable. On a CPU the same, but that nothing is recorded."""

    def __init__(self, model: TextModel, update: Update, syllabus: Syllabus):
        device = next(model.parameters()).device
        self.source = torch.Generator(device)
        self.tally = Tally(device)
        self._update = update
        self._syllabus = syllabus
        self._resident = Resident(syllabus.split, device)
        width = len(syllabus.objective.moment(0.0, 0.0))
        self._moments = torch.zeros(syllabus.course.steps, width, device=device)
        self._number = torch.zeros((), dtype=torch.int64, device=device)  # of steps that were taken in this epoch
        self._seen: Counter[tuple[int, int]] = Counter()
        self._graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}
        self._records = device.type == "cuda"
        if self._records:
            self.ready_after = BEFORE + 1
            self._pool = torch.cuda.graph_pool_handle()
            update.keep_rate_on_device()

    def take(self, epoch: int, partial: Partial | None) -> Iterator[int]:
        syllabus, done = self._syllabus, partial.step if partial else 0
        groups = syllabus.groups(epoch)
        shapes = [(len(group), int(syllabus.split.lengths[group[0]])) for group in groups]
        numbers = range(1, len(groups) + 1)
        moments = [syllabus.objective.moment(*syllabus.when(epoch, number)) for number in numbers]
        named = generator(syllabus.seed, f"train/epoch {epoch}", self.source.device)
        self.source.set_state(partial.generator if partial else named.get_state())
        self.tally.restore(partial.tally if partial else None)
        self._resident.begin(groups, done)
        self._moments.copy_(torch.tensor(moments, dtype=torch.float32))
        self._number.fill_(done)
        for number, shape in list(zip(numbers, shapes, strict=True))[done:]:
            self._step(shape)
            yield number

    def _step(self, shape: tuple[int, int]) -> None:
        """The next one, on a batch of so many sentences of such a length."""
        if shape not in self._graphs:
            self._seen[shape] += 1
            if not self._records or self._seen[shape] <= BEFORE:
                self._do(*shape)
                return
            self._graphs[shape] = self._record(*shape)
        self._graphs[shape].replay()

    def _record(self, sentences: int, length: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.source)
        with _RECORDING:
            # On the trial's own stream. `torch.cuda.graph` would first wait for all that the GPU has to do, of the
            # trials beside it, too. No step reads what another has left in memory, so that all can have the same.
            graph.capture_begin(self._pool, capture_error_mode="thread_local")
            try:
                self._do(sentences, length)
            finally:
                graph.capture_end()
        return graph

    def _do(self, sentences: int, length: int) -> None:
        tokens = self._resident.take(sentences, length)
        moment: Sequence[Tensor] = self._moments.index_select(0, self._number.view(1))[0].unbind()
        # A model that goes by the weight itself is not repeatable.
        loss = self._syllabus.objective.given(math.nan, moment)
        with products(self._syllabus.precision, tokens.device):
            step = self._update.step(Batch(tokens, tokens[:0, 0]), loss, self.source)
        self._number += 1
        self.tally.add(self._number, step, sentences, length)
