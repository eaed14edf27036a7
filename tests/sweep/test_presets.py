"""The protocols of others as named choices: what each of them is, and that none of it is in the key of the paper's."""

import json
from pathlib import Path

import pytest

from model.plateau import Plateau, PlateauConfig
from model.train import TrainConfig
from sweep.config import TrialConfig, parse_group, trial_key
from sweep.document import choices, named
from sweep.plan import make_plan
from sweep.spec import SweepSpec

SPEC = """
name: others
base: {data: grammar, model: {embedding_dim: 8, hidden_dim: 12}}
axes:
  method:
    AIN: {model: he_vae, schedule: he, update: aggressive, train: he}
    AIN off: {model: he_vae, schedule: he, update: {kind: aggressive, aggressive: false}, train: he}
    VAE of He: {model: he_vae, schedule: he, train: he}
    LM of He: {model: he_lm, schedule: constant, train: he}
    VAE of Kim: {model: lstm_vae, schedule: kim, train: kim}
    VAE of Xu: {model: lstm_vae, schedule: constant, update: xu, train: xu}
    VAE of Texar: {model: lstm_vae, schedule: kim, update: adam, train: texar}
    CNN of Yang: {model: cnn_vae, schedule: yang, update: yang, train: yang}
    VAE of Bowman: {model: bowman, schedule: sigmoid}
    AdamW: {model: lstm_vae, update: adamw}
    paper: {model: lstm_vae}
seeds: 1
"""


@pytest.fixture
def configs(tmp_path: Path) -> dict[str, TrialConfig]:
    path = tmp_path / "others.yaml"
    path.write_text(SPEC)
    spec = SweepSpec.load(str(path))
    return {cell.labels["method"]: spec.trial_config(cell, 0) for cell in spec.cells()}


def test_they_are_what_their_authors_did(configs: dict[str, TrialConfig]) -> None:
    found = {name: config.document() for name, config in configs.items()}
    he = found["AIN"]
    assert he["update"].items() >= {"learning_rate": 1.0, "clip": 5.0, "inner_steps": 99, "block": 15}.items()
    assert not he["update"]["clip_apart"]
    assert he["model"].items() >= {"init_range": 0.01, "embedding_init_range": 0.1, "linear_bias": False}.items()
    assert he["schedule"] == {"kind": "linear", "start": 0.1, "epochs": 10.0}
    assert (he["train"]["epochs"], he["train"]["batch_size"]) == (100, 32)
    kim = configs["VAE of Kim"]
    assert [kim.schedule(epoch, None) for epoch in (0.0, 1.0, 8.0, 9.0)] == pytest.approx([0.1, 0.2, 0.9, 1.0])  # type: ignore[arg-type]
    xu = found["VAE of Xu"]
    assert (xu["update"]["learning_rate"], xu["update"]["clip"], xu["train"]["batch_size"]) == (10.0, 0.25, 20)
    adam = found["VAE of Texar"]["update"]
    assert (adam["optimizer"], adam["learning_rate"], adam["beta1"], adam["beta2"]) == ("adam", 0.001, 0.9, 0.999)
    yang = found["CNN of Yang"]
    assert (yang["update"]["optimizer"], yang["update"]["learning_rate"], yang["update"]["beta1"]) == (
        "adam",
        0.001,
        0.5,
    )
    assert (yang["schedule"]["start"], yang["train"]["epochs"], yang["train"]["batch_size"]) == (0.01, 40, 32)
    bowman = found["VAE of Bowman"]
    assert bowman["model"]["word_dropout"] == 0.25
    assert bowman["schedule"] == {"kind": "sigmoid", "slope": 0.0025, "midpoint": 2500}
    assert found["AdamW"]["update"]["weight_decay"] == 0.01


def test_a_language_model_under_aggressive_training_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "others.yaml"
    path.write_text(SPEC.replace("model: he_lm, schedule: constant", "model: he_lm, update: aggressive"))
    with pytest.raises(ValueError, match="update aggressive trains the encoder by itself") as raised:
        make_plan(SweepSpec.load(str(path)), tmp_path)
    assert "others.yaml:9: axes.method.LM of He.model: " in str(raised.value)


def ends(name: str, values: list[float]) -> tuple[list[int], int, list[int]]:
    """Under a named protocol: the epochs with a decay, the last one, and those that went back to the best weights."""
    train: TrainConfig = parse_group("train", named("train", name))
    plateau, learning_rate = Plateau(train.plateau, 10.0), 1.0
    decays, reloads = [], []
    for epoch, value in enumerate(values[: train.epochs], start=1):
        verdict = plateau.judge(epoch, value, learning_rate)
        learning_rate *= train.plateau.factor if verdict.decay else 1.0
        decays += [epoch] * verdict.decay
        reloads += [epoch] * verdict.reload
        if verdict.stop:
            break
    return decays, epoch, reloads


def test_what_they_do_when_nothing_improves_any_more() -> None:
    """Best in the 12th of 100 epochs, then worse and worse by a little."""
    values = [100.0 - epoch for epoch in range(12)] + [90.0 + epoch / 100 for epoch in range(88)]
    he = [16, 18, 20, 22, 24]  # four bad ones before the 16th, then two each
    assert ends("he", values) == (he, 24, he)
    assert ends("kim", values) == ([15, 16, 17, 18, 19, 20], 20, [])
    assert ends("xu", values) == (list(range(13, 28)), 27, [])
    texar = [14, 16, 18, 20, 22]
    assert ends("texar", values) == (texar, 22, texar)
    assert ends("yang", values) == ([32, 34, 36, 38, 40], 40, [])
    assert ends("paper", values) == ([13, 14, 15], 15, [])


def test_every_choice_of_update_and_train_is_valid() -> None:
    for group in ("update", "train", "schedule"):
        for name in choices(group):
            parse_group(group, named(group, name))


def test_the_fields_that_came_later_are_in_the_key_only_where_they_are_used(configs: dict[str, TrialConfig]) -> None:
    paper = configs["paper"]
    identity = paper.identity()
    assert identity["update"] == {"kind": "joint", "learning_rate": 1.0, "clip": 5.0, "normalisation": "sentence"}
    assert identity["train"]["plateau"].keys() == {
        "factor", "decay_patience", "decay_start_epoch", "patience", "count", "reload_on_decay",
    }  # fmt: skip
    he = configs["AIN"].identity()["train"]["plateau"]
    assert (he["reference"], he["max_decays"]) == ("since_decay", 5)
    assert "sticky" not in he
    keys = {trial_key(config, "h") for config in configs.values()}
    assert len(keys) == len(configs)
    for config in configs.values():
        assert TrialConfig.parse(json.loads(json.dumps(config.document()))) == config
    assert PlateauConfig() == paper.train.plateau
