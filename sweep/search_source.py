"""The searches of a sweep as the queue sees them: what to train next, what to stop, and what is then reported."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sweep.config import TrialConfig, trial_key
from sweep.hunt import Hunt
from sweep.plan import Plan
from sweep.points import keep_point, mark_of, new_mark, read_points
from sweep.record import SUGGESTION, TUNED, EpochRecord, StudyPlan, SweepRecord, TrialResult, Tuned, WantedTrial
from sweep.search import Storage, Study
from sweep.search_plan import config_of
from sweep.space import Scalar
from sweep.store import TrialStore

PAUSE = 10.0
"""Seconds between two looks whether a storage that was lost is back."""


@dataclass(frozen=True)
class _Place:
    """Which suggestion of which cell a trial is of, and which of its seeds, from 0."""

    hunt: Hunt
    number: int
    seed: int


class Search:
    """A source of trials for the queue. Cells take turns, the one that is furthest behind first.

    url: of Optuna's storage. only: keys to which the launch is limited; nothing new is suggested then. say: called with
    what a person should know. Raises OSError when the storage cannot be used. When that happens later, what runs goes
    on, and the search when the storage is back: from the store and from there, as a new launch would.
    """

    def __init__(
        self, plan: Plan, store: TrialStore, url: str, only: Collection[str] | None, say: Callable[[str], None]
    ):
        assert plan.fields.search is not None
        self._plan, self._store, self._only, self._say = plan, store, only, say
        self._fields = plan.fields.search
        self._places: dict[str, _Place] = {}
        self._reports: dict[str, list[tuple[Tuned, list[WantedTrial]]]] = {}
        self._handed_out: set[str] = set()
        self._away_since: float | None = None
        self._url = url
        self._hunts = self._open_all()
        unfinished = [trial for hunt in self._hunts for trial in hunt.unfinished()]
        self._waiting = [trial for trial in unfinished if only is not None and trial.key in only]
        # What reports those is in `record`, from the beginning.
        self._handed_out |= {hunt.study.plan.id for hunt in self._hunts if hunt.is_over}

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come, unless what was handed out leads to more."""
        if self._waiting:
            return False
        return self._only is not None or (self.is_complete and len(self._handed_out) == len(self._hunts))

    @property
    def is_complete(self) -> bool:
        """Whether every cell has spent its budget."""
        return all(hunt.is_over for hunt in self._hunts)

    @property
    def record(self) -> SweepRecord:
        """The sweep with the trials that report what its searches have chosen so far."""
        chosen = [each for hunt in self._hunts if hunt.is_over for each in self._reports_of(hunt)]
        trials = [trial for trial in self._plan.record.trials if TUNED not in trial.labels]
        trials += [trial for _, reports in chosen for trial in reports]
        return replace(self._plan.record, trials=tuple(trials), tuned=tuple(tuned for tuned, _ in chosen))

    @property
    def num_to_come(self) -> int:
        """Trials that this launch will be given at the most, besides those of `record`."""
        if self._only is not None:
            return len(self._waiting)
        open = [hunt for hunt in self._hunts if not hunt.is_over]
        suggestions = sum(max(len(hunt.points), hunt.budget) - hunt.num_told for hunt in open)
        reports = len(open) * self._fields.top_k * len(self._plan.fields.report_seeds)
        return suggestions * len(self._fields.seeds) + reports

    def more(self) -> list[WantedTrial]:
        """Trials to queue before all others: of the next suggestion, or those that report what was chosen."""
        waiting, self._waiting = self._waiting, []
        if waiting or self._only is not None or self._is_away():
            return waiting
        with self._storage_in_use():
            for hunt in self._hunts:
                if hunt.is_over and hunt.study.plan.id not in self._handed_out:
                    self._handed_out.add(hunt.study.plan.id)
                    reports = self._reports_of(hunt)
                    self._store.record(self.record)
                    return [trial for _, trials in reports for trial in trials]
            ready = [hunt for hunt in self._hunts if hunt.has_next]
            if ready:
                hunt = min(ready, key=lambda hunt: len(hunt.points) / hunt.budget)
                return self._placed(hunt, hunt.next())
        return []

    def wants(self, trial: WantedTrial) -> bool:
        """Whether a trial is still to be trained. What it has come to in the store is taken in before."""
        place = self._places.get(trial.name)
        if place is None:
            return True
        history = self._store.progress(trial.key).get("history", ()) if place.hunt.wants(place.number) else ()
        for record in history:
            self._take_in(place, EpochRecord(**record))
        return place.hunt.wants(place.number)

    def epoch(self, trial: WantedTrial, record: EpochRecord) -> bool:
        """Take in an epoch; whether the trial is to go on."""
        place = self._places.get(trial.name)
        if place is None:
            return True
        self._take_in(place, record)
        return place.hunt.wants(place.number)

    def finished(self, trial: WantedTrial, result: TrialResult) -> None:
        place = self._places.get(trial.name)
        if place is None:
            return
        objective = self._fields.objective
        values = [record.valid[objective] for record in result.history]
        with self._storage_in_use():
            more = place.hunt.ended(place.number, place.seed, values, result.valid[objective])
            self._waiting += self._placed(place.hunt, more)

    def failed(self, trial: WantedTrial) -> None:
        """It is not tried again in this launch."""
        place = self._places.get(trial.name)
        if place is not None:
            with self._storage_in_use():
                place.hunt.failed(place.number)

    def _take_in(self, place: _Place, record: EpochRecord) -> None:
        with self._storage_in_use():
            place.hunt.epoch(place.number, place.seed, record.epoch, record.valid[self._fields.objective])

    @contextmanager
    def _storage_in_use(self) -> Iterator[None]:
        """What cannot be kept is missed, and made up for from the store of the trials when the storage is back."""
        try:
            yield
        except OSError as error:
            if self._away_since is None:
                self._say(f"{error}: no suggestion is made until that is mended")
            self._away_since = time.monotonic()

    def _is_away(self) -> bool:
        """Whether the storage was lost and is not back. If it is, the searches go on from what the stores have."""
        if self._away_since is not None and time.monotonic() - self._away_since > PAUSE:
            with self._storage_in_use():
                self._hunts = self._open_all()
                self._away_since = None
                self._say("the search goes on")
        return self._away_since is not None

    def _open_all(self) -> list[Hunt]:
        storage = Storage(self._url)
        hunts = [self._open(storage, study) for study in self._plan.record.studies]
        for hunt in hunts:
            self._placed(hunt, [trial for point in hunt.points for trial in point.trials if point.outcome is None])
        return hunts

    def _open(self, storage: Storage, plan: StudyPlan) -> Hunt:
        name, store = self._plan.record.name, self._store
        points, seeds = read_points(store, name, plan.id), self._fields.seeds
        mark = mark_of(store, plan.id) or new_mark(store, plan.id)
        study = Study(storage, plan, name, self._fields, mark)
        if not study.agrees([point.params for point in points]):  # the store's were removed, to search anew
            study = Study(storage, plan, name, self._fields, new_mark(store, plan.id))
        if study.version_warning:
            self._say(study.version_warning)
        return Hunt(
            study,
            points,
            lambda number, params: self._trials(study, {SUGGESTION: f"suggestion {number}"}, params, seeds),
            lambda point: keep_point(self._store, name, plan.id, point),
        )

    def _trials(
        self, study: Study, label: Mapping[str, str], params: Mapping[str, Scalar], seeds: list[int], test: bool = False
    ) -> tuple[WantedTrial, ...]:
        """One a seed; none when the suggestion cannot be trained, which the ends of its ranges did not show."""
        try:
            configs = [config_of(study.plan.document, study.space, params, seed, test=test) for seed in seeds]
            return tuple(self._wanted(config, {**study.plan.labels, **label}) for config in configs)
        except ValueError as error:
            self._say(f"{study.plan.cell}: {dict(params)} cannot be trained: {error}")
            return ()

    def _wanted(self, config: TrialConfig, labels: Mapping[str, str]) -> WantedTrial:
        corpus = self._plan.corpora(config.data)
        key = trial_key(config, corpus.content_hash)
        self._plan.weigh(key, config)
        return WantedTrial(key, labels, config.seed, config.document())

    def _placed(self, hunt: Hunt, trials: list[WantedTrial]) -> list[WantedTrial]:
        """The trials, which this then knows by their names."""
        for trial in trials:
            number = int(trial.labels[SUGGESTION].rpartition(" ")[2])
            seed = [each.key for each in hunt.points[number].trials].index(trial.key)
            self._places[trial.name] = _Place(hunt, number, seed)
            self._plan.weigh(trial.key, TrialConfig.parse(trial.config))
        return trials

    def _reports_of(self, hunt: Hunt) -> list[tuple[Tuned, list[WantedTrial]]]:
        """What a search that is over has chosen, the best first, each with the trials that report it."""
        study, fields = hunt.study, self._fields
        if study.plan.id not in self._reports:
            reports = self._reports[study.plan.id] = []
            for rank, point in enumerate(hunt.best(fields.top_k), start=1):
                label = {TUNED: "tuned" if rank == 1 else f"tuned, no. {rank}"}
                assert point.outcome is not None
                assert point.outcome.value is not None
                trials = self._trials(study, label, point.params, self._plan.fields.report_seeds, test=True)
                tuned = Tuned(
                    {**study.plan.labels, **label}, fields.objective, len(hunt.points), len(fields.seeds),
                    point.number, point.params, point.outcome.value,
                )  # fmt: skip
                reports.append((tuned, list(trials)))
            if not reports:
                self._say(f"{study.plan.cell}: no suggestion of the search came to its end; nothing is reported of it")
        return self._reports[study.plan.id]
