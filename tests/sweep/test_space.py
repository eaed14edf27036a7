"""The space of a search as it is written and read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.config import ConfigError
from sweep.document import parse
from sweep.record import SUGGESTION, SweepRecord
from sweep.space import (
    Choice,
    Dimension,
    Range,
    Scalar,
    Space,
    corners,
    field_of,
    fixed,
    parse_space,
    patch_of,
    written,
)
from tests.sweep.small_search import SPEC, plan

SPACE = parse("""
update.learning_rate: {float: [0.1, 10], log: true}
update.clip: {float: [1, 5], step: 0.5}
model.latent_dim: {int: [2, 64], log: true}
model.samples: {int: [1, 9], step: 2}
model.inputs: {choice: [words, none]}
model.average: {choice: [true, false]}
train.plateau.patience: {choice: [null, 2, 3]}
schedule:
  choice:
    flat: constant
    rising: {kind: linear, epochs: {float: [0.5, 4]}}
    round:
      kind: cyclical
      cycles: {int: [1, 3]}
      rise: {choice: [0.25, 0.5]}
      start: {choice: {low: 0.0, high: 0.5}}
objective: {choice: [elbo, iwae]}
""")
"""Of every form that a dimension has."""


def tried(space: Space) -> dict[str, set[Scalar]]:
    """What the corners of a space try, by the name of a dimension."""
    values: dict[str, set[Scalar]] = {}
    for corner in corners(space):
        for name, value in corner.items():
            values.setdefault(name, set()).add(value)
    return values


def test_every_form_is_read() -> None:
    space = parse_space(SPACE)
    assert space["update.learning_rate"] == Range(0.1, 10.0, None, log=True, is_whole=False)
    assert space["update.clip"] == Range(1.0, 5.0, 0.5, log=False, is_whole=False)
    assert space["model.latent_dim"] == Range(2, 64, None, log=True, is_whole=True)
    assert space["model.samples"] == Range(1, 9, 2, log=False, is_whole=True)
    assert space["model.inputs"] == Choice((("words", "words"), ("none", "none")))
    assert space["model.average"] == Choice(((True, True), (False, False)))
    assert space["train.plateau.patience"] == Choice(((None, None), (2, 2), (3, 3)))
    assert list(space) == list(SPACE)


def test_a_float_range_of_whole_numbers_gives_floats() -> None:
    space = parse_space({"update.clip": {"float": [1, 5], "step": 2}})
    clip = space["update.clip"]
    assert isinstance(clip, Range)
    assert [type(value) for value in (clip.low, clip.high, clip.step)] == [float, float, float]


def test_named_choices_and_patches_are_read_with_what_is_searched_within() -> None:
    schedule, objective = parse_space(SPACE)["schedule"], parse_space(SPACE)["objective"]
    assert isinstance(schedule, Choice)
    assert isinstance(objective, Choice)
    options = dict(schedule.options)
    assert options["flat"] == {"kind": "constant"}
    assert options["rising"] == {"kind": "linear", "epochs": Range(0.5, 4.0, None, log=False, is_whole=False)}
    assert options["round"]["start"] == Choice((("low", 0.0), ("high", 0.5)))
    assert objective.labels == ["elbo", "iwae"]
    assert dict(objective.options)["elbo"] == {"kind": "elbo"}


def test_texts_of_a_choice_within_a_choice_of_patches_are_values() -> None:
    """The ramp `linear` is not the schedule of that name, and there is no schedule `cosine`."""
    space = parse_space({"schedule": {"choice": {"flat": "constant", "round": {"kind": "cyclical", "ramp": RAMPS}}}})
    chosen = {"schedule": "round", "schedule[round].ramp": "linear"}
    assert patch_of(space, fixed(chosen)) == {"schedule": {"kind": "cyclical", "ramp": "linear"}}


RAMPS = {"choice": ["linear", "cosine"]}


def test_a_written_space_is_read_as_the_same() -> None:
    space = parse_space(SPACE)
    again = parse_space(json.loads(json.dumps(written(space))))
    assert again == space
    assert list(corners(again)) == list(corners(space))


def test_how_a_space_is_written_does_not_depend_on_where_it_was_read_from() -> None:
    """It is part of a study's identity; labels that are what they choose are either kept, or not."""
    document = {"model.inputs": {"choice": {"words": "words", "none": "none"}}}
    copied = json.loads(json.dumps(document))
    assert written(parse_space(copied)) == written(parse_space(document))


