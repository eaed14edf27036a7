"""A spec file: the grid that follows from it, and one sentence with the place for each way to get it wrong."""

from importlib import resources
from pathlib import Path

import pytest

from sweep.config import TrialConfig, trial_key
from sweep.document import choices, merge
from sweep.resources import Resources
from sweep.spec import SweepSpec

SPEC = """
name: toy
base:
  data: grammar
  model: {embedding_dim: 8, hidden_dim: 12}
axes:
  setting:
    Standard: {model: {inputs: words}}
    Inputless: {model: {inputs: none}}
  method:
    LM: {model: lstm_lm, schedule: constant}
    VAE: {model: {kind: lstm_vae, samples: 2}}
seeds: 2
"""


def load(tmp_path: Path, text: str = SPEC, *overrides: str) -> SweepSpec:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    return SweepSpec.load(str(path), overrides)


def check(tmp_path: Path, text: str, *overrides: str) -> None:
    spec = load(tmp_path, text, *overrides)
    for cell in spec.cells():
        spec.trial_config(cell, 0)


def fail(tmp_path: Path, text: str, *overrides: str) -> str:
    """The sentence that comes of a wrong spec, without the folder in front of the file's name."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the text is what is tested
        check(tmp_path, text, *overrides)
    sentence = str(raised.value)
    assert "\n" not in sentence
    return sentence.replace(str(tmp_path) + "/", "")


def test_the_grid_is_the_product_of_the_axes(tmp_path: Path) -> None:
    spec = load(tmp_path)
    cells = spec.cells()
    assert [tuple(cell.labels.values()) for cell in cells] == [
        ("Standard", "LM"),
        ("Standard", "VAE"),
        ("Inputless", "LM"),
        ("Inputless", "VAE"),
    ]
    config = spec.trial_config(cells[3], 1).document()
    assert config["model"]["samples"] == 2
    assert config["model"]["inputs"] == "none"
    assert config["model"]["hidden_dim"] == 12
    assert config["schedule"] == {"kind": "linear", "start": 0.0, "epochs": 10.0}
    assert config["seed"] == 1
    assert spec.trial_config(cells[0], 0).document()["schedule"] == {"kind": "constant", "weight": 1.0}


def test_overrides_come_last(tmp_path: Path) -> None:
    spec = load(tmp_path, SPEC, "seeds=[4, 7]", "train.epochs=3", "model.hidden_dim=20", "resources.cpu=2")
    assert spec.seeds == [4, 7]
    assert spec.fields.resources.cpu == 2
    assert load(tmp_path, SPEC, "resources=auto").fields.resources == Resources(probe=True)
    for cell in spec.cells():
        config = spec.trial_config(cell, 4).document()
        assert config["train"]["epochs"] == 3
        assert config["model"]["hidden_dim"] == 20


def test_overrides_lay_fields_over_a_choice(tmp_path: Path) -> None:
    """Not in its place: the fields that they do not name stay the choice's."""
    spec = load(tmp_path, SPEC, "evaluate=paper", "train=paper", "train.batch_size=7")
    assert spec.trial_config(spec.cells()[0], 0).document()["train"]["plateau"]["patience"] == 3
    spec = load(tmp_path, SPEC, "base.data.train=9", "model=lstm_vae", "model.samples=3")
    config = spec.trial_config(spec.cells()[0], 0).document()
    assert (config["data"]["kind"], config["data"]["train"]) == ("grammar", 9)
    assert (config["model"]["kind"], config["model"]["samples"]) == ("lstm_vae", 3)


def test_a_date_is_a_label(tmp_path: Path) -> None:
    spec = load(tmp_path, SPEC.replace("Standard:", "2024-01-01:"))
    assert spec.cells()[0].labels["setting"] == "2024-01-01"


def test_the_place_is_what_a_merge_key_does_not_bring(tmp_path: Path) -> None:
    old = "LM: {model: lstm_lm, schedule: constant}"
    new = "LM: &a {model: {kind: lstm_lm}}\n    M2: {<<: *a, model: {kind: lstm_lm, samples: 1}}"
    assert fail(tmp_path, SPEC.replace(old, new)).startswith("spec.yaml:12: axes.method.M2.model.samples: unknown key")


