"""What the tests of one cell's search share: a world of made-up curves, and a driver that does what the queue does."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import optuna
from sqlalchemy import event

from sweep.hunt import Hunt
from sweep.points import Outcome, Point, keep_point, read_points
from sweep.record import SUGGESTION, StudyPlan, WantedTrial
from sweep.search import Storage, Study
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
PLAN = StudyPlan("0123456789abcdef", {"method": "VAE"}, {}, SPACE, "", grace=1, epochs=EPOCHS)
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

    def _keep(self, point: Point) -> None:
        self.fuse.tick()
        keep_point(self.world.store, NAME, self.world.plan.id, point)
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


def told(number: int) -> Callable[[Driver], bool]:
    return lambda driver: driver.hunt.num_told >= number


def num_in_optuna(world: World, state: str) -> int:
    study = optuna.load_study(study_name=f"{NAME}: VAE [{PLAN.id}]", storage=world.url)
    return [trial.state.name for trial in study.get_trials(deepcopy=False)].count(state)
