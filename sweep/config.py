"""TrialConfig: everything that determines a trial's numbers, and nothing else; and how `kind:` finds a plug-in.

A field of `TrialConfig` is a group of `conf/` is a folder of one-file plug-ins: `kind: lstm_vae` in the group `model`
names the module `model/variants/lstm_vae.py`, whose `Config` checks the fields. The folder is the registry.
"""

import difflib
import hashlib
import importlib
import json
import pkgutil
import reprlib
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from data.corpus import CorpusConfig
from model.core import ModelConfig
from model.evaluate import EvaluateConfig
from model.objective import Objective
from model.schedule import Schedule
from model.start import StartConfig
from model.train import TrainConfig
from model.update import UpdateConfig
from sweep.record import RECORD_VERSION

PLUGIN_FOLDERS = {
    "data": "data.corpora",
    "model": "model.variants",
    "schedule": "model.schedules",
    "objective": "model.objectives",
    "update": "model.updates",
}
SETTINGS: dict[str, type[BaseModel]] = {"train": TrainConfig, "evaluate": EvaluateConfig, "start": StartConfig}
GROUPS = (*PLUGIN_FOLDERS, *SETTINGS)
LATER: Mapping[str, Mapping[str, Any]] = {"objective": {"kind": "elbo"}, "start": {"trained": None}}
"""Groups that came after the first trials, and what those were trained with: they keep their keys and their records."""
_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxlevel = 80, 3


