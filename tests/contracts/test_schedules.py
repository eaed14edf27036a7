"""What every KL schedule keeps, over all files of model/schedules/ and whatever fields they are given."""

import importlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.schedule import Course, Schedule
from model.schedules.constant import Config as Constant
from model.schedules.cyclical import Config as Cyclical
from model.schedules.linear import Config as Linear
from model.schedules.linear_epoch import Config as LinearEpoch
from model.schedules.sigmoid import Config as Sigmoid
from sweep.config import kinds

PTB = Course(30, 1359)
COURSES = st.builds(Course, st.integers(1, 12), st.integers(1, 25))
UNIT = st.floats(0, 1)
SCHEDULES: dict[str, st.SearchStrategy[Schedule]] = {
    "constant": st.builds(Constant, weight=UNIT),
    "linear": st.builds(Linear, start=UNIT, epochs=st.floats(0.1, 50)),
    "linear_epoch": st.builds(LinearEpoch, start=UNIT, epochs=st.integers(1, 50)),
    "sigmoid": st.builds(Sigmoid, slope=st.floats(1e-4, 10), midpoint=st.floats(0, 2000)),
    "cyclical": st.builds(
        Cyclical,
        cycles=st.integers(1, 9),
        rise=st.floats(0.01, 1),
        ramp=st.sampled_from(["linear", "cosine", "sigmoid"]),
        start=UNIT,
    ),
}


@pytest.fixture(params=kinds("schedule"))
def schedule(request: pytest.FixtureRequest) -> Schedule:
    config: Schedule = importlib.import_module(f"model.schedules.{request.param}").Config()
    return config


def weights(schedule: Schedule, course: Course) -> list[float]:
    """At every step, from the first to the last."""
    return [schedule(step / course.steps, course) for step in range(1, course.total + 1)]


def test_weight_is_a_pure_function_of_progress(schedule: Schedule) -> None:
    course = Course(30, 7)
    epochs = [step / 7 for step in range(1, 211)]
    assert [schedule(epoch, course) for epoch in reversed(epochs)] == weights(schedule, course)[::-1]


def test_weight_is_never_negative(schedule: Schedule) -> None:
    assert all(weight >= 0 for weight in weights(schedule, Course(30, 13)))


def test_the_warmup_of_the_defaults_ends_and_what_they_aim_at_is_kept(schedule: Schedule) -> None:
    warmup = schedule.warmup(PTB)
    assert 0 <= warmup < PTB.epochs
    after = [schedule(step / PTB.steps, PTB) for step in range(int(warmup * PTB.steps) + 1, PTB.total)]
    assert after == pytest.approx([schedule(float(PTB.epochs), PTB)] * len(after), abs=0.011)


def test_unknown_fields_are_refused(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        type(schedule)(nonsense=1)


@given(st.one_of(*SCHEDULES.values()), COURSES)
def test_weights_are_between_0_and_1_and_kept_after_the_warmup(schedule: Schedule, course: Course) -> None:
    found = weights(schedule, course)
    assert all(0.0 <= weight <= 1.0 for weight in found)
    warmup = schedule.warmup(course)
    assert warmup >= 0.0
    after = [weight for step, weight in enumerate(found, 1) if step / course.steps > warmup + 1e-9]
    assert all(weight >= after[-1] - 0.011 for weight in after)


@given(st.one_of(*(SCHEDULES[kind] for kind in ("constant", "linear", "linear_epoch", "sigmoid"))), COURSES)
def test_but_for_cycles_weights_never_fall(schedule: Schedule, course: Course) -> None:
    assert all(before <= after for before, after in pairwise(weights(schedule, course)))


@given(SCHEDULES["cyclical"], COURSES)
def test_cycles_repeat_and_rise(schedule: Cyclical, course: Course) -> None:
    found = weights(schedule, course)
    period = -(-course.total // schedule.cycles)
    assert found[period:] == found[: len(found) - period]
    assert all(before <= after for before, after in pairwise(found[:period]))
    if schedule.ramp != "sigmoid":
        assert found[0] == schedule.start


def test_linear_at_its_edges() -> None:
    schedule = Linear()
    assert schedule(1 / 1359, PTB) == pytest.approx(1 / 13590)
    assert schedule(9.999, PTB) < schedule(10.0, PTB) == schedule(25.0, PTB) == 1.0
    assert Linear(start=0.1, epochs=9)(1 / 1359, PTB) == pytest.approx(0.1 + 0.9 / (9 * 1359))
    assert schedule.warmup(PTB) == 10


def test_linear_by_epochs_at_its_edges() -> None:
    schedule = LinearEpoch(start=0.1)
    assert schedule(1 / 1359, PTB) == schedule(1.0, PTB) == pytest.approx(0.1)
    assert schedule(1.0 + 1 / 1359, PTB) == pytest.approx(0.19)
    assert schedule(10.0, PTB) == pytest.approx(0.91)
    assert schedule(10.0 + 1 / 1359, PTB) == 1.0


def test_sigmoid_at_its_edges() -> None:
    schedule = Sigmoid()
    assert schedule(2500 / 1359, PTB) == 0.5
    assert schedule(1 / 1359, PTB) == pytest.approx(1 / (1 + 2.718281828459045 ** (0.0025 * 2499)))
    assert schedule(schedule.warmup(PTB), PTB) == pytest.approx(0.99, abs=1e-5)
    assert Sigmoid(slope=1e6)(30.0, PTB) == 1.0


def test_cycles_at_their_edges() -> None:
    course = Course(40, 10)  # 4 cycles of 100 steps, 50 of them rising
    schedule = Cyclical()
    assert [schedule(step / 10, course) for step in (1, 26, 51, 100, 101)] == [0.0, 0.5, 1.0, 1.0, 0.0]
    assert schedule.warmup(course) == 35.1
    assert Cyclical(ramp="cosine")(2.6, course) == pytest.approx(0.5)
    assert Cyclical(ramp="cosine")(1.0 + 0.35, course) == pytest.approx(0.5 * (1 - 0.5**0.5), abs=0.02)
    sigmoid = [Cyclical(ramp="sigmoid")(step / 10, course) for step in (1, 26, 51)]
    assert sigmoid == pytest.approx([0.0025, 0.5, 1.0], abs=1e-4)
    assert Cyclical(start=0.1)(0.1, course) == 0.1
