"""The space of a search: which fields of a trial are searched and over what; plain values, and without Optuna.

A space names fields by their path: `update.learning_rate: {float: [0.1, 10], log: true}`. Each is a range, or a choice
of values or of labelled patches, in which further ranges and choices may stand: those are searched only where that
label is chosen, and so a kind of schedule can be searched together with its own parameters.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sweep.config import GROUPS, ConfigError, shown, unknown
from sweep.document import merge, named

Scalar: TypeAlias = float | int | str | bool | None
MEASURE = ("data", "evaluate")
"""Groups that are no matter of a search: numbers on other text, or measured otherwise, cannot be compared."""
KINDS = ("float", "int", "choice")


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both included. step: between values; None for any value, which a whole number has none of.

    log: the logarithm is what is spread evenly.
    """

    low: float
    high: float
    step: float | None
    log: bool
    is_whole: bool

    @property
    def extremes(self) -> list[Scalar]:
        return [self.low, self.high]


@dataclass(frozen=True)
class Choice:
    """Of values by label: a scalar is its own label, a patch has a name. Further dimensions may stand in a patch."""

    options: tuple[tuple[Scalar, Any], ...]

    @property
    def labels(self) -> list[Scalar]:
        return [label for label, _ in self.options]

    @property
    def extremes(self) -> list[Scalar]:
        return self.labels


Dimension: TypeAlias = Range | Choice
Space: TypeAlias = Mapping[str, Dimension]
"""By dotted path."""
Choose: TypeAlias = Callable[[str, Dimension], Scalar]
"""What takes a value of a dimension, which has a name of its own."""


def parse_space(document: Mapping[str, Any]) -> Space:
    """The dimensions of a space as it is written. Raises ConfigError, its path beginning with the name of the field."""
    space = {}
    for name, given in document.items():
        group = name.split(".")[0]
        if group in MEASURE:
            raise ConfigError(
                (name,), f"{group} is what settings are measured by, which a search cannot change; make it an axis"
            )
        if group not in GROUPS:
            raise ConfigError((name,), unknown("group", group, [each for each in GROUPS if each not in MEASURE]))
        if not _is_dimension(given):
            raise ConfigError(
                (name,),
                f"expected a range or a choice, as {{float: [0.1, 1]}}, {{int: [1, 8]}} or {{choice: [a, b]}}, "
                f"not {shown(given)}",
            )
        space[name] = _dimension(given, (name,))
    return space


def written(space: Space) -> dict[str, Any]:
    """A space as it could have been written, named choices by their fields; `parse_space` reads it."""
    return {name: _written(dimension) for name, dimension in space.items()}


def patch_of(space: Space, choose: Choose) -> dict[str, Any]:
    """The patch of a trial's config that `choose` makes of a space."""
    patch: dict[str, Any] = {}
    for name, dimension in space.items():
        value = _value(name, dimension, choose)
        for part in reversed(name.split(".")):
            value = {part: value}
        patch = merge(patch, value)
    return patch


def fixed(values: Mapping[str, Scalar]) -> Choose:
    """Chooses what was chosen before."""
    return lambda name, dimension: values[name]


def corners(space: Space) -> Iterator[dict[str, Scalar]]:
    """Values to try a space at: every end of every range and every choice, the other dimensions at their first."""
    tried: set[tuple[str, str]] = set()
    waiting: list[dict[str, Scalar]] = [{}]
    while waiting:
        corner = _Corner(waiting.pop(0))
        patch_of(space, corner)
        tried |= {(name, repr(value)) for name, value in corner.values.items()}
        yield corner.values
        for name, dimension in corner.dimensions.items():
            # What stands within a choice is there only while that is chosen.
            around = {other: value for other, value in corner.given.items() if name.startswith(f"{other}[")}
            for value in dimension.extremes:
                if (name, repr(value)) not in tried:
                    tried.add((name, repr(value)))
                    waiting.append({**around, name: value})


@dataclass
class _Corner:
    """Chooses what is given, and the first elsewhere; remembers what it was asked for."""

    given: Mapping[str, Scalar]
    values: dict[str, Scalar] = field(default_factory=dict)
    dimensions: dict[str, Dimension] = field(default_factory=dict)

    def __call__(self, name: str, dimension: Dimension) -> Scalar:
        self.dimensions[name] = dimension
        self.values[name] = self.given.get(name, dimension.extremes[0])
        return self.values[name]


def field_of(name: str) -> str:
    """The path under which a dimension, or the choice that it stands in, is written."""
    return name.partition("[")[0]


