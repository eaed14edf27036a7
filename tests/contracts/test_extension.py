"""Growing: a dataset, an architecture and a schedule are each one new file and one YAML, in a copy of the project."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

NEW_FILES = {
    "data/corpora/counting.py": '''
"""Sentences that count: one, one two, one two three."""

from pathlib import Path

from data.corpus import CorpusConfig, Text
from data.vocabulary import from_sentences


class Config(CorpusConfig):
    @property
    def title(self) -> str:
        return "Counting"

    @property
    def licence(self) -> str:
        return "Anybody may count."

    def fingerprint(self, root: Path) -> str:
        return "1"

    def read(self, root: Path) -> Text:
        words = "one two three four five".split()
        sentences = [words[: 1 + i % 5] for i in range(20)]
        return Text({"train": sentences, "valid": sentences[:5], "test": sentences[:6]}, from_sentences(sentences, "?"))
''',
    "conf/data/counting.yaml": "kind: counting\n",
    "model/variants/unigram.py": '''
"""A distribution over words, wherever they stand."""

import torch
from torch import Tensor, nn

from data.vocabulary import Vocabulary
from model.core import Bound, ModelConfig, Reader, TextModel


class Config(ModelConfig):
    scale: float = 0.1

    def build(self, vocabulary: Vocabulary) -> "Unigram":
        return Unigram(len(vocabulary), self.scale)


class Unigram(TextModel):
    def __init__(self, num_words: int, scale: float):
        super().__init__()
        self.linear = nn.Linear(1, num_words, bias=False)
        self.scale = scale

    def initialise(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.linear.weight.normal_(0.0, self.scale, generator=generator)

    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        return torch.empty(1, 1, num_sentences, 0)

    def bound(self, tokens: Tensor, noise: Tensor, generator: torch.Generator) -> Bound:
        # A draw of the generator in training, so that it is not a constant of the data.
        jitter = 1.0 + 0.01 * torch.rand(1, generator=generator) if self.training else 1.0
        log_p = (self.linear.weight[:, 0] * jitter).log_softmax(dim=0)
        rec = -log_p[tokens].sum(dim=1)
        return Bound(rec, rec.new_zeros(len(rec), 0), latents=0)

    def reader(self, latents: Tensor) -> Reader:
        return UnigramReader(self.linear.weight[:, 0].log_softmax(dim=0), len(latents))

    @property
    def operations_per_token(self) -> float:
        return float(self.linear.weight.numel())


class UnigramReader(Reader):
    def __init__(self, log_p: Tensor, rows: int):
        self.log_p, self.rows = log_p, rows

    def read(self, words: Tensor) -> Tensor:
        return self.log_p.expand(self.rows, -1)

    def keep(self, rows: Tensor) -> None:
        self.rows = len(rows)
''',
    "conf/model/unigram.yaml": "kind: unigram\n",
    "model/schedules/stairs.py": '''
"""The KL weight rises by `step` an epoch."""

from pydantic import PositiveFloat

from model.schedule import Course, Schedule


class Config(Schedule):
    step: PositiveFloat = 0.25

    def __call__(self, epoch: float, course: Course) -> float:
        return min(1.0, self.step * int(epoch))

    def warmup(self, course: Course) -> float:
        return 1.0 / self.step
''',
    "conf/schedule/stairs.yaml": "kind: stairs\n",
}

SPEC = """
name: grown
base: {data: counting, model: unigram, schedule: stairs, train: {epochs: 3, batch_size: 4}}
"""


@pytest.mark.slow
def test_a_new_plugin_is_one_file_and_one_yaml(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for folder in ("sweep", "model", "data", "conf", "tests/contracts"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / name, project / name)
    for name in (
        "test_extension.py",
        "test_files.py",
        "test_bucket.py",
    ):  # where a store keeps its files is no plugin's matter
        (project / "tests/contracts" / name).unlink()
    for name, text in NEW_FILES.items():
        assert not (project / name).exists()
        (project / name).write_text(text.lstrip())
    environment = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # What ships is tested outside of the copy: in it, all that is not of one model or one update that ships.
    others = "not embedding_dim and not learning_rate"
    tested = run("-m", "pytest", "-v", "tests/contracts", "-p", "no:cacheprovider", "-k", others)
    for name in ("counting", "Config(scale=0.1)", "stairs"):
        assert f"[{name}]" in tested, f"the contract tests did not pick up {name}"
    (project / "grown.yaml").write_text(SPEC)
    result = json.loads(run("-m", "sweep", "trial", "grown.yaml", "--json"))
    assert result["corpus"]["title"] == "Counting"
    assert result["config"]["schedule"] == {"kind": "stairs", "step": 0.25}
    assert [record["beta"] for record in result["history"]] == [0.25, 0.5, 0.75]
