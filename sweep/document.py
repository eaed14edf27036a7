"""YAML files as plain values that know their lines, the merging of patches, and the named choices of `conf/`."""

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from sweep import config
from sweep.config import GROUPS, ConfigError, dotted, plain, shown, unknown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
DEEPEST = 50
"""Values within values: more than any spec has, and few enough for every recursion over them."""
LARGEST = 1_000_000
"""Characters of a text whose aliases are written out: a spec of 10,000 labels has fewer, and a bomb has more."""

_TOO_DEEP = f"values are nested deeper than {DEEPEST}, or an alias stands within what it names"
_PLAIN_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
_BREAK = re.compile("[\t\n\r\x85\u2028\u2029]")


@dataclass(frozen=True)
class Document:
    """The mapping at the top of a YAML file. name: as the user knows the file. root: its parsed nodes, for lines."""

    name: str
    values: Mapping[str, Any]
    root: yaml.Node | None = None

    def place(self, path: tuple[str, ...]) -> str:
        """`file:line: a.b.c` of the deepest key of `path` that the file has."""
        line, node = None, self.root
        for part in path:
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            # The last: what a merge key brought stands before the mapping's own keys, which win.
            found = next(((key, value) for key, value in reversed(pairs) if key.value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return f"{self.name}{f':{line}' if line else ''}: {dotted(path)}"


class NotPlainError(yaml.MarkedYAMLError):
    """YAML whose values JSON could not hold, or hold in a reasonable size; `problem` is the sentence."""

    def __init__(self, problem: str, node: yaml.Node | None = None):
        super().__init__(problem=problem, problem_mark=node.start_mark if node else None)


def _kind(tag: str | None) -> str:
    return (tag or "").removeprefix("tag:yaml.org,2002:")


class _Loader(yaml.SafeLoader):
    """Of plain values: what JSON can hold, finite numbers of 64 bits, text that can be printed, text as keys.

    A key that stands twice is an error instead of a silent choice of the last. A date is text, and so can be a name.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - typeshed has it as an instance's
        first: [(tag, form) for tag, form in forms if _kind(tag) in (*_PLAIN_KINDS, "merge")]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors: ClassVar = {
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or _kind(tag) in _PLAIN_KINDS
    }
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # Before the recursion that PyYAML would not survive, and that is slow long before.
        if self._depth > DEEPEST:
            raise NotPlainError(_TOO_DEEP, parent)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here rather than in the constructor, which sees a mapping after others' keys were merged into it.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or _kind(key.tag) not in ("str", "merge"):
                text = shown(key.value) if isinstance(key, yaml.ScalarNode) else "a list or a mapping"
                raise NotPlainError(f"a key must be text, in quotes where it looks like a number, not {text}", key)
            if _BREAK.search(key.value):
                raise NotPlainError(f"a key must be one line without tabs, not {shown(key.value)}", key)
            if key.value in seen:
                twice = f"key '{key.value}' stands twice; keep one"
                raise yaml.composer.ComposerError(None, None, twice, key.start_mark)
            seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, OverflowError):
            raise NotPlainError(f"{shown(node.value)} is no {_kind(node.tag)}", node) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise NotPlainError(f"a number must be finite, not {shown(node.value)}", node)
        if isinstance(value, int) and abs(value) >= 2**63:
            raise NotPlainError(f"a whole number must be below 2^63 in size, not {shown(node.value)}", node)
        if isinstance(value, str) and _UNPRINTABLE.search(value):
            raise NotPlainError(f"text must be without control characters, not {shown(value)}", node)
        return value


def read(file: Traversable, name: str) -> Document:
    """Parse a YAML file. Raises ValueError with the place of what is wrong with it."""
    try:
        root, values = _parse(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        raise ValueError(f"{name}{f':{mark.line + 1}' if mark else ''}: {fault(error)}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not valid YAML: {error}") from None
    except OSError as error:
        raise ValueError(f"{name}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # of a path that no file can have
        raise ValueError(f"{name}: cannot be read: {error}") from None
    if not isinstance(values, Mapping):
        raise ValueError(f"{name}: expected a mapping of names to values at the top")
    return Document(name, values, root)


def parse(text: str) -> Any:
    """The plain value of a YAML text. Raises YAMLError, for which `fault` has the words."""
    return _parse(text)[1]


def fault(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML text, in one clause."""
    if isinstance(error, NotPlainError):
        return str(error.problem)
    problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else str(error).partition("\n")[0]
    return f"not valid YAML: {plain(str(problem))}"


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    too_large = NotPlainError(f"more than {LARGEST:,} characters, aliases written out; split it")
    if len(text) > LARGEST:
        raise too_large
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
    except (ValueError, OverflowError) as error:  # an escape or a version number that Python has no value for
        raise yaml.YAMLError(str(error)) from None
    if root is None:
        return None, None
    if _size(root, 0, {}) > LARGEST:
        raise too_large
    return root, loader.construct_document(root)


def _size(node: yaml.Node, depth: int, known: dict[tuple[yaml.Node, int], int]) -> int:
    """Characters and values below a node, each as often as aliases repeat it. known: what was measured before."""
    if depth > DEEPEST:
        raise NotPlainError(_TOO_DEEP, node)
    if (node, depth) not in known:
        nodes = itertools.chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        inner = 0 if isinstance(node, yaml.ScalarNode) else sum(_size(child, depth + 1, known) for child in nodes)
        known[node, depth] = 1 + len(node.value) + inner
    return known[node, depth]


def choice_file(group: str, name: str) -> Traversable:
    """The YAML of a named choice: `./conf/GROUP/NAME.yaml`, else the one that ships. Raises ValueError."""
    if NAME.fullmatch(name):
        for folder in folders(group):
            file = folder / f"{name}.yaml"
            if file.is_file():
                return file
    raise ValueError(unknown(f"choice of conf/{group}/", name, choices(group)))


def choices(group: str) -> list[str]:
    """Names of the choices that `choice_file` finds."""
    files = (file.name for folder in folders(group) if folder.is_dir() for file in folder.iterdir())
    return sorted({name.removesuffix(".yaml") for name in files if name.endswith(".yaml")})


def folders(group: str) -> list[Traversable]:
    """Where a group of `conf/` may be: in the working directory, and as it ships."""
    return [Path.cwd() / "conf" / group, resources.files("conf") / group]


def expand(patch: Mapping[str, Any]) -> dict[str, Any]:
    """A patch of a trial config with every named choice (`model: lstm_vae`) replaced by its fields.

    Raises ConfigError, also for what is no group.
    """
    for group in patch:
        if group not in GROUPS:
            raise ConfigError((group,), unknown("group", group, GROUPS))
    expanded = {group: named(group, value) if isinstance(value, str) else value for group, value in patch.items()}
    start = expanded.get("start")
    if isinstance(start, Mapping) and isinstance(start.get("trained"), Mapping):
        try:
            expanded["start"] = {**start, "trained": expand(start["trained"])}
        except ConfigError as error:
            raise ConfigError(("start", "trained", *error.path), error.problem) from None
    return expanded


def named(group: str, name: str) -> Mapping[str, Any]:
    """The fields of a named choice. Raises ConfigError."""
    try:
        return read(choice_file(group, name), f"conf/{group}/{name}.yaml").values
    except ValueError as error:
        raise ConfigError((group,), str(error)) from None


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, of which either may have named choices; see `config.merge`.

    Raises ConfigError when fields are laid over a choice that cannot be read.
    """
    return config.merge(below, above, named)
