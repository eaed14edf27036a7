"""What every KL schedule keeps, over all files of model/schedules/."""

import importlib

import pytest

from model.schedule import Schedule
from sweep.config import kinds


@pytest.fixture(params=kinds("schedule"))
def schedule(request: pytest.FixtureRequest) -> Schedule:
    config: Schedule = importlib.import_module(f"model.schedules.{request.param}").Config()
    return config


def test_weight_is_a_pure_function_of_progress(schedule: Schedule) -> None:
    epochs = [step / 7 for step in range(1, 300)]
    forward = [schedule(epoch) for epoch in epochs]
    assert [schedule(epoch) for epoch in reversed(epochs)] == forward[::-1]


def test_weight_is_never_negative(schedule: Schedule) -> None:
    assert all(schedule(step / 13) >= 0 for step in range(1, 600))


def test_defaults_end_their_warmup(schedule: Schedule) -> None:
    assert 0 <= schedule.warmup < 30
    after = max(schedule.warmup, 1e-9)
    assert schedule(after) == pytest.approx(max(schedule(after * k / 10) for k in range(1, 11)))


def test_unknown_fields_are_refused(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        type(schedule)(nonsense=1)