def test_exclusion(tmp_path: Path) -> None:
    spec = load(tmp_path, SPEC + "exclude:\n  - {setting: Inputless, method: [LM]}\n")
    assert [tuple(cell.labels.values()) for cell in spec.cells()][-1] == ("Inputless", "VAE")
    assert len(spec.cells()) == 3


def test_another_kind_starts_its_group_afresh() -> None:
    below = {"schedule": {"kind": "linear", "epochs": 5}, "model": {"hidden_dim": 3}}
    above = {"schedule": {"kind": "constant"}, "model": {"kind": "lstm_lm", "inputs": "none"}}
    assert merge(below, above) == {
        "schedule": {"kind": "constant"},
        "model": {"hidden_dim": 3, "kind": "lstm_lm", "inputs": "none"},
    }


def test_a_config_goes_through_its_document(tmp_path: Path) -> None:
    spec = load(tmp_path)
    for cell in spec.cells():
        config = spec.trial_config(cell, 0)
        again = TrialConfig.parse(config.document())
        assert again == config
        assert trial_key(again, "h") == trial_key(config, "h")


def test_the_key_is_the_content(tmp_path: Path) -> None:
    spec = load(tmp_path)
    config = spec.trial_config(spec.cells()[0], 0)
    same = load(tmp_path, SPEC.replace("hidden_dim: 12", "hidden_dim: 12, output_dropout: 0.5"))
    assert trial_key(same.trial_config(same.cells()[0], 0), "h") == trial_key(config, "h")
    other = load(tmp_path, SPEC.replace("hidden_dim: 12", "hidden_dim: 12, output_dropout: 0.4"))
    keys = {
        trial_key(config, "h"),
        trial_key(config, "other text"),
        trial_key(spec.trial_config(spec.cells()[0], 1), "h"),
        trial_key(other.trial_config(other.cells()[0], 0), "h"),
    }
    assert len(keys) == 4
    # Stable across versions and machines: a change here retrains every trial of every user.
    mine = load(tmp_path, SPEC, "data.kind=lines", "data.name=mine")
    assert (
        trial_key(mine.trial_config(mine.cells()[1], 0), "h")
        == "894849364e6c57324242ee3d6eaa83bf68938a2dc0adcd8cd68db84414115472"
    )


@pytest.mark.parametrize("name", choices("sweep"))
def test_every_shipped_sweep_is_valid(name: str) -> None:
    spec = SweepSpec.load(name)
    assert spec.fields.name == name
    for cell in spec.cells():
        spec.trial_config(cell, spec.seeds[0])


@pytest.mark.parametrize(
    ("name", "trials"), [("demo", 16), ("ptb-quick", 3), ("ptb", 60), ("yahoo", 60), ("paper", 120), ("kim", 35)]
)
def test_sizes_of_the_shipped_sweeps(name: str, trials: int) -> None:
    spec = SweepSpec.load(name)
    assert len(spec.cells()) * len(spec.seeds) == trials


def test_the_papers_protocol_is_the_papers() -> None:
    spec = SweepSpec.load("ptb")
    config = spec.trial_config(spec.cells()[5], 0).document()
    assert (
        config["model"] | {"embedding_dim": 100, "hidden_dim": 400, "latent_dim": 32, "samples": 10} == config["model"]
    )
    assert config["model"]["average"]
    assert (config["model"]["input_dropout"], config["model"]["output_dropout"]) == (0.5, 0.5)
    update = {"kind": "joint", "optimizer": "sgd", "learning_rate": 1.0, "clip": 5.0, "normalisation": "sentence"}
    assert config["update"].items() >= update.items()
    assert (config["train"]["epochs"], config["train"]["batch_size"]) == (30, 32)
    assert config["schedule"] == {"kind": "linear", "start": 0.0, "epochs": 10.0}


def test_the_protocol_of_xu_and_durrett() -> None:
    spec = SweepSpec.load("xu")
    config = spec.trial_config(spec.cells()[-1], 0).document()
    assert config["update"] | {"learning_rate": 10.0, "clip": 0.25, "normalisation": "sentence"} == config["update"]
    train = config["train"]
    assert (train["epochs"], train["batch_size"]) == (100, 20)
    assert train["plateau"] | {"factor": 1 / 1.2, "decay_patience": 1, "patience": 15} == train["plateau"]
    assert config["model"] | {"latent_dim": 50, "kappa": 80.0, "inputs": "none", "samples": 3} == config["model"]
    assert config["schedule"] == {"kind": "constant", "weight": 1.0}


