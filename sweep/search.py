"""The only user of Optuna besides study_plots.py: the study of one cell, asked and told, in Optuna's own storage.

What is suggested as number n, and when n is pruned, follows from the numbers up to n − at_once alone, whatever else
has been told since. So the sampler's state is a function of the study and of n, and a search comes out the same on one
slot and on a hundred, and whether or not its driver was killed.
"""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sweep.mirror import redacted
from sweep.points import Outcome
from sweep.record import StudyPlan
from sweep.search_fields import SearchFields
from sweep.space import Choice, Dimension, Scalar, Space, parse_space, patch_of

optuna.logging.set_verbosity(optuna.logging.ERROR)
logging.getLogger("alembic").setLevel(logging.WARNING)

VERSION = "optuna"
"""Of a study's user attributes."""
_STATES: Mapping[str, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class Storage:
    """Optuna's storage at a URL, one study a cell. Only the driver of a sweep writes it.

    Raises ValueError on an address of no database that there is a driver of, and OSError, with the address but not its
    password, when it cannot be used; so does every method of a study.
    """

    def __init__(self, url: str):
        self.url = url
        with self.reaching():
            try:
                self.optuna = optuna.storages.RDBStorage(url)
            except (ImportError, ArgumentError) as error:
                raise ValueError(
                    f"--search-storage {redacted(url)} cannot be opened ({error}); give the URL of a database, as "
                    f"sqlite:///optuna.db or postgresql+psycopg2://host/name, and install its driver"
                ) from None

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Have what goes wrong at the storage be an OSError that says where."""
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            root: BaseException = error
            while root.__cause__ is not None:
                root = root.__cause__
            text = " ".join(str(root).split()).replace(self.url, redacted(self.url))[:300]
            raise OSError(f"Optuna's storage {redacted(self.url)} could not be used ({text})") from None


class Study:
    """The study of one cell. Its trials have the numbers of the suggestions. mark: see `points.mark_of`."""

    def __init__(self, storage: Storage, plan: StudyPlan, sweep: str, fields: SearchFields, mark: str = ""):
        self.plan, self.fields = plan, fields
        self.space = parse_space(plan.space)
        self.name = study_name(sweep, plan, mark)
        self._storage = storage
        self._views: dict[int, optuna.trial.Trial] = {}
        self._trials: list[FrozenTrial] = []
        with storage.reaching():
            self._create()

    @property
    def version_warning(self) -> str | None:
        """One sentence when another Optuna began this study, which may not suggest the same."""
        if self.made_by == optuna.__version__:
            return None
        return (
            f"the study of {self.plan.cell} was begun with Optuna {self.made_by}, this is {optuna.__version__}: from "
            f"now on it may suggest otherwise than it would have"
        )

    def agrees(self, params: Sequence[Mapping[str, Scalar]]) -> bool:
        """Whether Optuna has no suggestions but those of these values."""
        known = [trial.params for trial in self._trials]
        return known == [dict(each) for each in params[: len(known)]]

    def look(self, number: int, params: Mapping[str, Scalar]) -> None:
        """Have a suggestion that is under way be judged by what is known now, whatever is told before it is."""
        self._view(number, params)

    def suggest(self, number: int) -> dict[str, Scalar]:
        """The suggestion of that number. All of the numbers up to it less `at_once` are told, or never will be."""
        trial = self._view(number)
        return dict(trial.params)

    def begin(self, number: int, params: Mapping[str, Scalar]) -> None:
        """Have Optuna know a suggestion, if it does not yet, as one that is under way."""
        with self._storage.reaching():
            if number < len(self._trials):
                return
            assert number == len(self._trials)
            storage, distributions = self._storage.optuna, _distributions(self.space, params)
            template = create_trial(state=TrialState.RUNNING, params=dict(params), distributions=distributions)
            identity = storage.create_new_trial(storage.get_study_id_from_name(self.name), template)
            self._trials.append(storage.get_trial(identity))
            assert self._trials[number].number == number

    def report(self, number: int, params: Mapping[str, Scalar], step: int, value: float) -> bool:
        """Keep a value under way; whether the suggestion is to be pruned by it. step: an epoch, or a seed from 1."""
        with self._storage.reaching():
            if self._trials[number].intermediate_values.get(step) != value and not self.is_told(number):
                self._storage.optuna.set_trial_intermediate_value(self._trials[number]._trial_id, step, value)
                self._refresh(number)
        trial, pruner = self._view(number, params), self.fields.pruner
        trial.report(value, step)
        if pruner is None:
            return False
        # After the last step, ending it would spare nothing.
        first, last = (1, len(self.fields.seeds)) if pruner.over_seeds else (self.plan.grace, self.plan.epochs)
        return trial.should_prune() and first <= step < last

    def is_told(self, number: int) -> bool:
        return bool(self._trials[number].state.is_finished())

    def tell(self, number: int, outcome: Outcome) -> None:
        """What became of a suggestion; nothing happens when it was told before."""
        if self.is_told(number):
            return
        view = self._views.pop(number, None)
        with self._storage.reaching():
            if view is not None:  # the pruner's notes on it, which the next suggestions are measured by
                for key, value in view.storage.get_trial(view._trial_id).system_attrs.items():
                    if key.startswith("completed_rung_"):
                        self._storage.optuna.set_trial_system_attr(self._trials[number]._trial_id, key, value)
            state = _STATES[outcome.state]
            self._study.tell(number, outcome.value if outcome.state == "complete" else None, state=state)
            self._refresh(number)

    def _create(self) -> None:
        self._study = optuna.create_study(
            storage=self._storage.optuna, study_name=self.name, direction="minimize", load_if_exists=True
        )
        self._trials = self._study.get_trials(deepcopy=False)
        self.made_by = str(self._study.user_attrs.get(VERSION, optuna.__version__))
        if VERSION not in self._study.user_attrs:
            self._describe()

    def _refresh(self, number: int) -> None:
        self._trials[number] = self._storage.optuna.get_trial(self._trials[number]._trial_id)

    def _describe(self) -> None:
        """In Optuna's own pages and for whoever reads its storage: how this study is run."""
        facts: dict[str, Any] = self.fields.model_dump(
            mode="json", exclude={"space", "cells", "grid", "top_k", "budget"}
        )
        for key, value in {
            "cell": self.plan.cell,
            **facts,
            "grace": self.plan.grace,
            VERSION: optuna.__version__,
        }.items():
            self._study.set_user_attr(key, value)

    def _view(self, number: int, params: Mapping[str, Scalar] | None = None) -> optuna.trial.Trial:
        """The trial of that number in a study in memory that knows no more than it may, its values suggested.

        params: of a suggestion that was made before.
        """
        if number not in self._views:
            view = optuna.create_study(
                study_name=self.plan.id, sampler=self._sampler(number), pruner=self._pruner(), direction="minimize"
            )
            view.add_trials([self._known(trial, number - self.fields.at_once) for trial in self._trials[:number]])
            if params is not None:
                view.enqueue_trial(dict(params))
            elif self.fields.sampler.counts_draws:
                self._skip_draws(view, number)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Optuna's classes that are new
                trial = view.ask()
                patch_of(self.space, lambda name, dimension: _suggest(trial, name, dimension))
            self._views[number] = trial
        return self._views[number]

    def _known(self, trial: FrozenTrial, last: int) -> FrozenTrial:
        """A trial as those see it that may know of the numbers up to `last`: others are under way."""
        if trial.number <= last and trial.state.is_finished():
            return trial
        return create_trial(state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions)

    def _skip_draws(self, view: optuna.Study, number: int) -> None:
        """Have a sequence go on where the numbers before have left it."""
        sampler = view.sampler
        nothing = create_trial(state=TrialState.RUNNING)
        space = sampler.infer_relative_search_space(view, nothing)
        for _ in range(number):
            sampler.sample_relative(view, nothing, space)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        # A sequence has one seed and many places, whoever learns has a seed for each number.
        of = self.plan.id if self.fields.sampler.counts_draws else f"{self.plan.id}/{number}"
        seed = int.from_bytes(hashlib.sha256(of.encode()).digest()[:4], "little")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made: optuna.samplers.BaseSampler = getattr(optuna.samplers, self.fields.sampler.optuna)(
                seed=seed, **self.fields.sampler.arguments()
            )
            return made

    def _pruner(self) -> optuna.pruners.BasePruner:
        pruner = self.fields.pruner
        if pruner is None:
            return optuna.pruners.NopPruner()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            arguments = pruner.arguments(self.plan.grace, self.plan.epochs)
            made: optuna.pruners.BasePruner = getattr(optuna.pruners, pruner.optuna)(**arguments)
            return made


def study_name(sweep: str, plan: StudyPlan, mark: str) -> str:
    """Of a cell's study in Optuna's storage."""
    title = f"{sweep}: {plan.cell}" if plan.labels else sweep
    return f"{title} [{'-'.join(filter(None, (plan.id, mark)))}]"


def _suggest(trial: optuna.trial.Trial, name: str, dimension: Dimension) -> Scalar:
    if isinstance(dimension, Choice):
        chosen: Scalar = trial.suggest_categorical(name, dimension.labels)
        return chosen
    if dimension.is_whole:
        step = 1 if dimension.step is None else int(dimension.step)
        return trial.suggest_int(name, int(dimension.low), int(dimension.high), step=step, log=dimension.log)
    return trial.suggest_float(name, dimension.low, dimension.high, step=dimension.step, log=dimension.log)


def _distributions(space: Space, params: Mapping[str, Scalar]) -> dict[str, optuna.distributions.BaseDistribution]:
    """Of the dimensions that a suggestion has values of."""
    found: dict[str, optuna.distributions.BaseDistribution] = {}

    def take(name: str, dimension: Dimension) -> Scalar:
        found[name] = _distribution(dimension)
        return params[name]

    patch_of(space, take)
    return found


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    if isinstance(dimension, Choice):
        return optuna.distributions.CategoricalDistribution(dimension.labels)
    if dimension.is_whole:
        step = 1 if dimension.step is None else int(dimension.step)
        return optuna.distributions.IntDistribution(int(dimension.low), int(dimension.high), dimension.log, step)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)
