"""SweepSpec: what the user wrote — axes of labelled patches, seeds, resources — and the grid that follows from it."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from pydantic import ValidationError as PydanticError
from yaml import YAMLError

from sweep.config import GROUPS, ConfigError, TrialConfig, dotted, explain, plain, shown, unknown
from sweep.document import (
    DEEPEST,
    NAME,
    Document,
    NotPlainError,
    choice_file,
    choices,
    expand,
    fault,
    merge,
    parse,
    read,
)
from sweep.notify import NotifySettings
from sweep.record import START as START_OF
from sweep.record import SUGGESTION, TUNED
from sweep.resources import Resources
from sweep.search_fields import SearchFields

Patch = Mapping[str, Any]
_Rule = Mapping[str, str | list[str]]
"""Labels by axis."""

START: Patch = {"data": "grammar", "schedule": "linear", "objective": "elbo", "update": "joint"}
"""Under every spec: what a trial is made of where the spec does not say."""
MOST_TRIALS = 10_000
"""Of one sweep, before exclusion: each is checked at every launch, and a grid is soon larger than it looks."""


class RetryPolicy(BaseModel):
    """How often a failed trial is tried again within one launch, from its checkpoint; the other kinds are not.

    worker_lost: its process or node was lost. out_of_memory: then alone on its GPU, or with all CPUs of a node.
    backoff_seconds: before the second try in a row that made no progress, twice as long before each further one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    worker_lost: NonNegativeInt | Literal["unlimited"] = "unlimited"
    out_of_memory: NonNegativeInt = 1
    backoff_seconds: PositiveFloat = Field(10.0, le=3600)