def _value(name: str, dimension: Dimension, choose: Choose) -> Any:
    chosen = choose(name, dimension)
    if isinstance(dimension, Range):
        return chosen
    option = next(value for label, value in dimension.options if label == chosen and type(label) is type(chosen))
    return _filled(f"{name}[{chosen}]", option, choose)


def _filled(name: str, value: Any, choose: Choose) -> Any:
    if isinstance(value, Range | Choice):
        return _value(name, value, choose)
    if isinstance(value, Mapping):
        return {key: _filled(f"{name}.{key}", below, choose) for key, below in value.items()}
    return value


def _written(value: Any) -> Any:
    if isinstance(value, Range):
        kind = "int" if value.is_whole else "float"
        return {kind: [value.low, value.high], "log": value.log, "step": value.step}
    if isinstance(value, Choice):
        if all(type(label) is type(option) and label == option for label, option in value.options):
            return {"choice": value.labels}
        return {"choice": {str(label): _written(option) for label, option in value.options}}
    if isinstance(value, Mapping):
        return {key: _written(below) for key, below in value.items()}
    return value


def _is_dimension(written: Any) -> bool:
    return isinstance(written, Mapping) and any(kind in written for kind in KINDS)


def _dimension(written: Mapping[str, Any], path: tuple[str, ...]) -> Dimension:
    kind = next(kind for kind in KINDS if kind in written)
    for key in written:
        if key not in (kind, *(() if kind == "choice" else ("log", "step"))):
            raise ConfigError((*path, key), f"a {kind} has no {shown(key)}")
    return _choice(written, path) if kind == "choice" else _range(written, kind, path)


def _range(written: Mapping[str, Any], kind: str, path: tuple[str, ...]) -> Range:
    is_whole = kind == "int"
    ends, step, log = written[kind], written.get("step"), written.get("log", False)
    if not isinstance(ends, list) or len(ends) != 2 or not all(_is_number(end, is_whole) for end in ends):
        raise ConfigError((*path, kind), f"expected two numbers of this kind, [low, high], not {shown(ends)}")
    low, high = ends
    if low >= high:
        raise ConfigError((*path, kind), f"a range goes from low to high, not from {low} to {high}")
    if not isinstance(log, bool):
        raise ConfigError((*path, "log"), f"log is true or false, not {shown(log)}")
    if log and low <= 0:
        raise ConfigError(
            (*path, kind), f"a range with log: true must be above zero, not from {low}; raise low, or leave log out"
        )
    if step is not None and (log or not _is_number(step, is_whole) or step <= 0):
        raise ConfigError((*path, "step"), f"a step is a number of this kind above 0, without log, not {shown(step)}")
    if step is not None and abs((high - low) / step - round((high - low) / step)) > 1e-9:
        raise ConfigError((*path, "step"), f"steps of {step} from {low} do not come to {high}")
    if is_whole:
        return Range(low, high, step, log, is_whole)
    return Range(float(low), float(high), None if step is None else float(step), log, is_whole)


def _choice(written: Mapping[str, Any], path: tuple[str, ...]) -> Choice:
    given = written["choice"]
    if isinstance(given, Mapping):
        options = tuple((label, _option(value, (*path, "choice", label))) for label, value in given.items())
    elif isinstance(given, list) and all(value is None or isinstance(value, str | int | float) for value in given):
        options = tuple((value, _option(value, path)) for value in given)
    else:
        raise ConfigError(
            (*path, "choice"), f"expected a list of values, or labels with their patches, not {shown(given)}"
        )
    if len(options) < 2 or any(label == other for i, (label, _) in enumerate(options) for other, _ in options[:i]):
        raise ConfigError((*path, "choice"), f"a choice is of two or more, each once, not {shown(given)}")
    return Choice(options)


def _option(value: Any, path: tuple[str, ...]) -> Any:
    """What stands under a label, with the named choices of a group read."""
    # Of the group itself: a text further in is the value of a field.
    if isinstance(value, str) and path[0] in GROUPS and len(path) in (1, 3):
        value = named(path[0], value)
    return _parsed(value, path)


def _parsed(value: Any, path: tuple[str, ...]) -> Any:
    if _is_dimension(value):
        return _dimension(value, path)
    if isinstance(value, Mapping):
        return {key: _parsed(below, (*path, key)) for key, below in value.items()}
    return value


def _is_number(value: object, is_whole: bool) -> bool:
    return not isinstance(value, bool) and isinstance(value, int if is_whole else int | float)