class ConfigError(ValueError):
    """A user's mistake in a config: `path` to the key, and the rule, the value and the way out in one sentence."""

    def __init__(self, path: tuple[str, ...], problem: str):
        super().__init__(f"{dotted(path)}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


@dataclass(frozen=True)
class TrialConfig:
    """A trial without the machine it runs on: two equal ones on the same text give the same numbers."""

    data: CorpusConfig
    model: ModelConfig
    schedule: Schedule
    objective: Objective
    update: UpdateConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    start: StartConfig
    seed: int

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "TrialConfig":
        """From plain values, groups merged and `seed` among them. Raises ConfigError."""
        for name in document:
            if name not in (*GROUPS, "seed"):
                raise ConfigError((name,), unknown("group", name, (*GROUPS, "seed")))
        seed = _checked_seed(document.get("seed"))
        groups = {name: parse_group(name, document.get(name, LATER.get(name))) for name in GROUPS}
        return cls(**groups, seed=seed)

    def with_seed(self, seed: object) -> "TrialConfig":
        """The same trial with another seed. Raises ConfigError."""
        other = copy(self)  # with what was worked out of the groups so far, of which a sweep has many seeds each
        object.__setattr__(other, "seed", _checked_seed(seed))
        return other

    @property
    def prerequisite(self) -> "TrialConfig | None":
        """The trial whose weights this one starts from. Raises ConfigError when there can be none such."""
        return None if self._trained is None else self._trained.with_seed(self.seed)

    @cached_property
    def _trained(self) -> "TrialConfig | None":
        if self.start.trained is None:
            return None
        try:
            if parse_group("start", self.start.trained.get("start")).trained is not None:
                raise ConfigError(("start",), "a trial that others start from is trained from scratch; leave it out")
            found = TrialConfig.parse({**self.start.trained, "seed": self.seed})
            if found.data != self.data:
                raise ConfigError(("data",), "a trial starts from one of the same text; leave it out")
        except ConfigError as error:
            raise ConfigError(("start", "trained", *error.path), error.problem) from None
        return found

    def document(self) -> dict[str, Any]:
        """As plain JSON values, every default written out; `parse` of it gives the same config."""
        return {**self._groups, "seed": self.seed}

    @cached_property
    def _groups(self) -> dict[str, Any]:
        groups: dict[str, Any] = {}
        for name in GROUPS:
            config: BaseModel = getattr(self, name)
            kind = {"kind": kind_of(config)} if name in PLUGIN_FOLDERS else {}
            groups[name] = {**kind, **config.model_dump(mode="json")}
        return groups

    def identity(self) -> dict[str, Any]:
        """The document without the settings that change no number, which are marked so where they are declared.

        Nor with those that came later, while they are as if they had not.
        """
        identity = {**self._counted, "seed": self.seed}
        prerequisite = self.prerequisite
        return {**identity, "start": {"trained": prerequisite.identity()}} if prerequisite else identity

    @cached_property
    def _counted(self) -> dict[str, Any]:
        """Of the groups, what is part of a key."""
        groups = {name: _counting(getattr(self, name), self._groups[name]) for name in GROUPS}
        return {name: group for name, group in groups.items() if group != LATER.get(name)}


def _checked_seed(seed: object) -> int:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise ConfigError(("seed",), f"a seed is a whole number from 0 to 2^63 − 1, not {shown(seed)}")
    return seed


def _counting(config: BaseModel, document: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config's document is part of a key, at any depth."""
    found = dict(document)
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        in_key = field.json_schema_extra.get("in_key") if isinstance(field.json_schema_extra, dict) else True
        if in_key is False or (in_key == "unless default" and value == field.default):
            del found[name]
        elif isinstance(value, BaseModel):
            found[name] = _counting(value, document[name])
    return found


def trial_key(config: TrialConfig, content_hash: str) -> str:
    """The trial's identity: sha256 of its config, its corpus's content and the record version, as hexadecimal."""
    identity = {"config": config.identity(), "corpus": content_hash, "record": RECORD_VERSION}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def merge(
    below: Mapping[str, Any],
    above: Mapping[str, Any],
    choice: Callable[[str, str], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """`above` laid over `below`, mapping by mapping; another `kind` starts its group afresh.

    choice: what reads a named choice of a group when fields are laid over its name, if there may be names.
    """
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if choice is not None and isinstance(value, Mapping) and isinstance(old, str) and key in GROUPS:
            old = choice(key, old)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not _other_kind(old, value):
            merged[key] = merge(old, value, choice)
        else:
            merged[key] = value
    return merged


def _other_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "kind" in old and "kind" in new and old["kind"] != new["kind"]


@cache  # asked of each group of every trial, and a folder to be listed
def kinds(group: str) -> tuple[str, ...]:
    """Known kinds of a group: the modules in its folder."""
    package = importlib.import_module(PLUGIN_FOLDERS[group])
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__)))


def kind_of(config: BaseModel) -> str:
    """The `kind:` that made a plug-in's config: the name of its module."""
    return type(config).__module__.rpartition(".")[2]


def plain(text: str, limit: int = 200) -> str:
    """Text of the user's, fit for a sentence: without line breaks and control characters, short in the middle."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-limit // 2 + 1 :]}"


def shown(value: object) -> str:
    """A value of the user's, fit for a sentence."""
    return plain(_SHORT.repr(value))


def dotted(path: Iterable[str]) -> str:
    """A path of keys, fit for a sentence."""
    return plain(".".join(path))


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The sentence for a name that is not known, with the nearest known one and the list."""
    names = sorted(known)
    # The time that difflib takes grows with the square of the length.
    near = difflib.get_close_matches(name, names, n=1) if isinstance(name, str) and len(name) <= 100 else []
    hint = f"did you mean {shown(near[0])}? " if near else ""
    return f"unknown {what} {shown(name)}; {hint}known: {plain(', '.join(names), 500)}"


def parse_group(name: str, document: object) -> Any:
    """The checked config of one group. Raises ConfigError."""
    if document is None:
        document = {}
    if not isinstance(document, Mapping):
        raise ConfigError((name,), f"expected fields or the name of a choice in conf/{name}/, not {shown(document)}")
    if name in SETTINGS:
        return _validate(SETTINGS[name], document, (name,))
    if "kind" not in document:
        raise ConfigError(
            (name, "kind"), f"no kind given; name a choice of conf/{name}/ or a kind: {', '.join(kinds(name))}"
        )
    kind = document["kind"]
    if kind not in kinds(name):
        raise ConfigError((name, "kind"), unknown(f"{name} kind", kind, kinds(name)))
    config_type = importlib.import_module(f"{PLUGIN_FOLDERS[name]}.{kind}").Config
    return _validate(config_type, {key: value for key, value in document.items() if key != "kind"}, (name,))


def _validate(config_type: type[BaseModel], document: Mapping[str, Any], path: tuple[str, ...]) -> BaseModel:
    try:
        # Strict, so that "5" or true is not quietly taken for a number.
        return config_type.model_validate(dict(document), strict=True)
    except ValidationError as error:
        raise explain(error, config_type, document, path) from None


def explain(
    error: ValidationError, config_type: type[BaseModel], document: Mapping[str, Any], path: tuple[str, ...] = ()
) -> ConfigError:
    """The first problem that pydantic found in a document, with its path below `path`, in our words."""
    first = error.errors(include_url=False)[0]
    where = (*path, *_keys(first["loc"], document))
    if first["type"] == "missing":
        return ConfigError((*path, *map(str, first["loc"])), "this key is required")
    if first["type"] == "extra_forbidden":
        owner = _owner(config_type, first["loc"][:-1])
        return ConfigError(where, unknown("key", first["loc"][-1], owner.model_fields))
    rule = first["msg"][:1].lower() + first["msg"][1:]
    return ConfigError(where, f"{rule.removeprefix('value error, ')}, not {shown(first['input'])}")


def _owner(config_type: type[BaseModel], location: tuple[str | int, ...]) -> type[BaseModel]:
    """The model that pydantic's location is of; a part that is no field says which member of a union by its kind."""
    found = [config_type]
    for part in location:
        fields = [owner.model_fields[str(part)] for owner in found if str(part) in owner.model_fields]
        if fields:
            found = [model for field in fields for model in _models(field.annotation)]
        else:
            found = [owner for owner in found if (kind := owner.model_fields.get("kind")) and kind.default == part]
    assert len(found) == 1
    return found[0]


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    """The pydantic models in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _keys(location: tuple[str | int, ...], document: Any) -> Iterable[str]:
    """The part of pydantic's location that stands in the document; the rest names members of a union."""
    for part in location:
        if not isinstance(document, Mapping):
            return
        if part in document:
            yield str(part)
            document = document[part]
