"""A spec with a small search, which the tests of spaces and of mistakes in them change."""

from pathlib import Path

import pytest

from sweep.plan import Plan, make_plan
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
