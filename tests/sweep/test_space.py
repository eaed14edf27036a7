"""The space of a search as it is written and read, and one sentence with the place for each way to get it wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.config import ConfigError
from sweep.document import parse
from sweep.plan import Plan, make_plan
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
from sweep.spec import SweepSpec

SPEC = """
name: toy
base:
  data: {kind: grammar, train: 20, valid: 5, test: 5}
  model: {embedding_dim: 5, hidden_dim: 7}
  schedule: {kind: linear, epochs: 1}
  train: {epochs: 6, batch_size: 4}
axes:
  method:
    LM: {model: lstm_lm}
    VAE: {model: lstm_vae}
search:
  space:
    update.learning_rate: {float: [0.1, 2.0], log: true}
    model.word_dropout: {choice: [0.0, 0.5]}
    model.latent_dim: {int: [2, 8]}
    schedule:
      choice:
        flat: {kind: constant, weight: {float: [0.5, 1.0]}}
        rising: {kind: linear, epochs: {float: [0.5, 2.0]}}
  budget: 8
  cells: {method: VAE}
  pruner: halving
seeds: 2
"""
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


def plan(folder: Path, text: str = SPEC, *overrides: str) -> Plan:
    path = folder / "spec.yaml"
    path.write_text(text)
    return make_plan(SweepSpec.load(str(path), overrides), folder / "corpora")


def fail(folder: Path, text: str, *overrides: str) -> str:
    """The sentence that comes of a wrong spec, without the folder in front of the file's name."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the text is what is tested
        plan(folder, text, *overrides)
    sentence = str(raised.value)
    assert "\n" not in sentence
    return sentence.replace(f"{folder}/", "")


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