class TableLayout(BaseModel):
    """split_by: the axis with a table a label. across: the axis whose labels stand side by side. The rest are rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split_by: str | None = "dataset"
    across: str | None = "setting"


class SpecFields(BaseModel):
    """The keys of a spec file and their types."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{NAME.pattern}$", max_length=80)
    about: str = ""
    base: dict[str, Any] = {}
    axes: dict[str, dict[str, dict[str, Any]]] = {}
    exclude: list[dict[str, str | list[str]]] = []
    seeds: PositiveInt | list[NonNegativeInt] = 1
    resources: Resources = Resources()
    retry: RetryPolicy = RetryPolicy()
    grace_seconds: NonNegativeFloat = Field(
        60.0, le=86400
    )  # for running trials to checkpoint when the sweep is stopped
    table: TableLayout = TableLayout()
    search: SearchFields | None = None
    notify: NotifySettings | None = None

    @property
    def report_seeds(self) -> list[int]:
        """Those of the trials that a table is made of."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


@dataclass(frozen=True)
class Cell:
    """One point of the product of the axes: a label an axis, and the merged trial document without a seed."""

    labels: Mapping[str, str]
    document: Mapping[str, Any]


@dataclass(frozen=True)
class SweepSpec:
    """A checked spec. document: as written, with overrides of its own keys in it. last: patch of the command line."""

    fields: SpecFields
    document: Document
    last: Patch

    @classmethod
    def load(cls, source: str, overrides: Sequence[str] = ()) -> "SweepSpec":
        """From a YAML file, or the name of a choice of conf/sweep/, and `key=value` overrides. Raises ValueError."""
        file = Path(source)
        if file.suffix in (".yaml", ".yml"):
            document = read(file, plain(str(file), 1000))
        elif source in choices("sweep"):
            document = read(choice_file("sweep", source), f"conf/sweep/{source}.yaml")
        else:
            raise ValueError(f"{unknown('sweep', source, choices('sweep'))}; or give the path of a .yaml file")
        return cls.of(document, overrides)

    @classmethod
    def of(cls, document: Document, overrides: Sequence[str] = ()) -> "SweepSpec":
        """From a parsed document. Raises ValueError with the place, the rule and the way out."""
        own, last = _split(overrides)
        try:
            changed = Document(document.name, merge(document.values, own), document.root)
        except ConfigError as error:
            raise ValueError(f"{document.name}: {error}") from None
        try:
            fields = SpecFields.model_validate(dict(changed.values), strict=True)
        except PydanticError as error:
            problem = explain(error, SpecFields, changed.values)
            raise ValueError(f"{changed.place(problem.path)}: {problem.problem}") from None
        spec = cls(fields, changed, last)
        spec._check()
        return spec

    @property
    def seeds(self) -> list[int]:
        return self.fields.report_seeds

    def cells(self) -> list[Cell]:
        """The grid in the order of the axes, excluded combinations left out. Raises ValueError."""
        axes = self.fields.axes
        below = merge(self._expand((), START), self._expand(("base",), self.fields.base))
        # Each once, because a named choice is a file to be read.
        patches = {
            axis: {label: self._expand(("axes", axis, label), patch) for label, patch in labels.items()}
            for axis, labels in axes.items()
        }
        last = self._expand((), self.last)
        cells = []
        for labels in itertools.product(*axes.values()):
            named = dict(zip(axes, labels, strict=True))
            if not self._is_excluded(named):
                chosen = [patches[axis][label] for axis, label in named.items()]
                cells.append(Cell(named, _with_start(merge(reduce(merge, chosen, below), last), chosen, below, last)))
        if not cells:
            raise ValueError(f"{self.document.place(('exclude',))}: every combination is excluded; nothing is left")
        return cells

    def trial_config(self, cell: Cell, seed: int) -> TrialConfig:
        """The checked config of one trial. Raises ValueError with the place of the patch that is wrong."""
        try:
            config = TrialConfig.parse({**cell.document, "seed": seed})
            if not config.evaluate.test:
                raise ConfigError(("evaluate", "test"), "only the trials of a search go without a test; leave it out")
        except ConfigError as error:
            raise self.misplaced(error, cell.labels) from None
        return config

    def trial_configs(self, cell: Cell, seeds: Sequence[int]) -> Iterator[TrialConfig]:
        """Those of a cell, one a seed. Raises ValueError as `trial_config` does."""
        config = self.trial_config(cell, seeds[0])
        for seed in seeds:
            # From the one before, which knows its key by now.
            try:
                config = config.with_seed(seed)
            except ConfigError as error:
                raise self.misplaced(error, cell.labels) from None
            yield config

    def prerequisite(self, cell: Cell, config: TrialConfig) -> TrialConfig | None:
        """What a trial of a cell starts from. Raises ValueError with the place of what is wrong."""
        try:
            return config.prerequisite
        except ConfigError as error:
            raise self.misplaced(error, cell.labels) from None

    def misplaced(self, error: ConfigError, labels: Mapping[str, str]) -> ValueError:
        """The error with the place in the user's file that gave the key it is about."""
        for prefix, patch in reversed(list(self._patches(labels))):
            if _decides(patch, error.path):
                return self._placed(error, prefix)
        return ValueError(f"{self.document.name}: {error}")

    def _placed(self, error: ConfigError, prefix: tuple[str, ...]) -> ValueError:
        where = self.document.place((*prefix, *error.path)) if prefix else dotted(error.path)
        return ValueError(f"{where}: {error.problem}")

    def _patches(self, labels: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], Patch]]:
        """Patches of a cell from the first to the last applied, each with its path in the file, or () outside it."""
        yield (), START
        yield ("base",), self.fields.base
        for axis, label in labels.items():
            yield ("axes", axis, label), self.fields.axes[axis][label]
        yield (), self.last

    def _expand(self, prefix: tuple[str, ...], patch: Patch) -> dict[str, Any]:
        """The patch at `prefix` with its named choices read. Raises ValueError with the place."""
        try:
            return expand(patch)
        except ConfigError as error:
            raise self._placed(error, prefix) from None

    def _is_excluded(self, labels: Mapping[str, str]) -> bool:
        return any(_meets(labels, rule) for rule in self.fields.exclude)

    def searched_cells(self) -> list[Cell]:
        """Cells with a search of their own."""
        search = self.fields.search
        return [cell for cell in self.cells() if search and _meets(cell.labels, search.cells)]

    def _check(self) -> None:
        axes = self.fields.axes
        sizes = [len(labels) for labels in axes.values()]
        count = self.fields.seeds if isinstance(self.fields.seeds, int) else len(self.fields.seeds)
        if count * math.prod(size or 1 for size in sizes) > MOST_TRIALS:
            place = self.document.place(("seeds",) if count > MOST_TRIALS else ("axes",))
            grid = f"axes of {plain(', '.join(map(str, sizes)))} labels and " if sizes else ""
            raise ValueError(f"{place}: {grid}{count:,} seeds make more than {MOST_TRIALS:,} trials; split the sweep")
        seeds = self.seeds
        if not seeds or len(set(seeds)) != len(seeds):
            raise ValueError(f"{self.document.place(('seeds',))}: seeds must be given, each once, not {shown(seeds)}")
        for axis, labels in axes.items():
            if not labels:
                raise ValueError(f"{self.document.place(('axes', axis))}: an axis needs at least one label")
            if axis in ("seed", "cell", SUGGESTION, TUNED, START_OF):
                raise ValueError(f"{self.document.place(('axes', axis))}: this name is taken; name the axis otherwise")
        for rule in self.fields.exclude:
            self._check_rule(rule, ("exclude",))
        if self.fields.search is not None:
            self._check_search(self.fields.search)

    def _check_rule(self, rule: _Rule, path: tuple[str, ...]) -> None:
        axes, place = self.fields.axes, self.document.place(path)
        for axis, wanted in rule.items():
            if axis not in axes:
                raise ValueError(f"{place}: {unknown('axis', axis, axes)}")
            for label in [wanted] if isinstance(wanted, str) else wanted:
                if label not in axes[axis]:
                    raise ValueError(f"{place}: {unknown(f'label of axis {plain(axis)}', label, axes[axis])}")

    def _check_search(self, search: SearchFields) -> None:
        place = self.document.place(("search", "search_seeds"))
        if not search.seeds or len(set(search.seeds)) != len(search.seeds):
            raise ValueError(f"{place}: seeds must be given, each once, not {shown(search.seeds)}")
        both = sorted({*search.seeds} & {*self.seeds})
        if both:
            raise ValueError(
                f"{place}: seed {both[0]} is one of the report's seeds too; what a setting was chosen by cannot report "
                f"it, so give the search others"
            )
        self._check_rule(search.cells, ("search", "cells"))
        for name in search.space:
            if _decides(self.last, tuple(name.split("."))):
                raise ValueError(f"override '{plain(name)}': it is searched; leave it out, or out of search.space")


