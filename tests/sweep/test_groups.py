"""Trials share a process with as many as fit, and no device has many while another has none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.claims import Launch
from sweep.groups import Groups, ShareOf
from sweep.queue import TrialQueue
from sweep.record import WantedTrial
from sweep.resources import Cluster, Resources, Share
from sweep.spec import RetryPolicy
from sweep.store import TrialStore

GIB = 2**30
TRIALS = [WantedTrial(f"{number:064}", {"number": str(number)}, 0, {}) for number in range(10)]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator["TrialQueue[object]"]:
    store = TrialStore(tmp_path)
    with Launch(store.launches, "groups") as this:
        yield TrialQueue(TRIALS, store, RetryPolicy(), [], this.id, lambda key: 0)


def sizes(queue: "TrialQueue[object]", where: Cluster, share_of: ShareOf) -> list[tuple[int, Share]]:
    """Of all groups, which come in the order of the trials."""
    found, handed_out, groups = [], [], Groups(queue, where, share_of)
    while (group := groups.next()) is not None:
        found.append((len(group[0]), group[1]))
        handed_out += group[0]
    assert handed_out == TRIALS
    return found


def at_most(most: int) -> ShareOf:
    return lambda keys: Share(1, 0.1 * len(keys)) if len(keys) <= most else None


@pytest.mark.parametrize(
    ("gpus", "most", "expected"),
    [(1, 1, [1] * 10), (1, 4, [4, 4, 2]), (1, 20, [10]), (2, 20, [5, 5]), (2, 3, [3, 3, 2, 2]), (4, 4, [3, 3, 2, 2])],
)
def test_as_many_as_fit_and_each_device_has_its_part(
    queue: "TrialQueue[object]", gpus: int, most: int, expected: list[int]
) -> None:
    where = Cluster([Share(16, gpus, 64 * GIB)], Resources())
    assert sizes(queue, where, at_most(most)) == [(number, Share(1, 0.1 * number)) for number in expected]


def test_what_is_to_be_alone_has_all_of_its_device(queue: "TrialQueue[object]") -> None:
    where = Cluster([Share(16, 1, 64 * GIB)], Resources())
    groups = Groups(queue, where, at_most(2))
    [first, *_], _ = groups.next()
    queue.lost(first.key, "out-of-memory", "no room", "here")
    others = [groups.next() for _ in range(4)]
    assert [len(group[0]) for group in others if group] == [2, 2, 2, 2]
    assert groups.next() == ([first], where.alone(Share(1, 0.1)))
    assert groups.next() is None