RATE = "{float: [0.1, 2.0], log: true}"
LATENT = "model.latent_dim: {int: [2, 8]}"
DROPOUT = "model.word_dropout: {choice: [0.0, 0.5]}"
HALVING = "  pruner: halving\n"
WRONG = {  # "…": between what a sentence begins with, and what stands further on in it
    "seeds of the search that report too": (
        ("budget: 8", "budget: 8\n  search_seeds: [1, 7]"),
        "spec.yaml:22: search.search_seeds: seed 1 is one of the report's seeds too; what a setting was chosen by "
        "cannot report it, so give the search others",
    ),
    "a seed of the search twice": (
        ("budget: 8", "budget: 8\n  search_seeds: [7, 7]"),
        "spec.yaml:22: search.search_seeds: seeds must be given, each once, not [7, 7]",
    ),
    "a report on the seeds of a search by number": (
        ("seeds: 2", "seeds: [10000]"),
        "spec.yaml:12: search.search_seeds: seed 10000 is one of the report's seeds too; ",
    ),
    "a path that does not exist": (
        ("model.latent_dim", "model.latent_dims"),
        "spec.yaml:16: search.space.model.latent_dims: unknown key 'latent_dims'; did you mean 'latent_dim'? known: ",
    ),
    "a path into a number": (
        ("model.latent_dim", "model.latent_dim.size"),
        "spec.yaml:16: search.space.model.latent_dim.size: ",
    ),
    "a path within a choice that does not exist": (
        ("weight: {float", "weigth: {float"),
        "spec.yaml:17: search.space.schedule: unknown key 'weigth'; did you mean 'weight'? known: weight",
    ),
    "a group that does not exist": (
        ("model.latent_dim", "modle.latent_dim"),
        "spec.yaml:16: search.space.modle.latent_dim: unknown group 'modle'; did you mean 'model'? known: model, ",
    ),
    "no group": ((LATENT, "seed: {int: [2, 8]}"), "spec.yaml:16: search.space.seed: unknown group 'seed'; known: "),
    "a named choice that does not exist": (
        ("flat: {kind: constant, weight: {float: [0.5, 1.0]}}", "flat: constnat"),
        "spec.yaml:17: search.space.schedule: unknown choice of conf/schedule/ 'constnat'; did you mean 'constant'? ",
    ),
    "a kind that does not exist": (
        ("kind: constant", "kind: constnat"),
        "spec.yaml:17: search.space.schedule: unknown schedule kind 'constnat'; did you mean 'constant'? known: ",
    ),
    "no range": (
        (RATE, "0.5"),
        "spec.yaml:14: search.space.update.learning_rate: expected a range or a choice, as {float: [0.1, 1]}, ",
    ),
    "a list of values for a choice": (
        (RATE, "[0.5, 1.0]"),
        "spec.yaml:14: search.space.update.learning_rate: expected a range or a choice, as {float: [0.1, 1]}, ",
    ),
    "a range of one end": (
        ("[0.1, 2.0]", "[0.1]"),
        "spec.yaml:14: search.space.update.learning_rate.float: expected two numbers of this kind, [low, high], "
        "not [0.1]",
    ),
    "a range of texts": (
        ("[0.1, 2.0]", "['0.1', '2.0']"),
        "spec.yaml:14: search.space.update.learning_rate.float: expected two numbers of this kind, ",
    ),
    "a whole range of broken numbers": (
        ("{int: [2, 8]}", "{int: [2, 8.5]}"),
        "spec.yaml:16: search.space.model.latent_dim.int: expected two numbers of this kind, [low, high], not [2, 8.5]",
    ),
    "a range from high to low": (
        ("[0.1, 2.0]", "[2.0, 0.1]"),
        "spec.yaml:14: search.space.update.learning_rate.float: a range goes from low to high, not from 2.0 to 0.1",
    ),
    "a range of one number": (
        ("{int: [2, 8]}", "{int: [2, 2]}"),
        "spec.yaml:16: search.space.model.latent_dim.int: a range goes from low to high, not from 2 to 2",
    ),
    "a logarithm through zero": (
        ("[0.1, 2.0]", "[0.0, 2.0]"),
        "spec.yaml:14: search.space.update.learning_rate.float: a range with log: true must be above zero, not from "
        "0.0; raise low, or leave log out",
    ),
    "a logarithm that is a text": (
        ("log: true", "log: 'yes'"),
        "spec.yaml:14: search.space.update.learning_rate.log: log is true or false, not 'yes'",
    ),
    "an unknown key in a range": (
        ("log: true", "lgo: true"),
        "spec.yaml:14: search.space.update.learning_rate.lgo: a float has no 'lgo'",
    ),
    "a step with a logarithm": (
        ("log: true", "log: true, step: 0.1"),
        "spec.yaml:14: search.space.update.learning_rate.step: a step is a number of this kind above 0, without log, ",
    ),
    "a broken step of whole numbers": (
        ("{int: [2, 8]}", "{int: [2, 8], step: 1.5}"),
        "spec.yaml:16: search.space.model.latent_dim.step: a step is a number of this kind above 0, without log, ",
    ),
    "a step that does not come to the end": (
        ("{int: [2, 8]}", "{int: [2, 8], step: 4}"),
        "spec.yaml:16: search.space.model.latent_dim.step: steps of 4 from 2 do not come to 8",
    ),
    "a step longer than the range": (
        (RATE, "{float: [0.1, 2.0], step: 3.0}"),
        "spec.yaml:14: search.space.update.learning_rate.step: steps of 3.0 from 0.1 do not come to 2.0",
    ),
    "a range beyond what a field allows": (
        (DROPOUT, "model.word_dropout: {float: [0.0, 1.5]}"),
        "spec.yaml:15: search.space.model.word_dropout: input should be less than ",
    ),
    "a choice that a field does not allow": (
        ("[0.0, 0.5]", "[0.0, 1.5]"),
        "spec.yaml:15: search.space.model.word_dropout: input should be less than ",
    ),
    "broken numbers for a whole field": (
        ("{int: [2, 8]}", "{float: [2, 8]}"),
        "spec.yaml:16: search.space.model.latent_dim: input should be a valid integer, not 2.0 in cell VAE; ",
    ),
    "a choice of one": (
        ("[0.0, 0.5]", "[0.5]"),
        "spec.yaml:15: search.space.model.word_dropout.choice: a choice is of two or more, each once, not [0.5]",
    ),
    "a choice of the same twice": (
        ("[0.0, 0.5]", "[0.5, 0.5]"),
        "spec.yaml:15: search.space.model.word_dropout.choice: a choice is of two or more, each once, not [0.5, 0.5]",
    ),
    "a choice of the same as two kinds of number": (
        ("[0.0, 0.5]", "[0, 0.0]"),
        "spec.yaml:15: search.space.model.word_dropout.choice: a choice is of two or more, each once, not [0, 0.0]",
    ),
    "a choice of nothing": (
        ("[0.0, 0.5]", "[]"),
        "spec.yaml:15: search.space.model.word_dropout.choice: a choice is of two or more, each once, not []",
    ),
    "a choice of patches without labels": (
        ("[0.0, 0.5]", "[{a: 1}, {a: 2}]"),
        "spec.yaml:15: search.space.model.word_dropout.choice: expected a list of values, or labels with their ",
    ),
    "a choice with a logarithm": (
        ("[0.0, 0.5]}", "[0.0, 0.5], log: true}"),
        "spec.yaml:15: search.space.model.word_dropout.log: a choice has no 'log'",
    ),
    "a wrong range within a choice": (
        ("weight: {float: [0.5, 1.0]}", "weight: {float: [1.0, 0.5]}"),
        "spec.yaml:19: search.space.schedule.choice.flat.weight.float: a range goes from low to high, ",
    ),
    "a wrong end within a choice": (
        ("weight: {float: [0.5, 1.0]}", "weight: {float: [-0.5, 1.0]}"),
        "spec.yaml:17: search.space.schedule: input should be greater than or equal to 0, not -0.5 in cell VAE; ",
    ),
    "a search over data": (
        (LATENT, "data.train: {int: [2, 8]}"),
        "spec.yaml:16: search.space.data.train: data is what settings are measured by, which a search cannot change; "
        "make it an axis",
    ),
    "a search over the evaluation": (
        (LATENT, "evaluate: {choice: [paper, paper2]}"),
        "spec.yaml:16: search.space.evaluate: evaluate is what settings are measured by, ",
    ),
    "a space of nothing": (
        (SPEC[SPEC.index("  space:") : SPEC.index("  budget")], "  space: {}\n"),
        "spec.yaml:13: search.space: ",
    ),
    "a grace shorter than the warm-up": (
        ("pruner: halving", "pruner: {kind: halving, grace: 1}"),
        "spec.yaml:23: search.pruner: a grace of 1 epochs is shorter than the warm-up of cell VAE, whose KL weight "
        "stays what it aims at after 2; give grace: 2 or more, or none",
    ),
    "a warm-up as long as the training": (
        ("[0.5, 2.0]}}", "[0.5, 5.5]}}"),
        "spec.yaml:23: search.pruner: in cell VAE nothing could be pruned before epoch 6 of 6, ",
    ),
    "a grace as long as the training": (
        ("pruner: halving", "pruner: {kind: hyperband, grace: 6}"),
        "spec.yaml:23: search.pruner: in cell VAE nothing could be pruned before epoch 6 of 6",
    ),
    "an unknown sampler": (
        ("budget: 8", "budget: 8\n  sampler: tpee"),
        "spec.yaml:22: search.sampler: input tag 'tpee' ",
    ),
    "a sampler that is a number": (("budget: 8", "budget: 8\n  sampler: 3"), "spec.yaml:22: search.sampler: "),
    "an unknown pruner": (("pruner: halving", "pruner: median"), "spec.yaml:23: search.pruner: input tag 'median' "),
    "an unknown key of a sampler": (
        ("budget: 8", "budget: 8\n  sampler: {kind: tpe, startups: 3}"),
        "spec.yaml:22: search.sampler… unknown key 'startups'; did you mean 'startup'? known: ",
    ),
    "an unknown key of a pruner": (
        ("pruner: halving", "pruner: {kind: halving, factors: 3}"),
        "spec.yaml:23: search.pruner… unknown key 'factors'; did you mean 'factor'? known: ",
    ),
    "a key of another sampler": (
        ("budget: 8", "budget: 8\n  sampler: {kind: random, startup: 3}"),
        "spec.yaml:22: search.sampler… unknown key 'startup'; known: kind",
    ),
    "a grace for what looks at seeds": (
        ("pruner: halving", "search_seeds: 5\n  pruner: {kind: wilcoxon, grace: 2}"),
        "spec.yaml:24: search.pruner… unknown key 'grace'; known: ",
    ),
    "groups of one": (
        ("budget: 8", "budget: 8\n  sampler: {kind: tpe, multivariate: false}"),
        "spec.yaml:22: search.sampler: group: true is of multivariate: true; set both or none",
    ),
    "a halving of one": (
        ("pruner: halving", "pruner: {kind: halving, factor: 1}"),
        "spec.yaml:23: search.pruner… input should be greater than or equal to 2, not 1",
    ),
    "an unknown key of the search": (
        ("budget: 8", "budget: 8\n  top: 3"),
        "spec.yaml:22: search.top: unknown key 'top'; did you mean 'top_k'? known: ",
    ),
    "no budget": (("  budget: 8\n", ""), "spec.yaml:12: search.budget: this key is required"),
    "a budget of nothing": (
        ("budget: 8", "budget: 0"),
        "spec.yaml:21: search.budget: input should be greater than or ",
    ),
    "an unknown objective": (
        ("budget: 8", "budget: 8\n  objective: loss"),
        "spec.yaml:22: search.objective: input should be 'nll', ",
    ),
    "more than there is to choose from": (
        ("budget: 8", "budget: 8\n  top_k: 9"),
        "spec.yaml:12: search: top_k: 9 suggestions cannot be chosen of a budget of 8",
    ),
    "a signed-rank test on too few seeds": (
        ("pruner: halving", "search_seeds: 3\n  pruner: wilcoxon"),
        "spec.yaml:12: search: pruner: on 3 search_seeds a signed-rank test comes below p = 0.1, after the first 2, ",
    ),
    "a signed-rank test that waits for more seeds than there are": (
        ("pruner: halving", "search_seeds: 5\n  pruner: {kind: wilcoxon, startup: 6}"),
        "spec.yaml:",
    ),
    "a signed-rank test that can only tell after the last seed": (
        ("pruner: halving", "search_seeds: 4\n  pruner: wilcoxon"),
        "spec.yaml:",
    ),
    "a percentile of more suggestions than there are": (
        ("pruner: halving", "pruner: {kind: percentile, startup: 8}"),
        "spec.yaml:",
    ),
    "all suggestions at once, so that none is measured by another": (
        ("budget: 8", "budget: 8\n  at_once: 8"),
        "spec.yaml:",
    ),
    "cells of an unknown axis": (
        ("{method: VAE}", "{metod: VAE}"),
        "spec.yaml:22: search.cells: unknown axis 'metod'; did you mean 'method'? known: method",
    ),
    "cells of an unknown label": (
        ("{method: VAE}", "{method: [VAE, VAEE]}"),
        "spec.yaml:22: search.cells: unknown label of axis method 'VAEE'; did you mean 'VAE'? known: LM, VAE",
    ),
    "cells that are all excluded": (
        ("seeds: 2", "seeds: 2\nexclude: [{method: VAE}]"),
        "spec.yaml:22: search.cells: these are all excluded; nothing is searched",
    ),
    "a space that does not fit every cell": (
        ("  cells: {method: VAE}\n", ""),
        "spec.yaml:16: search.space.model.latent_dim: unknown key 'latent_dim'; did you mean 'hidden_dim'? known: ",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_sentence_with_its_place(tmp_path: Path, case: str) -> None:
    (old, new), expected = WRONG[case]
    assert old in SPEC
    sentence = fail(tmp_path, SPEC.replace(old, new, 1))
    beginning, _, rest = expected.partition("…")
    assert sentence.startswith(beginning), sentence
    assert rest in sentence


def test_what_does_not_fit_a_cell_says_which_and_the_way_out(tmp_path: Path) -> None:
    sentence = fail(tmp_path, SPEC.replace("  cells: {method: VAE}\n", ""))
    assert sentence.endswith(" in cell LM; mend the space, or choose the cells that have one with search.cells")


@pytest.mark.parametrize(
    "override",
    ["model.word_dropout=0.1", "update.learning_rate=1.0", "schedule=constant", "schedule.epochs=2", "schedule={}"],
)
def test_what_is_searched_is_not_overridden(tmp_path: Path, override: str) -> None:
    name = override.partition("=")[0]
    searched = "schedule" if name.startswith("schedule") else name
    expected = f"override '{searched}': it is searched; leave it out, or out of search.space"
    assert fail(tmp_path, SPEC, override) == expected


def test_what_is_not_searched_is_overridden(tmp_path: Path) -> None:
    [study] = plan(tmp_path, SPEC, "model.hidden_dim=9", "update.clip=2.0", "search.budget=9").record.studies
    assert study.document["model"]["hidden_dim"] == 9
    assert study.document["update"]["clip"] == 2.0


def test_without_a_pruner_the_warm_up_is_no_matter(tmp_path: Path) -> None:
    text = SPEC.replace("[0.5, 2.0]}}", "[0.5, 9.5]}}").replace(HALVING, "")
    [study] = plan(tmp_path, text).record.studies
    assert (study.grace, study.epochs) == (10, 6)
