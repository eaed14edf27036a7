"""A launch whose trials find no place says so, once for each time that it comes to that."""

import pytest

from sweep.placing import PATIENCE, Placing


class Launch:
    """now: its clock, in seconds. said: what everybody was told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.placing = Placing(self.said.append, lambda: self.now)

    def wait(self, seconds: float) -> None:
        for _ in range(10):
            self.now += seconds / 10
            self.placing.look()


@pytest.fixture
def launch() -> Launch:
    return Launch()


def test_trials_that_find_no_place_are_told_of_once(launch: Launch) -> None:
    launch.placing.handed_out("a")
    launch.wait(0.9 * PATIENCE)
    assert launch.said == []
    launch.wait(10 * PATIENCE)
    assert len(launch.said) == 1
    assert "no trial has found a place in the cluster for 120 s" in launch.said[0]


def test_trials_that_wait_for_others_are_no_news(launch: Launch) -> None:
    for key in "ab":
        launch.placing.handed_out(key)
    launch.placing.started("a")
    launch.wait(10 * PATIENCE)
    launch.placing.left("a")
    launch.wait(0.9 * PATIENCE)
    assert launch.said == []


def test_nor_is_a_queue_that_hands_out_nothing(launch: Launch) -> None:
    launch.placing.handed_out("a")
    launch.placing.left("a")  # its worker was lost before it started
    launch.wait(10 * PATIENCE)
    assert launch.said == []


def test_it_is_told_again_after_a_place_was_found(launch: Launch) -> None:
    for _ in range(2):
        launch.placing.handed_out("a")
        launch.wait(2 * PATIENCE)
        launch.placing.started("a")
        launch.placing.left("a")
    assert len(launch.said) == 2