def _with_start(document: Patch, chosen: Sequence[Patch], below: Patch, last: Patch) -> Patch:
    """The document, the trial that it starts from written out: a patch of a cell that has no patch with a start.

    So that trial is what it would be in a row of its own, and one with such a row.
    """
    start = document.get("start")
    if not isinstance(start, Mapping) or not isinstance(trained := start.get("trained"), Mapping):
        return document
    others = merge(reduce(merge, (patch for patch in chosen if "start" not in patch), below), last)
    whole = merge({**others, "data": document.get("data")}, trained)
    return {**document, "start": {**start, "trained": whole}}


def _meets(labels: Mapping[str, str], rule: _Rule) -> bool:
    return all(labels[axis] in ([wanted] if isinstance(wanted, str) else wanted) for axis, wanted in rule.items())


def _split(overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`key=value` texts as a patch of the spec's own keys and a patch of every trial (`train.epochs=2`)."""
    own: dict[str, Any] = {}
    last: dict[str, Any] = {}
    for text in overrides:
        where = f"override '{plain(text)}'"
        key, equals, value = text.partition("=")
        path = key.split(".")
        if not equals or not all(path):
            raise ValueError(f"{where}: expected KEY=VALUE, e.g. seeds=3 or train.epochs=2")
        if path[0] not in (*GROUPS, *SpecFields.model_fields):
            raise ValueError(f"{where}: {unknown('key', path[0], (*GROUPS, *SpecFields.model_fields))}")
        if len(path) > DEEPEST:
            raise ValueError(f"{where}: a key has at most {DEEPEST} parts, not {len(path)}")
        try:
            parsed = parse(value)
        except NotPlainError as error:
            raise ValueError(f"{where}: {fault(error)}") from None
        except YAMLError as error:
            raise ValueError(f"{where}: the value is {fault(error)}; quote it, e.g. '{plain(key)}=\"…\"'") from None
        patch: Any = parsed
        for part in reversed(path):
            patch = {part: patch}
        if path[0] in GROUPS:
            last = merge(last, patch)
        else:
            own = merge(own, patch)
    return own, last


def _decides(patch: Patch, path: tuple[str, ...]) -> bool:
    """Whether a patch, its named choices read, gives the key at `path`, or no mapping where the key would stand."""
    if len(path) > 1 and isinstance(patch.get(path[0]), str):
        patch = expand({path[0]: patch[path[0]]})
    value: Any = patch
    for part in path:
        if not isinstance(value, Mapping):
            return True
        if part not in value:
            return False
        value = value[part]
    return True
