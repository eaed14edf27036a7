"""One cell's search: how many are under way, what fails, what comes again, and what is pruned when."""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from random import Random
from typing import Any

import optuna
import pytest

from sweep.hunt import Hunt
from sweep.record import WantedTrial
from sweep.search import VERSION, Storage, Study
from sweep.space import Scalar
from tests.sweep.hunting import (
    KINDS,
    NAME,
    PLAN,
    TPE,
    Driver,
    Order,
    Worlds,
    any_order,
    counted,
    fields_of,
    newest,
    num_in_optuna,
    oldest,
    outcomes,
    told,
)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_no_more_are_under_way_than_are_to_be(worlds: Worlds, at_once: int) -> None:
    driver = worlds(fields_of(at_once=at_once)).launch()
    most = 0
    random = Random(at_once)
    while driver.running or driver.hunt.has_next:
        while driver.hunt.has_next:
            driver.running += driver.hunt.next()
        under_way = len(driver.hunt.points) - driver.hunt.num_told
        assert under_way <= at_once
        most = max(most, under_way)
        driver.step(any_order(random, len(driver.running), False))
    assert most == at_once
    assert driver.hunt.is_over


def test_a_failure_is_not_told_while_others_are_under_way_and_is_tried_again_in_its_place(worlds: Worlds) -> None:
    fields = KINDS["tpe, halving"]
    world = worlds(fields, disk=True, failing={1, 2})
    driver = world.launch()
    driver.run(any_order, Random(3), told(5))
    assert [point.number for point in world.points if point.outcome is None][:2] == [1, 2]
    assert num_in_optuna(world, "FAIL") == 0
    first = world.points[:3]
    world.failing = set()
    driver = world.launch()
    while driver.hunt.has_next:
        driver.running += driver.hunt.next()
    assert [driver.place(trial)[0] for trial in driver.running][:2] == [1, 2]
    assert not driver.hunt.has_next
    assert [replace(point, outcome=None) for point in world.points[:3]] == [
        replace(point, outcome=None) for point in first
    ]
    driver.run(oldest, Random(4))
    assert driver.hunt.is_over
    assert len(outcomes(world.points, "failed")) == 0
    assert len(world.points) == fields.budget
    theirs, ours = counted(driver)
    assert theirs == ours


def test_a_failure_is_told_when_nothing_else_is_left(worlds: Worlds) -> None:
    world = worlds(fields_of(TPE), failing={0, 4, 7})
    driver = world.launch()
    random = Random(2)
    while driver.running or driver.hunt.has_next:
        driver.step(any_order(random, len(driver.running), driver.hunt.has_next))
        failed = len(outcomes(world.points, "failed"))
        assert failed == counted(driver)[0]["failed"]
        assert failed == (3 if driver.hunt.is_over else 0)
    assert driver.hunt.is_over
    assert [point.number for point in world.points if point.outcome and point.outcome.state == "failed"] == [0, 4, 7]
    assert counted(driver)[0] == {"complete": 5, "pruned": 0, "failed": 3, "running": 0}
    assert driver.hunt.best(10) == sorted(
        (point for point in world.points if point.number not in (0, 4, 7)), key=lambda point: point.outcome.value
    )


@pytest.mark.parametrize("order", [newest, any_order])
def test_failures_never_hold_up_the_budget(worlds: Worlds, order: Order) -> None:
    world = worlds(fields_of(TPE, "halving"), failing=set(range(8)))
    driver = world.finish(order)
    assert driver.hunt.is_over
    assert counted(driver)[0] == {"complete": 0, "pruned": 0, "failed": 8, "running": 0}
    assert driver.hunt.best(1) == []
    assert driver.hunt.unfinished() == []


@pytest.mark.parametrize("order", [newest, any_order])
def test_what_cannot_be_trained_has_failed_and_holds_up_nothing(worlds: Worlds, order: Order) -> None:
    world = worlds(fields_of(TPE), disk=True, cannot={0, 5, 7})
    world.launch().run(order, Random(1), told(3))
    driver = world.launch()
    driver.run(order, Random(2))
    assert driver.hunt.is_over
    assert [point.number for point in world.points if point.outcome and point.outcome.state == "failed"] == [0, 5, 7]
    assert counted(driver)[0] == {"complete": 5, "pruned": 0, "failed": 3, "running": 0}


