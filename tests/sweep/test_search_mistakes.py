"""One sentence with the place for each way to get a search wrong."""

from pathlib import Path

import pytest

from tests.sweep.small_search import SPEC, fail, plan

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