def test_shipped_choices_are_package_data() -> None:
    shipped = {path.name for path in (resources.files("conf") / "sweep").iterdir()}
    assert {f"{name}.yaml" for name in ("demo", "ptb", "ptb-quick", "yahoo", "paper")} <= shipped


WRONG = {
    "mistyped key": (
        ("samples: 2", "sampels: 2"),
        "spec.yaml:12: axes.method.VAE.model.sampels: unknown key 'sampels'; did you mean 'samples'? known: ",
    ),
    "mistyped choice": (
        ("model: lstm_lm", "model: lstm_ml"),
        "spec.yaml:11: axes.method.LM.model: unknown choice of conf/model/ 'lstm_ml'; did you mean 'lstm_lm'? known: ",
    ),
    "mistyped kind": (
        ("kind: lstm_vae", "kind: lstm_va"),
        "spec.yaml:12: axes.method.VAE.model.kind: unknown model kind 'lstm_va'; did you mean 'lstm_vae'? known: ",
    ),
    "mistyped group": (
        ("data: grammar", "dataa: grammar"),
        "spec.yaml:4: base.dataa: unknown group 'dataa'; did you mean 'data'? known: ",
    ),
    "mistyped top key": (
        ("seeds: 2", "seedz: 2"),
        "spec.yaml:13: seedz: unknown key 'seedz'; did you mean 'seeds'? known: ",
    ),
    "wrong type": (
        ("embedding_dim: 8", "embedding_dim: eight"),
        "spec.yaml:5: base.model.embedding_dim: input should be a valid integer, not 'eight'",
    ),
    "a text for a number": (
        ("embedding_dim: 8", "embedding_dim: '8'"),
        "spec.yaml:5: base.model.embedding_dim: input should be a valid integer, not '8'",
    ),
    "out of range": (
        ("hidden_dim: 12", "hidden_dim: 0"),
        "spec.yaml:5: base.model.hidden_dim: input should be greater than 0, not 0",
    ),
    "a field of another kind": (
        ("model: lstm_lm, sch", "model: {kind: lstm_lm, samples: 3}, sch"),
        "spec.yaml:11: axes.method.LM.model.samples: unknown key 'samples'; known: ",
    ),
    "no kind": (
        ("model: lstm_lm, sch", "sch"),
        "spec.yaml: model.kind: no kind given; name a choice of conf/model/ or a kind: ",
    ),
    "key twice": (
        ("seeds: 2", "seeds: 2\nseeds: 3"),
        "spec.yaml:14: not valid YAML: key 'seeds' stands twice; keep one",
    ),
    "not YAML": (("seeds: 2", "seeds: ["), "spec.yaml:"),
    "a list": ((SPEC, "- a\n- b\n"), "spec.yaml: expected a mapping of names to values at the top"),
    "empty": ((SPEC, ""), "spec.yaml: expected a mapping of names to values at the top"),
    "no name": (("name: toy\n", ""), "spec.yaml: name: this key is required"),
    "a path for a name": (("name: toy", "name: ../toy"), "spec.yaml:2: name: string should match pattern"),
    "no seeds": (("seeds: 2", "seeds: []"), "spec.yaml:13: seeds: seeds must be given, each once, not []"),
    "a seed twice": (("seeds: 2", "seeds: [1, 1]"), "spec.yaml:13: seeds: seeds must be given, each once, not [1, 1]"),
    "negative seeds": (("seeds: 2", "seeds: -1"), "spec.yaml:13: seeds: input should be greater than 0, not -1"),
    "an axis named seed": (
        ("setting:", "seed:"),
        "spec.yaml:7: axes.seed: this name is taken; name the axis otherwise",
    ),
    "an empty axis": (
        ("seeds: 2", "  more: {}\nseeds: 2"),
        "spec.yaml:13: axes.more: an axis needs at least one label",
    ),
    "exclusion of nothing known": (
        ("seeds: 2", "exclude: [{metod: LM}]"),
        "spec.yaml:13: exclude: unknown axis 'metod'; did you mean 'method'? known: method, setting",
    ),
    "exclusion of an unknown label": (
        ("seeds: 2", "exclude: [{method: ML}]"),
        "spec.yaml:13: exclude: unknown label of axis method 'ML'; known: LM, VAE",
    ),
    "exclusion of everything": (
        ("seeds: 2", "exclude: [{method: [LM, VAE]}]"),
        "spec.yaml:13: exclude: every combination is excluded; nothing is left",
    ),
    "a choice that another label replaces": (
        ("model: {embedding_dim: 8, hidden_dim: 12}", "model: lstm_ml"),
        "spec.yaml:5: base.model: unknown choice of conf/model/ 'lstm_ml'; did you mean 'lstm_lm'? known: ",
    ),
    "nothing where a schedule stands": (
        ("model: {kind: lstm_vae, samples: 2}", "model: lstm_vae, schedule: null"),
        "spec.yaml:12: axes.method.VAE.schedule.kind: no kind given; name a choice of conf/schedule/ or a kind: ",
    ),
    "an infinite number": (
        ("hidden_dim: 12", "hidden_dim: .inf"),
        "spec.yaml:5: a number must be finite, not '.inf'",
    ),
    "a number that is none": (("seeds: 2", "seeds: !!int two"), "spec.yaml:13: 'two' is no int"),
    "a number beyond 64 bits": (
        ("hidden_dim: 12", f"hidden_dim: {2**63}"),
        "spec.yaml:5: a whole number must be below 2^63 in size, not '9223372036854775808'",
    ),
    "a key that is no text": (
        ("Standard: {", "5: {"),
        "spec.yaml:8: a key must be text, in quotes where it looks like a number, not '5'",
    ),
    "a label that a terminal obeys": (
        ("Standard: {", '"\\e[31m": {'),
        "spec.yaml:8: text must be without control characters, not '\\x1b[31m'",
    ),
    "too many trials": (
        ("seeds: 2", "seeds: 2501"),
        "spec.yaml:6: axes: axes of 2, 2 labels and 2,501 seeds make more than 10,000 trials; split the sweep",
    ),
    "one GPU and a half": (
        ("seeds: 2", "resources: {gpu: 1.5}"),
        "spec.yaml:13: resources.gpu: a trial takes a share of one GPU, or whole ones, not 1.5",
    ),
    "resources by a wrong name": (
        ("seeds: 2", "resources: atuo"),
        "spec.yaml:13: resources: give auto, or the fields cpu, gpu, probe, together and graphs, not 'atuo'",
    ),
    "a label that is no patch": (
        ("LM: {model: lstm_lm, schedule: constant}", "LM: lstm_lm"),
        "spec.yaml:11: axes.method.LM: input should be a valid dictionary, not 'lstm_lm'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_sentence_with_its_place(tmp_path: Path, case: str) -> None:
    (old, new), expected = WRONG[case]
    assert old in SPEC
    sentence = fail(tmp_path, SPEC.replace(old, new, 1))
    assert sentence.startswith(expected), sentence


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seeds", "override 'seeds': expected KEY=VALUE"),
        ("=3", "override '=3': expected KEY=VALUE"),
        ("trian.epochs=3", "override 'trian.epochs=3': unknown key 'trian'; did you mean 'train'? known: "),
        ("train.epochs=[", "override 'train.epochs=[': the value is not valid YAML"),
        ("train.epochs=many", "train.epochs: input should be a valid integer, not 'many'"),
        ("train.epoch=3", "train.epoch: unknown key 'epoch'; did you mean 'epochs'? known: "),
        ("seeds=x", "spec.yaml:13: seeds: input should be a valid integer, not 'x'"),
    ],
)
def test_a_wrong_override_is_one_sentence(tmp_path: Path, override: str, expected: str) -> None:
    assert fail(tmp_path, SPEC, override).startswith(expected)


def test_unknown_sweeps_and_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown sweep 'dem'; did you mean 'demo'. known: annealing, .*demo, .*paper"):
        SweepSpec.load("dem")
    with pytest.raises(ValueError, match="nothing.yaml: cannot be read: No such file or directory"):
        SweepSpec.load(str(tmp_path / "nothing.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ValueError, match="latin.yaml: not valid YAML: "):
        SweepSpec.load(str(tmp_path / "latin.yaml"))


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    assert "not valid YAML" in fail(tmp_path, "name: !!python/object/apply:os.getcwd []\n")
