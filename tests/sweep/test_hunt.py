"""One cell's search, fed with made-up curves: the same whoever is faster, whenever its driver is killed."""

import hashlib
import json
import math
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import optuna
import pytest
from sqlalchemy import event

from sweep.hunt import Hunt
from sweep.points import Outcome, Point, keep_points, read_points
from sweep.record import SUGGESTION, StudyPlan, WantedTrial
from sweep.search import VERSION, Storage, Study
from sweep.search_fields import SearchFields
from sweep.space import Scalar
from sweep.store import TrialStore

SPACE: dict[str, Any] = {
    "update.learning_rate": {"float": [0.01, 10.0], "log": True},
    "model.latent_dim": {"int": [2, 64], "log": True},
    "schedule": {
        "choice": {
            "flat": {"kind": "constant", "weight": {"float": [0.2, 1.0]}},
            "rising": {"kind": "linear", "epochs": {"int": [1, 3]}},
        }
    },
}
EPOCHS = 5
PLAN = StudyPlan("0123456789abcdef", {"method": "VAE"}, {}, SPACE, grace=1, epochs=EPOCHS)
NAME = "toy"
Order = Callable[[Random, int, bool], int]
"""Which of so many running trials comes on next, by its place; one more, where allowed: the next suggestion is made."""


class Killed(BaseException):
    """The driver is gone, in the middle of what it did."""


