"""SweepSpec: what the user wrote — axes of labelled patches, seeds, resources — and the grid that follows from it."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    field_validator,
)
from pydantic import ValidationError as PydanticError
from yaml import YAMLError

from sweep.config import GROUPS, ConfigError, TrialConfig, explain, unknown
from sweep.document import NAME, Document, choice_file, choices, expand, merge, parse, read

Patch = Mapping[str, Any]

START: Patch = {"data": "grammar", "schedule": "linear", "update": "joint"}
"""Under every spec: what a trial is made of where the spec does not say."""


class Resources(BaseModel):
    """What one trial asks of the cluster. gpu: a share of a GPU, or `auto`: one when the cluster has any, else none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: PositiveFloat = 1.0
    gpu: NonNegativeFloat | Literal["auto"] = "auto"

    @field_validator("gpu")
    @classmethod
    def _shares_one_or_takes_whole(cls, gpu: float | str) -> float | str:
        if isinstance(gpu, float) and gpu > 1 and gpu != int(gpu):
            raise ValueError("a trial takes a share of one GPU, or whole ones")
        return gpu


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
    table: TableLayout = TableLayout()


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
            document = read(file, str(file))
        elif source in choices("sweep"):
            document = read(choice_file("sweep", source), f"conf/sweep/{source}.yaml")
        else:
            raise ValueError(f"{unknown('sweep', source, choices('sweep'))}; or give the path of a .yaml file")
        return cls.of(document, overrides)

    @classmethod
    def of(cls, document: Document, overrides: Sequence[str] = ()) -> "SweepSpec":
        """From a parsed document. Raises ValueError with the place, the rule and the way out."""
        own, last = _split(overrides)
        changed = Document(document.name, merge(document.values, own), document.root)
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
        seeds = self.fields.seeds
        return list(range(seeds)) if isinstance(seeds, int) else seeds

    def cells(self) -> list[Cell]:
        """The grid in the order of the axes, excluded combinations left out. Raises ValueError."""
        axes = self.fields.axes
        cells = []
        for labels in itertools.product(*axes.values()):
            named = dict(zip(axes, labels, strict=True))
            if not self._is_excluded(named):
                cells.append(Cell(named, self._merge(named)))
        if not cells:
            raise ValueError(f"{self.document.place(('exclude',))}: every combination is excluded; nothing is left")
        return cells

    def trial_config(self, cell: Cell, seed: int) -> TrialConfig:
        """The checked config of one trial. Raises ValueError with the place of the patch that is wrong."""
        try:
            return TrialConfig.parse({**cell.document, "seed": seed})
        except ConfigError as error:
            raise self.misplaced(error, cell.labels) from None

    def misplaced(self, error: ConfigError, labels: Mapping[str, str]) -> ValueError:
        """The error with the place in the user's file that gave the key it is about."""
        for prefix, patch in reversed(list(self._patches(labels))):
            if _has(patch, error.path):
                where = self.document.place((*prefix, *error.path)) if prefix else ".".join(error.path)
                return ValueError(f"{where}: {error.problem}")
        return ValueError(f"{self.document.name}: {'.'.join(error.path)}: {error.problem}")

    def _patches(self, labels: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], Patch]]:
        """Patches of a cell from the first to the last applied, each with its path in the file, or () outside it."""
        yield (), START
        yield ("base",), self.fields.base
        for axis, label in labels.items():
            yield ("axes", axis, label), self.fields.axes[axis][label]
        yield (), self.last

    def _merge(self, labels: Mapping[str, str]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for _, patch in self._patches(labels):
            try:
                for group in patch:
                    if group not in GROUPS:
                        raise ConfigError((group,), unknown("group", group, GROUPS))
                merged = merge(merged, expand(patch))
            except ConfigError as error:
                raise self.misplaced(error, labels) from None
        return merged

    def _is_excluded(self, labels: Mapping[str, str]) -> bool:
        return any(
            all(labels[axis] in ([wanted] if isinstance(wanted, str) else wanted) for axis, wanted in rule.items())
            for rule in self.fields.exclude
        )

    def _check(self) -> None:
        seeds, axes = self.seeds, self.fields.axes
        if not seeds or len(set(seeds)) != len(seeds):
            raise ValueError(f"{self.document.place(('seeds',))}: seeds must be given, each once, not {seeds}")
        for axis, labels in axes.items():
            if not labels:
                raise ValueError(f"{self.document.place(('axes', axis))}: an axis needs at least one label")
            if axis in ("seed", "cell"):
                raise ValueError(f"{self.document.place(('axes', axis))}: this name is taken; name the axis otherwise")
        for rule in self.fields.exclude:
            for axis, wanted in rule.items():
                if axis not in axes:
                    raise ValueError(f"{self.document.place(('exclude',))}: {unknown('axis', axis, axes)}")
                for label in [wanted] if isinstance(wanted, str) else wanted:
                    if label not in axes[axis]:
                        place = self.document.place(("exclude",))
                        raise ValueError(f"{place}: {unknown(f'label of axis {axis}', label, axes[axis])}")


def _split(overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`key=value` texts as a patch of the spec's own keys and a patch of every trial (`train.epochs=2`)."""
    own: dict[str, Any] = {}
    last: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        path = key.split(".")
        if not equals or not all(path):
            raise ValueError(f"override '{text}': expected KEY=VALUE, e.g. seeds=3 or train.epochs=2")
        if path[0] not in (*GROUPS, *SpecFields.model_fields):
            raise ValueError(f"override '{text}': {unknown('key', path[0], (*GROUPS, *SpecFields.model_fields))}")
        try:
            parsed = parse(value)
        except YAMLError:
            raise ValueError(f"override '{text}': the value is not valid YAML; quote it, e.g. '{key}=\"…\"'") from None
        patch: Any = parsed
        for part in reversed(path):
            patch = {part: patch}
        if path[0] in GROUPS:
            last = merge(last, patch)
        else:
            own = merge(own, patch)
    return own, last


def _has(patch: Patch, path: tuple[str, ...]) -> bool:
    """Whether a patch, its named choices read, gives the key at `path`."""
    if len(path) > 1 and isinstance(patch.get(path[0]), str):
        patch = expand({path[0]: patch[path[0]]})
    value: Any = patch
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True
