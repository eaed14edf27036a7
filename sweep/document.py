"""YAML files as plain values that know their lines, the merging of patches, and the named choices of `conf/`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from sweep.config import ConfigError, unknown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


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
            found = next(((key, value) for key, value in pairs if key.value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return f"{self.name}{f':{line}' if line else ''}: {'.'.join(path)}"


class _Loader(yaml.SafeLoader):
    """Safe, and a key that stands twice in a mapping is an error instead of a silent choice of the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key}' stands twice; keep one", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read(file: Traversable, name: str) -> Document:
    """Parse a YAML file. Raises ValueError with the place of what is wrong with it."""
    try:
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=_Loader)
        values = parse(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{name}:{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{name}: not valid YAML: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise ValueError(f"{name}: cannot be read: {error.strerror}") from None
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise ValueError(f"{name}: expected a mapping of names to values at the top")
    return Document(name, values, root)


def parse(text: str) -> Any:
    """The value of a YAML text, safely loaded."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def choice_file(group: str, name: str) -> Traversable:
    """The YAML of a named choice: `./conf/GROUP/NAME.yaml`, else the one that ships. Raises ValueError."""
    if NAME.fullmatch(name):
        for folder in _folders(group):
            file = folder / f"{name}.yaml"
            if file.is_file():
                return file
    raise ValueError(unknown(f"choice of conf/{group}/", name, choices(group)))


def choices(group: str) -> list[str]:
    """Names of the choices that `choice_file` finds."""
    files = (file.name for folder in _folders(group) if folder.is_dir() for file in folder.iterdir())
    return sorted({name.removesuffix(".yaml") for name in files if name.endswith(".yaml")})


def _folders(group: str) -> list[Traversable]:
    return [Path.cwd() / "conf" / group, resources.files("conf") / group]


def expand(patch: Mapping[str, Any]) -> dict[str, Any]:
    """A patch of a trial config with every named choice (`model: lstm_vae`) replaced by its fields."""
    return {group: named(group, value) if isinstance(value, str) else value for group, value in patch.items()}


def named(group: str, name: str) -> Mapping[str, Any]:
    """The fields of a named choice. Raises ConfigError."""
    try:
        return read(choice_file(group, name), f"conf/{group}/{name}.yaml").values
    except ValueError as error:
        raise ConfigError((group,), str(error)) from None


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, mapping by mapping; another `kind` starts its group afresh."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not _other_kind(old, value):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _other_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "kind" in old and "kind" in new and old["kind"] != new["kind"]
