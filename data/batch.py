"""Batches of sentences of one length, so that nothing is padded and nothing is masked."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from data.corpus import Split


@dataclass(frozen=True)
class Batch:
    """B sentences of T predicted tokens each.

    tokens: (B, T) int64, the words and the final `</s>`, without `<s>`. indices: (B,) int64, which sentences of
    the split they are.
    """

    tokens: torch.Tensor
    indices: torch.Tensor


def batches(split: Split, size: int, seed: int, epoch: int, *, reshuffle: bool = False) -> Iterator[Batch]:
    """Every sentence once, in an order that (seed, epoch) alone decides; the global generators are left alone.

    Which sentences share a batch is the same in all epochs, as in the code of Kim et al. and He et al.; with
    `reshuffle` it is drawn anew each epoch. The last batch of a length may be smaller than `size`.
    """
    for group in training_groups(split, size, seed, epoch, reshuffle=reshuffle):
        yield _batch(split, group)


def training_groups(
    split: Split, size: int, seed: int, epoch: int, *, reshuffle: bool = False
) -> list[npt.NDArray[np.int64]]:
    """Which sentences stand in each batch of an epoch, in the order of `batches`."""
    generator = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    groups = _training_groups(split, size, generator, reshuffle)
    return [groups[index] for index in generator.permutation(len(groups))]


def drawn_batches(
    split: Split, size: int, seed: int, epoch: int, *, reshuffle: bool = False
) -> Callable[[int], Iterator[Batch]]:
    """Beside each step of an epoch, by its number: its batches at random, without end, each as likely as the others.

    (seed, epoch, step) alone decides which, and no order is moved by it; nothing is done before the first is taken.
    """

    @cache
    def groups() -> Sequence[npt.NDArray[np.int64]]:
        generator = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
        return _training_groups(split, size, generator, reshuffle)

    def beside(step: int) -> Iterator[Batch]:
        generator = np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=(step,)))
        while True:
            yield _batch(split, groups()[int(generator.integers(len(groups())))])

    return beside


def sequential_batches(split: Split, size: int) -> Iterator[Batch]:
    """Every sentence once, shortest first, sentences of one length in the order of the corpus: for evaluation."""
    for group in _groups(split, np.arange(split.num_sentences), lambda length: size):
        yield _batch(split, group)


def batches_of_tokens(split: Split, tokens: int) -> Iterator[Batch]:
    """The same sentences in the same order, in batches of at most so many tokens, or of one sentence."""
    for group in _groups(split, np.arange(split.num_sentences), lambda length: max(1, tokens // length)):
        yield _batch(split, group)


def on_device(order: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches with their tokens on a device: sent there all at once, so that no step waits for its own."""
    return iter(order) if device.type == "cpu" else _moved(list(order), device)


def one_by_one(order: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches with their tokens on a device, each sent when it is taken: of those that have no end."""
    return (Batch(batch.tokens.to(device), batch.indices) for batch in order)


def _moved(order: Sequence[Batch], device: torch.device) -> Iterator[Batch]:
    everything = torch.cat([batch.tokens.flatten() for batch in order]).to(device)
    each = everything.split([batch.tokens.numel() for batch in order])  # type: ignore[no-untyped-call]
    for batch, tokens in zip(order, each, strict=True):
        yield Batch(tokens.view(batch.tokens.shape), batch.indices)


class Resident:
    """A split that stays on a device, and a place in an epoch of it: batches are taken from there without the host.

    Everything is in tensors that stay where they are, so that taking a batch can be recorded and repeated.
    """

    def __init__(self, split: Split, device: torch.device):
        self._offsets = split.offsets
        self._tokens = torch.from_numpy(split.tokens.copy()).to(device)
        self._starts = torch.zeros(split.num_sentences, dtype=torch.int64, device=device)
        self._place = torch.zeros((), dtype=torch.int64, device=device)

    def begin(self, groups: Sequence[npt.NDArray[np.int64]], done: int) -> None:
        """Stand before the batch after the first `done` of an epoch, all of which are given."""
        self._starts.copy_(torch.from_numpy(self._offsets[np.concatenate(groups)]))
        self._place.fill_(sum(len(group) for group in groups[:done]))

    def take(self, sentences: int, length: int) -> torch.Tensor:
        """(B, T) int64 tokens of the next batch, of whose size and length the caller knows."""
        device = self._tokens.device
        starts = self._starts[self._place + torch.arange(sentences, device=device)]
        tokens = self._tokens[starts.unsqueeze(1) + torch.arange(length, device=device)]
        self._place += sentences
        return tokens.long()


def num_batches(split: Split, size: int) -> int:
    """Batches in an epoch, the same for every seed, epoch and kind of shuffling."""
    _, counts = np.unique(split.lengths, return_counts=True)
    return int((-(-counts // size)).sum())


def excerpt(split: Split, size: int, count: int) -> Split:
    """The sentences of so many full batches, evenly over those of all lengths and the longest among them.

    The split itself if it has no more of them.
    """
    full = [
        group for group in _groups(split, np.arange(split.num_sentences), lambda length: size) if len(group) == size
    ]
    if len(full) <= count:
        return split
    return split.subset(np.concatenate([full[-1 - step * len(full) // count] for step in range(count)]))


def _training_groups(
    split: Split, size: int, generator: np.random.Generator, reshuffle: bool
) -> list[npt.NDArray[np.int64]]:
    """The batches of an epoch, not yet in order; with `reshuffle`, from the first draw of its generator."""
    sentences = np.arange(split.num_sentences)
    return _groups(split, generator.permutation(sentences) if reshuffle else sentences, lambda length: size)


def _groups(
    split: Split, sentences: npt.NDArray[np.int64], size_of: Callable[[int], int]
) -> list[npt.NDArray[np.int64]]:
    """Cut sentences into groups of one length and at most `size_of` it, by length and then in the order given."""
    by_length = sentences[np.argsort(split.lengths[sentences], kind="stable")]
    lengths, starts = np.unique(split.lengths[by_length], return_index=True)
    groups = []
    for length, run in zip(lengths.tolist(), np.split(by_length, starts[1:]), strict=True):
        size = size_of(length)
        assert size >= 1
        groups += [run[start : start + size] for start in range(0, len(run), size)]
    return groups


def _batch(split: Split, indices: npt.NDArray[np.int64]) -> Batch:
    # A copy of the indices: a view would let whoever holds a batch change the batches that follow.
    return Batch(torch.from_numpy(split.rows(indices)), torch.from_numpy(indices.copy()))