def test_corners_try_both_ends_and_every_choice_those_within_others_too() -> None:
    assert tried(parse_space(SPACE)) == {
        "update.learning_rate": {0.1, 10.0},
        "update.clip": {1.0, 5.0},
        "model.latent_dim": {2, 64},
        "model.samples": {1, 9},
        "model.inputs": {"words", "none"},
        "model.average": {True, False},
        "train.plateau.patience": {None, 2, 3},
        "schedule": {"flat", "rising", "round"},
        "schedule[rising].epochs": {0.5, 4.0},
        "schedule[round].cycles": {1, 3},
        "schedule[round].rise": {0.25, 0.5},
        "schedule[round].start": {"low", "high"},
        "objective": {"elbo", "iwae"},
    }


def test_corners_have_what_stands_within_a_choice_only_where_that_is_chosen() -> None:
    for corner in corners(parse_space(SPACE)):
        within = {name.partition("[")[2].partition("]")[0] for name in corner if name.startswith("schedule[")}
        assert within <= {corner["schedule"]}


def test_a_label_that_begins_as_another_is_another() -> None:
    space = parse_space({"schedule": {"choice": {"a": {"x": {"int": [1, 2]}}, "a]": {"y": {"int": [3, 4]}}}}})
    assert tried(space) == {"schedule": {"a", "a]"}, "schedule[a].x": {1, 2}, "schedule[a]].y": {3, 4}}


def test_the_field_of_a_dimension_is_where_it_is_written() -> None:
    assert field_of("update.learning_rate") == "update.learning_rate"
    assert field_of("schedule[round].rise") == "schedule"


def test_a_patch_merges_the_fields_of_a_group() -> None:
    space = parse_space(SPACE)
    values: dict[str, Scalar] = {
        "update.learning_rate": 0.3,
        "update.clip": 2.5,
        "model.latent_dim": 7,
        "model.samples": 3,
        "model.inputs": "none",
        "model.average": False,
        "train.plateau.patience": None,
        "schedule": "round",
        "schedule[round].cycles": 2,
        "schedule[round].rise": 0.25,
        "schedule[round].start": "high",
        "objective": "iwae",
    }
    assert patch_of(space, fixed(values)) == {
        "update": {"learning_rate": 0.3, "clip": 2.5},
        "model": {"latent_dim": 7, "samples": 3, "inputs": "none", "average": False},
        "train": {"plateau": {"patience": None}},
        "schedule": {"kind": "cyclical", "cycles": 2, "rise": 0.25, "start": 0.5},
        "objective": dict(parse_space(SPACE)["objective"].options)["iwae"],  # type: ignore[union-attr]
    }


def test_a_choice_and_a_field_beside_it_are_one_group_until_another_kind_starts_it_afresh() -> None:
    kinds = {"choice": {"rising": {"kind": "linear", "start": 0.5}, "flat": {"kind": "constant"}}}
    space = parse_space({"schedule": kinds, "schedule.epochs": {"int": [1, 3]}})
    chosen: dict[str, Scalar] = {"schedule": "rising", "schedule.epochs": 2}
    assert patch_of(space, fixed(chosen)) == {"schedule": {"kind": "linear", "start": 0.5, "epochs": 2}}
    other = {"model": {"choice": [{"a": 1}, {"b": 2}]}}
    with pytest.raises(ConfigError, match="expected a list of values, or labels with their patches"):
        parse_space(other)


def test_another_kind_of_schedule_leaves_nothing_of_the_cells_own(tmp_path: Path) -> None:
    """The cell's has `epochs`, which a constant weight does not know."""
    [study] = plan(tmp_path).record.studies
    assert study.document["schedule"] == {"kind": "linear", "epochs": 1}
    assert study.labels == {"method": "VAE"}


def test_a_label_keeps_its_type() -> None:
    space = parse_space({"model.samples": {"choice": [1, False, "1"]}})
    chosen = [patch_of(space, fixed({"model.samples": label}))["model"]["samples"] for label in (1, False, "1")]
    assert [(type(value), value) for value in chosen] == [(int, 1), (bool, False), (str, "1")]