def test_what_cannot_be_trained_is_not_told_at_a_start_while_others_are_under_way(worlds: Worlds) -> None:
    world = worlds(fields_of(at_once=4), disk=True, cannot={4})
    driver = world.launch()
    driver.run(oldest, Random(0), lambda driver: len(driver.hunt.points) == 8)
    assert [point.number for point in world.points if point.outcome is None] == [4, 5, 6, 7]
    world.launch()
    assert num_in_optuna(world, "FAIL") == 0
    assert [point.number for point in world.points if point.outcome is None] == [4, 5, 6, 7]


def with_another_under_way(number: int) -> Callable[[Driver], bool]:
    """So many are told, one has failed, and one more is asked for."""
    return lambda driver: driver.hunt.num_told >= number and len(driver.hunt.points) > driver.hunt.num_told + 1


def test_after_a_failure_too_who_is_faster_changes_nothing(worlds: Worlds) -> None:
    """Number 3 was asked for, and so is pruned, without number 0, whether or not that is made good before it is."""
    fields = fields_of("random", {"kind": "halving", "factor": 2}, at_once=1)
    found = []
    for order in (oldest, newest):
        world = worlds(fields, failing={0})
        world.launch().run(oldest, Random(0), with_another_under_way(2))
        assert [point.number for point in world.points if point.outcome is None] == [0, 3]
        world.failing = set()
        world.finish(order)
        found.append(world.points)
    assert found[0] == found[1]


def test_what_failed_is_tried_again_as_one_of_those_that_are_under_way_together(worlds: Worlds) -> None:
    world = worlds(fields_of(at_once=2), failing={0, 1})
    world.launch().run(oldest, Random(0), lambda driver: len(driver.hunt.points) == 6)
    world.failing = set()
    driver = world.launch()
    assert [point.number for point in world.points if point.outcome is None] == [0, 1, 4, 5]
    assert driver.num_under_way <= 2
    driver.run(oldest, Random(0))
    assert driver.hunt.is_over


def test_a_suggestion_that_comes_again_is_not_trained_again(worlds: Worlds) -> None:
    space = {"model.inputs": {"choice": ["words", "none"]}, "model.samples": {"choice": [1, 2]}}
    fields = fields_of(TPE, space=space, budget=9, search_seeds=2)

    def flat(params: Mapping[str, Scalar], seed: int) -> list[float]:
        samples = params["model.samples"]
        assert isinstance(samples, int)
        return [samples + (params["model.inputs"] == "none") + seed / 10_000] * 3

    world = worlds(fields, plan=replace(PLAN, space=space), curve=flat)
    driver = world.finish(any_order, 3)
    assert driver.hunt.is_over
    different = {trial.key for point in world.points for trial in point.trials}
    assert len(different) < 9 * 2
    assert len(driver.advanced) == 3 * len(different)
    assert counted(driver)[0]["complete"] == 9
    values = {str(point.params): point.outcome.value for point in world.points if point.outcome}
    assert all(point.outcome and point.outcome.value == values[str(point.params)] for point in world.points)
    best = driver.hunt.best(10)
    assert len(best) == len(values) == len({str(point.params) for point in best})
    assert [point.outcome and point.outcome.value for point in best] == sorted(values.values())
    # Each at its first number.
    assert all(
        point.number == min(other.number for other in world.points if other.params == point.params) for point in best
    )


@pytest.mark.parametrize("pruner", ["halving", "hyperband", {"kind": "percentile", "startup": 0}])
def test_nothing_is_pruned_before_the_grace(worlds: Worlds, pruner: Any) -> None:
    fields = fields_of("random", pruner, budget=13)
    first = {}
    for grace in (1, 3):
        world = worlds(fields, plan=replace(PLAN, grace=grace))
        world.finish(any_order)
        first[grace] = min(len(outcome.judged) for outcome in outcomes(world.points, "pruned"))
    assert first[1] < 3
    assert first[3] >= 3


