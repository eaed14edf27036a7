"""What tests of several rooms share."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.font_manager  # noqa: F401  # where it is new, it lists the fonts, and says so when that takes a while
import pytest
import torch

from data.corpus import Corpus, Text, encode
from data.vocabulary import from_sentences

if TYPE_CHECKING:
    from tests.faults.chaos import Undisturbed


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def chaos_corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpora root for the sweep of the tests of faults."""
    from tests.faults.chaos import make_corpus

    return make_corpus(tmp_path_factory.mktemp("chaos") / "corpora")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, chaos_corpora: Path) -> "Undisturbed":
    """What that sweep comes to when nothing happens to it."""
    # It imports MLflow, which takes seconds that most tests need not pay.
    from tests.faults.chaos import Undisturbed

    return Undisturbed.make(tmp_path_factory.mktemp("undisturbed"), chaos_corpora)


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """A corpus of a few dozen sentences of five lengths, one of them of one word."""
    words = ("the a old young cat dog bird sees hears likes red green house tree slowly today").split()  # noqa: SIM905
    sentences = [[words[(3 * i + 5 * j) % len(words)] for j in range(1 + i % 5)] for i in range(60)]
    splits = {"train": sentences, "valid": sentences[3:30:2], "test": sentences[4:40:3]}
    return encode("toy", Text(splits, from_sentences(sentences, "<unk>")))


@pytest.fixture
def lines_corpus(tmp_path: Path) -> Path:
    """A corpora root with a tiny corpus 'tiny' of three files."""
    folder = tmp_path / "corpora" / "tiny"
    folder.mkdir(parents=True)
    text = "\n".join(" ".join(f"w{(i * j) % 7}" for j in range(1, 3 + i % 3)) for i in range(24)) + "\n"
    (folder / "train.txt").write_text(text)
    (folder / "valid.txt").write_text("w1 w2 w3\nw4 w5\n")
    (folder / "test.txt").write_text("w2 w2 w1\nw0 w6\nw3 w1 w4\n")
    return folder.parent