def test_two_searches_of_one_budget_differ_by_what_is_searched(tmp_path: Path) -> None:
    def ids(*changes: tuple[str, str]) -> list[str]:
        text = SPEC
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        return [study.id for study in plan(tmp_path, text).record.studies]

    before = ids()
    assert ids(("budget: 8", "budget: 80"), ("seeds: 2", "seeds: 3"), ("  cells: {method: VAE}\n", CELLS)) == before
    others = [
        ids(("[0.1, 2.0]", "[0.1, 2.5]")),
        ids(("pruner: halving", "pruner: {kind: halving, factor: 4}")),
        ids(("budget: 8", "budget: 8\n  search_seeds: 2")),
        ids(("budget: 8", "budget: 8\n  objective: rec")),
        ids(("train: 20", "train: 21")),
        ids(("embedding_dim: 5", "embedding_dim: 6")),
    ]
    assert len({before[0], *(study for [study] in others)}) == 7


CELLS = "  cells: {method: [VAE]}\n"


def test_the_plan_of_a_search_goes_through_its_record(tmp_path: Path) -> None:
    record = plan(tmp_path).record
    [study] = record.studies
    assert SweepRecord.from_json(record.to_json()) == record
    # The longest warm-up of the space, be it of one corner.
    assert (study.grace, study.epochs) == (2, 6)
    assert not [trial for trial in record.trials if SUGGESTION in trial.labels]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(-9, 9).filter(lambda x: x != int(x)), st.sampled_from("pqr")
)
keys = st.sampled_from(["kind", "a", "b", "c", "d"])
ends = st.lists(st.integers(1, 50), min_size=2, max_size=2, unique=True).map(sorted)
ranges = st.one_of(
    st.fixed_dictionaries({"int": ends}, optional={"log": st.booleans()}),
    st.fixed_dictionaries({"float": ends.map(lambda both: [end / 7 for end in both])}, optional={"log": st.booleans()}),
    st.integers(1, 4).flatmap(lambda step: st.just({"int": [1, 1 + 3 * step], "step": step})),
)
lists = st.lists(scalars, min_size=2, max_size=4, unique_by=repr).map(lambda values: {"choice": values})


def within(dimensions: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    patches = st.dictionaries(keys, st.one_of(scalars, dimensions, st.dictionaries(keys, dimensions, max_size=2)))
    labelled = st.dictionaries(st.sampled_from(["u", "v", "w", "x y"]), patches, min_size=2, max_size=3)
    return labelled.map(lambda options: {"choice": options})


names = st.sampled_from(
    ["update.a", "update.b.c", "update.b.d", "train.a", "train.e", "objective.k", "model.x", "model.y.z"]
)
spaces = st.dictionaries(names, st.recursive(st.one_of(ranges, lists), within, max_leaves=6), min_size=1, max_size=4)


def as_chosen(name: str, given: Any, values: Mapping[str, Scalar], used: set[str]) -> Any:
    """What a written value comes to under a choice of values: an oracle that knows no dimension."""
    if not isinstance(given, Mapping):
        return given
    if not {"float", "int", "choice"} & {*given}:
        return {key: as_chosen(f"{name}.{key}", below, values, used) for key, below in given.items()}
    used.add(name)
    chosen = values[name]
    options = given.get("choice")
    return as_chosen(f"{name}[{chosen}]", options[chosen], values, used) if isinstance(options, Mapping) else chosen


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(document=spaces)
def test_any_corner_of_any_space_is_patched_as_it_was_recorded(document: dict[str, Any]) -> None:
    space = parse_space(document)
    assert parse_space(json.loads(json.dumps(written(space)))) == space
    seen: dict[str, set[str]] = {}
    asked: dict[str, Dimension] = {}

    def choose(values: Mapping[str, Scalar]) -> Any:
        def take(name: str, dimension: Dimension) -> Scalar:
            asked[name] = dimension
            return values[name]

        return take

    for values in corners(space):
        used: set[str] = set()
        patch = patch_of(space, fixed(values))
        for name, dimension in document.items():
            at: Any = patch
            for part in name.split("."):
                at = at[part]
            expected = as_chosen(name, dimension, values, used)
            assert json.dumps(at, sort_keys=True) == json.dumps(expected, sort_keys=True)
        assert used == {*values}
        assert patch_of(space, choose(values)) == patch
        for name, value in values.items():
            seen.setdefault(name, set()).add(repr(value))
    assert seen == {name: {repr(value) for value in dimension.extremes} for name, dimension in asked.items()}
