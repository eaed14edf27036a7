"""One cell's search on its way: suggestions under way, what they come to, and which of them are best."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from sweep.points import Outcome, Point
from sweep.record import WantedTrial
from sweep.search import Study
from sweep.space import Scalar

Make = Callable[[int, Mapping[str, Scalar]], tuple[WantedTrial, ...]]
"""The trials of a suggestion, by its number and values; none when it cannot be trained."""


@dataclass
class _Curve:
    """The objective of one seed, epoch by epoch; final: at the best epoch, once its training has ended."""

    values: list[float] = field(default_factory=list)
    final: float | None = None

    def at(self, epoch: int) -> float | None:
        """After a training that was shorter, what it came to last."""
        if epoch <= len(self.values):
            return self.values[epoch - 1]
        return self.values[-1] if self.final is not None and self.values else None


@dataclass
class _UnderWay:
    """A suggestion that is not judged to the end. judged: values after each epoch, or seed, as far as it is."""

    curves: list[_Curve]
    judged: list[float] = field(default_factory=list)
    outcome: Outcome | None = None


class Hunt:
    """Suggestions are told in the order of their numbers, so that what is suggested does not depend on who was faster.

    A suggestion that failed is not told while another is under way: a launch that goes on tries it again, in its place.
    points: from the store; `keep` is called with each that is new, before any trial of it is handed out, and that has
    come to its end. make: see `Make`.
    """

    def __init__(self, study: Study, points: Sequence[Point], make: Make, keep: Callable[[Point], None]):
        self.study, self.points = study, list(points)
        self._make, self._keep = make, keep
        self._under_way: dict[int, _UnderWay] = {}
        self._failed: set[int] = set()
        for point in self.points:
            study.begin(point.number, point.params)
            if point.outcome is not None:
                self._tell_again(point, point.outcome)
            else:
                self._under_way[point.number] = _UnderWay([_Curve() for _ in point.trials])
        for number in self._under_way:
            study.look(number, self.points[number].params)
        self._idle = list(self._under_way)
        for number in list(self._under_way):
            self._fail_what_cannot_be_trained(self.points[number])

    @property
    def budget(self) -> int:
        return self.study.fields.budget

    @property
    def num_told(self) -> int:
        return sum(point.outcome is not None for point in self.points)

    @property
    def is_over(self) -> bool:
        return len(self.points) >= self.budget and all(point.outcome for point in self.points)

    @property
    def has_next(self) -> bool:
        """Whether there is a suggestion to begin with: one that an earlier launch left, or a new one."""
        if self._idle:
            begun = [number for number in self._under_way if number not in (*self._idle, *self._failed)]
            return len(begun) < self.study.fields.at_once
        number = len(self.points)
        known = max(0, number + 1 - self.study.fields.at_once)
        # What a new one may know of is known.
        return number < self.budget and all(self._is_settled(point.number) for point in self.points[:known])

    def next(self) -> list[WantedTrial]:
        """Those trials of the next suggestion that can begin. A new one is pinned before."""
        if self._idle:
            return self.trials_of(self._idle.pop(0))
        number = len(self.points)
        params = self.study.suggest(number)
        point = Point(number, params, self._make(number, params))
        self._under_way[number] = _UnderWay([_Curve() for _ in point.trials])
        self.points.append(point)
        self._keep(point)
        self.study.begin(number, params)
        self._fail_what_cannot_be_trained(point)
        return self.trials_of(number)

    def unfinished(self) -> list[WantedTrial]:
        """Trials of all suggestions that an earlier launch left under way."""
        return [trial for number in self._under_way for trial in self.trials_of(number)]

    def trials_of(self, number: int) -> list[WantedTrial]:
        """Those of a suggestion that can begin: all at once, or one after another if that may spare the others."""
        trials, pruner = self.points[number].trials, self.study.fields.pruner
        if pruner is None or not pruner.over_seeds or number not in self._under_way:
            return list(trials)
        return list(trials[len(self._under_way[number].judged) :][:1])

    def wants(self, number: int) -> bool:
        """Whether a suggestion's trials are still to be trained."""
        return not self._is_settled(number) and self._under_way[number].outcome is None

    def epoch(self, number: int, seed: int, epoch: int, value: float) -> None:
        """Take in a value of one of a suggestion's trials; seed: which, from 0. What is known changes nothing."""
        curve = self._curve(number, seed)
        if curve is not None and epoch == len(curve.values) + 1:
            curve.values.append(value)
            self._judge(number)

    def ended(self, number: int, seed: int, values: Sequence[float], final: float) -> list[WantedTrial]:
        """One of a suggestion's trials is done. Returns the next one of it, if that was waiting."""
        curve = self._curve(number, seed)
        if curve is None or curve.final is not None:
            return []
        curve.values, curve.final = list(values), final
        before = len(self._under_way[number].judged)
        self._judge(number)
        waiting = self.wants(number) and len(self._under_way[number].judged) > before
        return self.trials_of(number) if waiting and self._over_seeds else []

    def failed(self, number: int) -> None:
        """One of a suggestion's trials has failed, and is not tried again in this launch."""
        if self.wants(number):
            self._failed.add(number)
            self._tell()

    def best(self, top_k: int) -> list[Point]:
        """Of the suggestions with a value, the lowest; each once, however often it came."""
        found: dict[tuple[str, ...], Point] = {}
        for point in self.points:
            if point.outcome and point.outcome.state == "complete":
                found.setdefault(tuple(trial.key for trial in point.trials), point)
        return sorted(found.values(), key=lambda point: (point.outcome and point.outcome.value, point.number))[:top_k]

    @property
    def _over_seeds(self) -> bool:
        return self.study.fields.pruner is not None and self.study.fields.pruner.over_seeds

    def _curve(self, number: int, seed: int) -> _Curve | None:
        under_way = self._under_way.get(number)
        return under_way.curves[seed] if under_way and under_way.outcome is None else None

    def _is_settled(self, number: int) -> bool:
        return number in self._failed or self.points[number].outcome is not None

    def _judge(self, number: int) -> None:
        """Look at a suggestion as far as its values reach, step by step, whatever order they came in."""
        under_way = self._under_way[number]
        while under_way.outcome is None and (value := self._value(under_way)) is not None:
            under_way.judged.append(value)
            if self.study.report(number, self.points[number].params, len(under_way.judged), value):
                under_way.outcome = Outcome("pruned", value, tuple(under_way.judged))
        finals = [curve.final for curve in under_way.curves if curve.final is not None]
        if under_way.outcome is None and len(finals) == len(under_way.curves):
            under_way.outcome = Outcome("complete", fmean(finals), tuple(under_way.judged))
        if under_way.outcome is not None:
            self._tell()

    def _value(self, under_way: _UnderWay) -> float | None:
        """What there is to judge after one more step; None when that is not known yet, or there is none."""
        curves, step = under_way.curves, len(under_way.judged) + 1
        if self._over_seeds:
            return curves[step - 1].final if step <= len(curves) else None
        if all(len(curve.values) < step for curve in curves):
            return None
        values = [curve.at(step) for curve in curves]
        known = [value for value in values if value is not None]
        return fmean(known) if len(known) == len(values) else None

    def _tell(self) -> None:
        """Tell what is known, in order; and when nothing else is left, that what failed has failed."""
        for number in sorted(self._under_way):
            if number in self._failed:
                continue
            outcome = self._under_way[number].outcome
            if outcome is None:
                break
            self._settle(number, outcome)
        if len(self.points) >= self.budget and self._failed >= set(self._under_way):
            for number in sorted(self._under_way):
                self._settle(number, Outcome("failed", None, tuple(self._under_way[number].judged)))

    def _tell_again(self, point: Point, outcome: Outcome) -> None:
        """Have Optuna know what became of a suggestion, if its storage does not, with all that pruners look at."""
        if not self.study.is_told(point.number):
            for step, value in enumerate(outcome.judged, start=1):
                self.study.report(point.number, point.params, step, value)
            self.study.tell(point.number, outcome)

    def _settle(self, number: int, outcome: Outcome) -> None:
        self.study.tell(number, outcome)
        self.points[number] = replace(self.points[number], outcome=outcome)
        self._keep(self.points[number])
        del self._under_way[number]

    def _fail_what_cannot_be_trained(self, point: Point) -> None:
        if not point.trials:
            self.failed(point.number)
