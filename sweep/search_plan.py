"""What the searches of a spec will try, checked at the ends of every range before anything is trained."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from data.corpus import Corpus
from model.train import course_of
from sweep.config import ConfigError, TrialConfig
from sweep.document import merge
from sweep.record import RECORD_VERSION, StudyPlan
from sweep.search_fields import SearchFields
from sweep.space import Scalar, Space, corners, field_of, fixed, parse_space, patch_of, written
from sweep.spec import Cell, SweepSpec

Check = Callable[[TrialConfig], Corpus]
"""Gives the corpus of a config; raises ValueError when it cannot be trained."""


@dataclass(frozen=True)
class _Tried:
    """A corner of the space: the warm-up of its schedule and the length of its training, in epochs."""

    warmup: float
    epochs: int


def plan_studies(spec: SweepSpec, check: Check) -> tuple[StudyPlan, ...]:
    """The search of each cell that is to have one.

    Raises ValueError, with the place in the spec, when a suggestion of the space could not be trained, or the pruner
    could end a training before its KL weight has come to where it stays.
    """
    search = spec.fields.search
    if search is None:
        return ()
    try:
        space = parse_space(search.space)
    except ConfigError as error:
        raise ValueError(f"{spec.document.place(('search', 'space', *error.path))}: {error.problem}") from None
    cells = spec.searched_cells()
    if not cells:
        raise ValueError(f"{spec.document.place(('search', 'cells'))}: these are all excluded; nothing is searched")
    return tuple(_study(spec, search, cell, space, check) for cell in cells)


def config_of(
    document: Mapping[str, Any], space: Space, params: Mapping[str, Scalar], seed: int, *, test: bool
) -> TrialConfig:
    """The config of a suggestion. test: of a trial that reports it, and so reads the test split. Raises ConfigError."""
    patched = merge(merge(document, patch_of(space, fixed(params))), {"evaluate": {"test": test}})
    return TrialConfig.parse({**patched, "seed": seed})


def _study(spec: SweepSpec, search: SearchFields, cell: Cell, space: Space, check: Check) -> StudyPlan:
    tried = [_try(spec, search, cell, space, params, check) for params in corners(space)]
    warmup, epochs = max(each.warmup for each in tried), max(each.epochs for each in tried)
    grace = _grace(spec, search, cell, warmup, epochs)
    first = spec.trial_config(cell, search.seeds[0])
    corpus = check(first).content_hash
    identity = {
        "sweep": spec.fields.name,
        "cell": dict(cell.labels),
        "config": first.identity(),
        "corpus": corpus,
        "record": RECORD_VERSION,
        "space": written(space),
        "search": search.model_dump(include={"objective", "sampler", "pruner"}),
        "seeds": search.seeds,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return StudyPlan(digest[:16], cell.labels, cell.document, written(space), corpus, grace, epochs)


def _try(
    spec: SweepSpec, search: SearchFields, cell: Cell, space: Space, params: Mapping[str, Scalar], check: Check
) -> _Tried:
    try:
        config = config_of(cell.document, space, params, search.seeds[0], test=False)
        if config.prerequisite is not None:
            raise ConfigError(("start", "trained"), "a search trains from scratch; choose cells that do, too")
    except ConfigError as error:
        raise _misplaced(spec, cell, params, error) from None
    try:
        course = course_of(check(config), config.train)
    except ValueError as error:
        raise _misplaced(spec, cell, params, ConfigError((), str(error))) from None
    return _Tried(config.schedule.warmup(course), config.train.epochs)


def _misplaced(spec: SweepSpec, cell: Cell, params: Mapping[str, Scalar], error: ConfigError) -> ValueError:
    """The error at the searched field that it is about, or at the space."""
    fields = [field_of(name) for name in params]
    dotted = ".".join(error.path)
    related = [f for f in fields if f"{dotted}.".startswith(f"{f}.") or (dotted and f"{f}.".startswith(f"{dotted}."))]
    name = next(iter(related), None)
    where = spec.document.place(("search", "space", name) if name else ("search", "space"))
    suggestion = "" if name else f" with {', '.join(f'{field} {value}' for field, value in params.items())}"
    return ValueError(
        f"{where}: {error.problem}{suggestion} in cell {' / '.join(cell.labels.values()) or spec.fields.name}; "
        f"mend the space, or choose the cells that have one with search.cells"
    )


def _grace(spec: SweepSpec, search: SearchFields, cell: Cell, warmup: float, epochs: int) -> int:
    least = max(1, math.ceil(warmup))
    if search.pruner is None or search.pruner.over_seeds:
        return least
    place = spec.document.place(("search", "pruner"))
    name = " / ".join(cell.labels.values()) or spec.fields.name
    if search.pruner.grace is not None and search.pruner.grace < least:
        raise ValueError(
            f"{place}: a grace of {search.pruner.grace} epochs is shorter than the warm-up of cell {name}, whose KL "
            f"weight stays what it aims at after {warmup:g}; give grace: {least} or more, or none"
        )
    grace = search.pruner.grace or least
    if grace >= epochs:
        raise ValueError(
            f"{place}: in cell {name} nothing could be pruned before epoch {grace} of {epochs}, because of the warm-up "
            f"of its schedules; leave the pruner out, or train longer"
        )
    return grace