def test_a_signed_rank_test_takes_seed_after_seed(worlds: Worlds) -> None:
    world = worlds(fields_of("random", "wilcoxon", search_seeds=5, budget=9))
    driver = world.launch()
    random = Random(1)
    while driver.running or driver.hunt.has_next:
        driver.step(any_order(random, len(driver.running), driver.hunt.has_next))
        driver.check()
        numbers = [driver.place(trial)[0] for trial in driver.running]
        assert len(numbers) == len(set(numbers))
        for trial in driver.running:
            number, seed = driver.place(trial)
            assert all(world.is_done(each) for each in driver.hunt.points[number].trials[:seed])
            assert not any(each.key in world.trained for each in driver.hunt.points[number].trials[seed + 1 :])
    pruned = [point for point in world.points if point.outcome and point.outcome.state == "pruned"]
    assert any(point.outcome and len(point.outcome.judged) < 5 for point in pruned)
    for point in world.points:
        assert point.outcome
        assert sum(world.is_done(trial) for trial in point.trials) == len(point.outcome.judged)
        finals = [min(world.values(trial)) for trial in point.trials]
        if point.outcome.state == "complete":
            assert point.outcome.value == statistics.fmean(finals)


def test_another_optuna_is_a_warning(worlds: Worlds) -> None:
    world = worlds(fields_of())
    driver = world.launch()
    assert driver.study.version_warning is None
    assert driver.study._study.user_attrs[VERSION] == optuna.__version__
    driver.study._study.set_user_attr(VERSION, "4.9.0")
    warning = world.launch().study.version_warning
    assert warning == (
        f"the study of VAE was begun with Optuna 4.9.0, this is {optuna.__version__}: from now on it may suggest "
        f"otherwise than it would have"
    )


def test_a_study_says_how_it_is_run(worlds: Worlds) -> None:
    facts = worlds(KINDS["tpe, halving"]).launch().study._study.user_attrs
    assert facts["cell"] == "VAE"
    assert facts["objective"] == "nll"
    assert (facts["sampler"]["kind"], facts["pruner"]["kind"], facts["grace"]) == ("tpe", "halving", 1)


def test_an_estimator_finds_more_than_chance() -> None:
    """At 20 suggestions, 4 at a time, on a bowl whose bottom is at 0: the median over ten studies."""
    space = {"update.learning_rate": {"float": [0.01, 10.0], "log": True}, "update.clip": {"float": [0.0, 10.0]}}

    def bowl(params: Mapping[str, Any]) -> float:
        return math.log10(params["update.learning_rate"] / 0.5) ** 2 + ((params["update.clip"] - 3.0) / 3.0) ** 2

    def lowest(sampler: Any, repetition: int) -> float:
        plan = replace(PLAN, id=f"{repetition:016x}", space=space)
        study = Study(memory, plan, NAME, fields_of(sampler, space=space, budget=20, at_once=4))
        hunt = Hunt(study, [], lambda number, params: (WantedTrial(str(params), {}, 0, params),), lambda points: None)
        waiting: list[WantedTrial] = []
        while not hunt.is_over:
            while hunt.has_next:
                waiting += hunt.next()
            value = bowl(waiting[0].config)
            hunt.ended(len(hunt.points) - len(waiting), 0, [value], value)
            del waiting[0]
        [best] = hunt.best(1)
        assert best.outcome
        assert best.outcome.value is not None
        return best.outcome.value

    memory = Storage("sqlite:///:memory:")
    medians = []
    for sampler in ({"kind": "tpe", "startup": 6}, "random"):
        memory.optuna = optuna.storages.InMemoryStorage()  # which takes a tenth of the time that SQLite does
        medians.append(statistics.median(lowest(sampler, repetition) for repetition in range(10)))
    assert medians[0] < 0.6 * medians[1]


def test_points_go_through_the_store(worlds: Worlds) -> None:
    world = worlds(KINDS["tpe, halving"])
    driver = world.finish(any_order)
    assert [asdict(point) for point in world.points] == [asdict(point) for point in driver.hunt.points]