@dataclass
class Fuse:
    """Counts what a driver does, and kills it at the last; each write to a disk is one, before it and after it."""

    left: int = 10**9

    def tick(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


def curve(params: Mapping[str, Scalar], seed: int) -> list[float]:
    """The objective epoch by epoch: a bowl around rate 0.5 and size 16, neared at a pace that is no sign of the end.

    Some stop early, and at some the last epoch is not the best.
    """
    rate, size = params["update.learning_rate"], params["model.latent_dim"]
    assert isinstance(rate, float)
    assert isinstance(size, int)
    end = math.log10(rate / 0.5) ** 2 + 0.3 * math.log2(size / 16) ** 2 + (params["schedule"] == "flat") * 0.2
    luck = int.from_bytes(hashlib.sha256(f"{rate} {size} {seed}".encode()).digest()[:2], "big") / 2**16
    length = EPOCHS - 2 if luck < 0.2 else EPOCHS
    values = [end + (0.2 + luck) / epoch + 0.05 * luck for epoch in range(1, length + 1)]
    return [*values[:-1], values[-1] + 0.1] if luck > 0.8 else values


@dataclass
class World:
    """What outlives a driver: the store, Optuna's database, and what was trained, values by key.

    failing: numbers whose trials fail in this launch after their second epoch. cannot: suggestions without trials.
    """

    folder: Path
    fields: SearchFields
    plan: StudyPlan = PLAN
    url: str = ""
    storage: Storage | None = None
    curve: Callable[[Mapping[str, Scalar], int], list[float]] = curve
    trained: dict[str, list[float]] = field(default_factory=dict)
    failing: set[int] = field(default_factory=set)
    cannot: set[int] = field(default_factory=set)

    @property
    def store(self) -> TrialStore:
        return TrialStore(self.folder / "results")

    @property
    def points(self) -> list[Point]:
        return read_points(self.store, NAME, self.plan.id)

    def make(self, number: int, params: Mapping[str, Scalar]) -> tuple[WantedTrial, ...]:
        if number in self.cannot:
            return ()
        labels = {**self.plan.labels, SUGGESTION: f"suggestion {number}"}
        made = []
        for seed in self.fields.seeds:
            config = {"params": dict(params), "seed": seed}
            key = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
            made.append(WantedTrial(key, labels, seed, config))
        return tuple(made)

    def is_done(self, trial: WantedTrial) -> bool:
        return len(self.trained.get(trial.key, [])) == len(self.values(trial))

    def values(self, trial: WantedTrial) -> list[float]:
        return self.curve(trial.config["params"], trial.seed)

    def launch(self, fuse: Fuse | None = None) -> "Driver":
        return Driver(self, fuse or Fuse())

    def finish(self, order: Order, seed: int = 0) -> "Driver":
        """One launch from wherever it stands to the end."""
        driver = self.launch()
        driver.run(order, Random(seed))
        return driver


class Driver:
    """Does with a hunt what the queue and the search do, a thing at a time, in whatever order it is told."""

    def __init__(self, world: World, fuse: Fuse):
        self.world, self.fuse = world, fuse
        storage = world.storage or Storage(world.url)
        if world.storage is None:
            event.listen(storage.optuna.engine, "begin", lambda connection: fuse.tick())
        self.study = Study(storage, world.plan, NAME, world.fields)
        self.hunt = Hunt(self.study, world.points, world.make, self._keep)
        self.running: list[WantedTrial] = []
        self.advanced: list[str] = []
        self.at_start = self.num_under_way

    def _keep(self, points: Sequence[Point]) -> None:
        self.fuse.tick()
        keep_points(self.world.store, NAME, self.world.plan.id, points)
        self.fuse.tick()

    def run(self, order: Order, random: Random, until: Callable[["Driver"], bool] | None = None) -> None:
        while self.running or self.hunt.has_next:
            if until is not None and until(self):
                return
            self.step(order(random, len(self.running), self.hunt.has_next))
            self.check()
        assert self.hunt.points == self.world.points

    def step(self, which: int) -> None:
        """Let one trial that runs come to the end of an epoch, or ask for the next suggestion."""
        self.fuse.tick()
        if which == len(self.running):
            self.running += self.hunt.next()
            return
        world, hunt, trial = self.world, self.hunt, self.running[which]
        number, seed = self.place(trial)
        for epoch, value in enumerate(world.trained.get(trial.key, []), start=1):
            hunt.epoch(number, seed, epoch, value)
        if not hunt.wants(number):
            del self.running[which]
            return
        values = world.values(trial)
        known = world.trained.setdefault(trial.key, [])
        if number in world.failing and len(known) == 2:
            del self.running[which]
            hunt.failed(number)
            return
        if len(known) < len(values):
            self.advanced.append(trial.key)
            known.append(values[len(known)])
            hunt.epoch(number, seed, len(known), known[-1])
        if len(known) == len(values):
            del self.running[which]
            self.running += hunt.ended(number, seed, values, min(values))

    @property
    def num_under_way(self) -> int:
        return len({number for trial in self.running if self.hunt.wants(number := self.place(trial)[0])})

    def place(self, trial: WantedTrial) -> tuple[int, int]:
        number = int(trial.labels[SUGGESTION].split()[1])
        return number, [each.seed for each in self.hunt.points[number].trials].index(trial.seed)

    def check(self) -> None:
        """What holds at any time."""
        hunt = self.hunt
        assert [point.number for point in hunt.points] == list(range(len(hunt.points)))
        assert len(hunt.points) <= hunt.budget
        assert self.num_under_way <= max(self.at_start, self.world.fields.at_once)


def oldest(random: Random, running: int, can_ask: bool) -> int:
    return running if can_ask else 0


def newest(random: Random, running: int, can_ask: bool) -> int:
    return running if can_ask else running - 1


def one_by_one(random: Random, running: int, can_ask: bool) -> int:
    return 0


def any_order(random: Random, running: int, can_ask: bool) -> int:
    return random.randrange(running + can_ask)


def fields_of(sampler: Any = "random", pruner: Any = None, **others: Any) -> SearchFields:
    return SearchFields(**{"space": SPACE, "budget": 8, "at_once": 3, "sampler": sampler, "pruner": pruner, **others})


def in_optuna(driver: Driver) -> list[dict[str, Any]]:
    """What Optuna has of a study, by number."""
    trials = sorted(driver.study._study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    return [
        {
            "number": trial.number,
            "state": trial.state.name,
            "value": trial.value if trial.state.name == "COMPLETE" else None,
            "params": trial.params,
            "steps": trial.intermediate_values,
        }
        for trial in trials
    ]


def counted(driver: Driver) -> tuple[dict[str, int], dict[str, int]]:
    """Suggestions by state: Optuna's and ours."""
    ours = [point.outcome.state if point.outcome else "running" for point in driver.world.points]
    theirs = [{"FAIL": "failed"}.get(row["state"], row["state"].lower()) for row in in_optuna(driver)]
    states = ("complete", "pruned", "failed", "running")
    return {state: theirs.count(state) for state in states}, {state: ours.count(state) for state in states}


@pytest.fixture(scope="module")
def memory() -> Storage:
    """SQLite without a disk, for those who kill nobody."""
    return Storage("sqlite:///:memory:")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in which only the tables are, which take the longest to make."""
    file = tmp_path_factory.mktemp("optuna") / "optuna.db"
    Storage(f"sqlite:///{file}").optuna.engine.dispose()
    return file


@dataclass
class Worlds:
    """Makes worlds that know nothing of each other. disk: whether Optuna's database is to outlive its driver."""

    folder: Path
    memory: Storage
    empty: Path
    made: int = 0

    def __call__(self, fields: SearchFields, *, disk: bool = False, **others: Any) -> World:
        self.made += 1
        folder = self.folder / str(self.made)
        folder.mkdir()
        if disk:
            shutil.copy(self.empty, folder / "optuna.db")
            return World(folder, fields, url=f"sqlite:///{folder / 'optuna.db'}", **others)
        for name in optuna.get_all_study_names(self.memory.optuna):
            optuna.delete_study(study_name=name, storage=self.memory.optuna)
        return World(folder, fields, storage=self.memory, **others)


@pytest.fixture
def worlds(tmp_path: Path, memory: Storage, empty: Path) -> Worlds:
    return Worlds(tmp_path, memory, empty)


TPE = {"kind": "tpe", "startup": 3}
GP = {"kind": "gp", "startup": 3}
KINDS = {
    "tpe": fields_of(TPE),
    "tpe, halving": fields_of(TPE, {"kind": "halving", "factor": 2}, budget=9),
    "tpe, hyperband": fields_of(TPE, {"kind": "hyperband", "factor": 2}, budget=10),
    "tpe, wilcoxon": fields_of(TPE, "wilcoxon", search_seeds=5),
    "random, halving over two seeds": fields_of("random", {"kind": "halving", "factor": 2}, search_seeds=2),
    "random, one at a time": fields_of("random", "halving", at_once=1),
    "gp, percentile": fields_of(GP, {"kind": "percentile", "startup": 2}, budget=6, at_once=2),
    "qmc, percentile": fields_of({"kind": "qmc", "sequence": "halton"}, {"kind": "percentile", "startup": 2}),
    "qmc": fields_of("qmc"),
}


def outcomes(points: Sequence[Point], state: str) -> list[Outcome]:
    return [point.outcome for point in points if point.outcome and point.outcome.state == state]


Found = tuple[list[Point], list[dict[str, Any]]]
"""A search that is over: its points, and what Optuna has of it."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, memory: Storage, empty: Path) -> Callable[[str], Found]:
    """What the searches of `KINDS` come to when each suggestion is trained by itself and nothing happens."""
    worlds = Worlds(tmp_path_factory.mktemp("undisturbed"), memory, empty)
    found: dict[str, Found] = {}

    def of(kind: str) -> Found:
        if kind not in found:
            world = worlds(KINDS[kind])
            driver = world.finish(one_by_one)
            found[kind] = world.points, in_optuna(driver)
        return found[kind]

    return of


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_is_told_as_it_went(undisturbed: Callable[[str], Found], kind: str) -> None:
    (points, rows), fields = undisturbed(kind), KINDS[kind]
    assert len(outcomes(points, "complete")) + len(outcomes(points, "pruned")) == fields.budget
    assert outcomes(points, "complete")
    assert bool(outcomes(points, "pruned")) == (fields.pruner is not None)
    assert len({str(point.params) for point in points}) == fields.budget
    assert [row["number"] for row in rows] == [point.number for point in points]
    assert [row["params"] for row in rows] == [point.params for point in points]
    assert [row["state"].lower() for row in rows] == [point.outcome.state for point in points if point.outcome]
    assert [row["value"] for row in rows if row["value"] is not None] == [
        outcome.value for outcome in outcomes(points, "complete")
    ]
    assert [list(row["steps"]) for row in rows] == [
        list(range(1, len(point.outcome.judged) + 1)) for point in points if point.outcome
    ]


@pytest.mark.parametrize(
    ("kind", "order"),
    [*((kind, any_order) for kind in KINDS), ("tpe, halving", newest), ("tpe, wilcoxon", newest), ("qmc", newest)],
)
def test_who_is_faster_changes_nothing(
    worlds: Worlds, undisturbed: Callable[[str], Found], kind: str, order: Order
) -> None:
    whole = undisturbed(kind)
    world = worlds(KINDS[kind])
    driver = world.finish(order, seed=1)
    assert driver.hunt.is_over
    assert (world.points, in_optuna(driver)) == whole


def test_what_is_known_decides_what_is_suggested(worlds: Worlds) -> None:
    """Else the same suggestions in any order would say nothing: told otherwise, the sampler suggests otherwise."""

    def upside_down(params: Mapping[str, Scalar], seed: int) -> list[float]:
        return [-value for value in curve(params, seed)]

    fields = fields_of(TPE)
    usual = worlds(fields)
    usual.finish(oldest)
    other = worlds(fields, curve=upside_down)
    other.finish(oldest)
    same = [mine.params == theirs.params for mine, theirs in zip(usual.points, other.points, strict=True)]
    # Three at random, and as many again that were asked for before the third of those was told.
    assert same[:3] == [True] * 3
    assert not all(same)


def killed_again_and_again(world: World, random: Random) -> tuple[Driver, int]:
    """The launch that comes to the end, and how many did not."""
    kills = 0
    finished: dict[int, Any] = {}
    while True:
        try:
            driver = world.launch(Fuse(random.randrange(1, 120) + 5 * kills))
            driver.run(any_order, random)
        except Killed:
            kills += 1
        else:
            return driver, kills
        if world.points:
            file = world.url.removeprefix("sqlite:///")
            reader = optuna.load_study(study_name=f"{NAME}: VAE [{PLAN.id}]", storage=f"sqlite:///{file}")
            trials = reader.get_trials(deepcopy=False)
            # What was pinned is known to Optuna but for the last, and nothing else is.
            assert len(world.points) - 1 <= len(trials) <= len(world.points)
            for trial in trials:
                if trial.state.is_finished():
                    told = (trial.state, trial.value, trial.datetime_complete)
                    assert finished.setdefault(trial.number, told) == told


@pytest.mark.parametrize(
    "kind",
    ["tpe, halving", "random, halving over two seeds", "tpe, hyperband", "qmc, percentile", "tpe, wilcoxon"],
)
def test_a_driver_that_is_killed_at_any_moment_goes_on_as_if_it_had_not_been(
    worlds: Worlds, kind: str, undisturbed: Callable[[str], Found]
) -> None:
    fields = KINDS[kind]
    whole = undisturbed(kind)
    world = worlds(fields, disk=True)
    driver, kills = killed_again_and_again(world, Random(kind))
    assert kills >= 2
    assert (world.points, in_optuna(driver)) == whole
    theirs, ours = counted(driver)
    assert theirs == ours
    assert theirs["running"] == 0


def kill_at_keep(world: World, call: Callable[[Sequence[Point]], bool], *, before: bool) -> None:
    """A launch that is killed as it pins what `call` says, before that is written or just after."""
    driver = world.launch()
    keep = driver.hunt._keep

    def killing(points: Sequence[Point]) -> None:
        if not call(points):
            keep(points)
            return
        if not before:
            keep(points)
        raise Killed

    driver.hunt._keep = killing
    with pytest.raises(Killed):
        driver.run(oldest, Random(0))


def num_in_optuna(world: World, state: str) -> int:
    study = optuna.load_study(study_name=f"{NAME}: VAE [{PLAN.id}]", storage=world.url)
    return [trial.state.name for trial in study.get_trials(deepcopy=False)].count(state)


def test_killed_between_the_pin_and_optuna(worlds: Worlds, undisturbed: Callable[[str], Found]) -> None:
    fields = KINDS["tpe, halving"]
    whole, world = undisturbed("tpe, halving"), worlds(fields, disk=True)
    kill_at_keep(world, lambda points: len(points) == 6 and points[5].outcome is None, before=False)
    assert len(world.points) == 6
    assert sum(num_in_optuna(world, state) for state in ("RUNNING", "COMPLETE", "PRUNED")) == 5
    driver = world.launch()
    theirs, ours = counted(driver)
    assert theirs == ours
    assert sum(ours.values()) == 6
    driver.run(any_order, Random(1))
    assert (world.points, in_optuna(driver)) == whole


@pytest.mark.parametrize("state", ["complete", "pruned"])
def test_killed_between_optuna_is_told_and_the_pin(
    worlds: Worlds, state: str, undisturbed: Callable[[str], Found]
) -> None:
    fields = KINDS["tpe, halving"]
    whole, world = undisturbed("tpe, halving"), worlds(fields, disk=True)
    kill_at_keep(world, lambda points: len(outcomes(points, state)) == 2, before=True)
    assert len(outcomes(world.points, state)) == 1
    assert num_in_optuna(world, state.upper()) == 2
    driver = world.launch()
    driver.run(any_order, Random(1))
    assert (world.points, in_optuna(driver)) == whole


def told(number: int) -> Callable[[Driver], bool]:
    return lambda driver: driver.hunt.num_told >= number


@pytest.mark.parametrize("kind", ["tpe", "qmc"])
def test_a_database_that_is_gone_is_made_again_from_the_points(
    worlds: Worlds, kind: str, undisturbed: Callable[[str], Found]
) -> None:
    fields = KINDS[kind]
    (points, rows), world = undisturbed(kind), worlds(fields, disk=True)
    driver = world.launch()
    driver.run(any_order, Random(5), told(4))
    before = world.points
    driver.study._storage.optuna.engine.dispose()
    shutil.copy(worlds.empty, world.folder / "optuna.db")
    driver = world.launch()
    theirs, ours = counted(driver)
    assert theirs == ours
    assert ours["complete"] >= 4
    assert [(row["number"], row["params"]) for row in in_optuna(driver)] == [
        (point.number, point.params) for point in before
    ]
    assert [row["value"] for row in in_optuna(driver)[:4]] == [row["value"] for row in rows[:4]]
    driver.run(any_order, Random(6))
    assert world.points == points


@pytest.mark.parametrize("kind", ["tpe, halving", "qmc, percentile", "tpe, wilcoxon"])
def test_a_database_that_is_gone_is_made_again_with_what_the_pruner_looks_at(
    worlds: Worlds, kind: str, undisturbed: Callable[[str], Found]
) -> None:
    """Else a search goes on otherwise than it would have: its pruner knows of no suggestion before."""
    fields = KINDS[kind]
    (points, _), world = undisturbed(kind), worlds(fields, disk=True)
    driver = world.launch()
    driver.run(any_order, Random(5), told(fields.budget // 2))
    before = world.points
    driver.study._storage.optuna.engine.dispose()
    shutil.copy(worlds.empty, world.folder / "optuna.db")
    driver = world.launch()
    theirs, ours = counted(driver)
    assert theirs == ours
    assert [(row["number"], row["params"]) for row in in_optuna(driver)] == [
        (point.number, point.params) for point in before
    ]
    driver.run(any_order, Random(6))
    assert driver.hunt.is_over
    assert [point.params for point in world.points] == [point.params for point in points]
    assert world.points == points


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
