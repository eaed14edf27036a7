"""Batches: one length, every sentence once, an order that seed and epoch alone decide."""

import random
from collections.abc import Iterable
from itertools import islice

import numpy as np
import pytest
import torch

from data.batch import (
    Batch,
    _moved,
    batches,
    batches_of_tokens,
    drawn_batches,
    excerpt,
    num_batches,
    on_device,
    sequential_batches,
)
from data.corpus import Split

SIZE = 4


@pytest.fixture
def split() -> Split:
    """101 sentences of 1 to 9 tokens; each token tells its sentence."""
    lengths = np.random.default_rng(0).integers(1, 10, size=101)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Split(np.repeat(np.arange(101), lengths).astype(np.int32), offsets)


def order(of: Iterable[Batch]) -> list[list[int]]:
    return [batch.indices.tolist() for batch in of]


@pytest.mark.parametrize("reshuffle", [False, True])
def test_every_sentence_once_whole_and_unpadded(split: Split, reshuffle: bool) -> None:
    made = list(batches(split, SIZE, seed=1, epoch=2, reshuffle=reshuffle))
    assert sorted(i for indices in order(made) for i in indices) == list(range(101))
    assert len(made) == num_batches(split, SIZE) == len(list(sequential_batches(split, SIZE)))
    for batch in made:
        assert batch.tokens.dtype == batch.indices.dtype == torch.int64
        assert 1 <= len(batch.tokens) <= SIZE
        assert batch.tokens.shape[1] == split.lengths[batch.indices[0]]
        assert torch.equal(batch.tokens, batch.indices[:, None].expand_as(batch.tokens))


@pytest.mark.parametrize("reshuffle", [False, True])
def test_order_is_a_function_of_seed_and_epoch(split: Split, reshuffle: bool) -> None:
    def at(seed: int, epoch: int) -> list[list[int]]:
        return order(batches(split, SIZE, seed, epoch, reshuffle=reshuffle))

    assert at(1, 2) == at(1, 2)
    assert at(1, 2) != at(1, 3)
    assert at(1, 2) != at(2, 1)
    assert at(1, 2) != at(2, 2)


def test_membership_is_fixed_unless_reshuffled(split: Split) -> None:
    first, second = (sorted(order(batches(split, SIZE, 1, epoch))) for epoch in (0, 1))
    assert first == second == sorted(order(sequential_batches(split, SIZE)))
    redrawn = (sorted(map(sorted, order(batches(split, SIZE, 1, epoch, reshuffle=True)))) for epoch in (0, 1))
    assert next(redrawn) != next(redrawn)


@pytest.mark.parametrize("reshuffle", [False, True])
def test_drawn_batches_are_those_of_the_epoch_at_random(split: Split, reshuffle: bool) -> None:
    def at(seed: int, epoch: int, step: int, num: int = 20) -> list[list[int]]:
        return order(islice(drawn_batches(split, SIZE, seed, epoch, reshuffle=reshuffle)(step), num))

    assert at(1, 2, 3) == at(1, 2, 3)
    assert at(1, 2, 3)[:7] == at(1, 2, 3, 7)
    assert len({str(at(*where)) for where in ((1, 2, 3), (1, 2, 4), (1, 3, 3), (2, 2, 3))}) == 4
    known = order(batches(split, SIZE, 1, 2, reshuffle=reshuffle))
    many = [known.index(indices) for indices in at(1, 2, 3, 100 * len(known))]
    # Each as likely, whatever its size; 100 times on average, with a standard deviation of 10.
    counts = np.bincount(many, minlength=len(known))
    assert counts.min() > 55
    assert counts.max() < 145


def test_sequential_batches_go_by_length_then_corpus(split: Split) -> None:
    flat = [i for indices in order(sequential_batches(split, SIZE)) for i in indices]
    assert flat == sorted(range(101), key=lambda i: (split.lengths[i], i))


def test_global_generators_are_left_alone(split: Split) -> None:
    def states() -> list[str]:
        return [str(random.getstate()), str(np.random.get_state()), str(torch.get_rng_state().tolist())]

    before = states()
    list(batches(split, SIZE, 1, 2, reshuffle=True))
    list(sequential_batches(split, SIZE))
    assert states() == before


def test_changing_a_batch_changes_no_other(split: Split) -> None:
    wanted = order(batches(split, SIZE, 1, 2))
    got = []
    for batch in batches(split, SIZE, 1, 2):
        got.append(batch.indices.tolist())
        batch.indices.fill_(0)
        batch.tokens.fill_(0)
    assert got == wanted
    assert split.tokens.max() == 100


def test_batches_of_tokens_are_the_sequential_ones_cut_by_length(split: Split) -> None:
    made = list(batches_of_tokens(split, 20))
    whole = [i for indices in order(sequential_batches(split, SIZE)) for i in indices]
    assert [i for indices in order(made) for i in indices] == whole
    assert all(batch.tokens.numel() <= 20 for batch in made)
    assert max(len(batch.tokens) for batch in made) > SIZE
    assert [len(batch.tokens) for batch in batches_of_tokens(split, 1)] == [1] * split.num_sentences


def test_moved_batches_are_the_same(split: Split) -> None:
    made = list(batches(split, SIZE, seed=1, epoch=2))
    for moved in (_moved(made, torch.device("cpu")), on_device(made, torch.device("cpu"))):
        for one, other in zip(made, moved, strict=True):
            assert torch.equal(one.tokens, other.tokens)
            assert torch.equal(one.indices, other.indices)
    assert {batch.tokens.device.type for batch in on_device(made, torch.device("meta"))} == {"meta"}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_an_excerpt_has_full_batches_evenly_over_all_lengths(count: int) -> None:
    """Eight full batches: four of two words, two of three, two of five; the rest of each length is left out."""
    lengths = [3] * 9 + [2] * 17 + [5] * 8 + [7] * 3
    sentences = [np.full(length, number) for number, length in enumerate(lengths)]
    split = Split(np.concatenate(sentences).astype(np.int32), np.cumsum([0, *lengths]))
    some = excerpt(split, 4, count)
    assert some.num_sentences == 4 * count
    groups = [lengths[int(some.tokens[start])] for start in some.offsets[:-1:4]]
    assert groups == {1: [5], 2: [5, 2], 3: [5, 3, 2], 5: [5, 5, 3, 2, 2]}[count]
    assert len(set(some.tokens[some.offsets[:-1]])) == some.num_sentences
    assert excerpt(split, 4, 8) is split
