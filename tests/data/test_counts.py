"""The corpora of the paper, counted by our own loader: every number a table divides by.

The texts are licensed to their users and are not in this repository; without them these tests skip.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from data.batch import batches, num_batches
from data.cache import load
from data.corpora import lines, ptb, yahoo
from data.corpus import Corpus
from data.fetch import import_corpus
from data.text import sha256

SOURCE = Path(os.environ.get("TEXT_VAE_CORPORA_SOURCE", Path(__file__).parents[3] / "shared" / "data"))


def source(*paths: str) -> Path:
    for path in paths:
        if not (SOURCE / path).is_file():
            pytest.skip(f"{SOURCE / path} is not there; set TEXT_VAE_CORPORA_SOURCE to the folder with the corpora")
    return (SOURCE / paths[0]).parent


@pytest.fixture(scope="module")
def treebank(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = source("ptb/train.txt", "ptb/valid.txt", "ptb/test.txt")
    root = tmp_path_factory.mktemp("corpora")
    (root / "ptb").symlink_to(folder)
    load(ptb.Config(), root)
    return load(ptb.Config(), root)  # from the cache


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Yahoo with the validation text in place of the training text, which cannot be had here."""
    folder = source("yahoo/valid.txt", "yahoo/test.txt", "yahoo/vocab.txt")
    root = tmp_path_factory.mktemp("corpora")
    (root / "yahoo-dev").mkdir()
    for name, original in {"train": "valid", "valid": "valid", "test": "test", "vocab": "vocab"}.items():
        (root / "yahoo-dev" / f"{name}.txt").symlink_to(folder / f"{original}.txt")
    return load(lines.Config(name="yahoo-dev", unknown="_UNK"), root)


@pytest.mark.parametrize(
    ("split", "num_sentences", "num_words", "per_line", "per_line_with_end", "longest", "num_of_one_word"),
    [
        ("train", 42_068, 887_521, 21.0973, 22.0973, 82, 137),
        ("valid", 3_370, 70_390, 20.8872, 21.8872, 74, 13),
        ("test", 3_761, 78_669, 20.9170, 21.9170, 77, 5),
    ],
)
def test_ptb_counts(
    treebank: Corpus,
    split: str,
    num_sentences: int,
    num_words: int,
    per_line: float,
    per_line_with_end: float,
    longest: int,
    num_of_one_word: int,
) -> None:
    text = treebank.splits[split]
    assert text.num_sentences == num_sentences
    assert text.num_tokens == num_words + num_sentences
    assert round(num_words / num_sentences, 4) == per_line
    assert round(text.num_tokens / text.num_sentences, 4) == per_line_with_end
    assert text.lengths.max() - 1 == longest
    assert (text.lengths == 2).sum() == num_of_one_word


def test_ptb_vocabulary(treebank: Corpus) -> None:
    assert len(treebank.vocabulary) == 10_000  # 9,999 types of train, `<unk>` and `N` among them, and `</s>`
    assert treebank.vocabulary.words[:3] == ("</s>", "<unk>", "the")
    assert "N" in treebank.vocabulary.ids
    counts = np.bincount(treebank.splits["train"].tokens, minlength=10_000)
    assert counts.min() >= 1
    assert counts[treebank.vocabulary.end] == 42_068


def test_ptb_unknown_words_are_those_of_the_text(treebank: Corpus) -> None:
    folder = source("ptb/test.txt")
    for split in ("valid", "test"):
        in_text = (folder / f"{split}.txt").read_text().split().count("<unk>")
        assert (treebank.splits[split].tokens == treebank.vocabulary.unknown).sum() == in_text


def test_ptb_unigram_floor(treebank: Corpus) -> None:
    """Add-0.5 smoothed unigrams need 141.60 nats a sentence: a check on every count that a perplexity is made of."""
    counts = np.bincount(treebank.splits["train"].tokens, minlength=len(treebank.vocabulary)) + 0.5
    log_p = np.log(counts / counts.sum())
    test = treebank.splits["test"]
    nll = -log_p[test.tokens].sum()
    assert round(nll / test.num_sentences, 2) == 141.60
    assert round(np.exp(nll / test.num_tokens), 1) == 639.5


def test_ptb_batches(treebank: Corpus) -> None:
    train = treebank.splits["train"]
    sizes = [len(batch.indices) for batch in batches(train, 32, seed=0, epoch=1)]
    assert len(sizes) == num_batches(train, 32) == 1_359
    assert round(sum(sizes) / len(sizes), 2) == 30.96
    assert max(sizes) == 32


def test_ptb_files_are_the_published_ones() -> None:
    folder = source("ptb/train.txt", "ptb/valid.txt", "ptb/test.txt")
    assert all(sha256(folder / file.name) == file.sha256 for file in ptb.Config().published)


@pytest.mark.parametrize(("split", "num_words"), [("valid", 790_680), ("test", 788_673)])
def test_yahoo_counts(answers: Corpus, split: str, num_words: int) -> None:
    text = answers.splits[split]
    assert text.num_sentences == 10_000
    assert text.num_tokens == num_words + 10_000
    assert (text.lengths.min() - 1, text.lengths.max() - 1) == (20, 200)
    assert len(np.unique(text.lengths)) == 181


def test_yahoo_tokens_a_document(answers: Corpus) -> None:
    assert answers.splits["test"].num_tokens / 10_000 == 79.8673


def test_yahoo_word_list_covers_the_text(answers: Corpus) -> None:
    assert len(answers.vocabulary) == 19_998  # 19,997 listed types, `_UNK` among them, and `</s>`
    folder = source("yahoo/test.txt")
    for split in ("valid", "test"):
        in_text = (folder / f"{split}.txt").read_text(encoding="utf-8").split().count("_UNK")
        assert (answers.splits[split].tokens == answers.vocabulary.unknown).sum() == in_text


def test_yahoo_import_wants_the_training_text(tmp_path: Path) -> None:
    folder = source("yahoo/valid.txt", "yahoo/test.txt", "yahoo/vocab.txt")
    assert all(sha256(folder / file.name) == file.sha256 for file in yahoo.Config().published)
    with pytest.raises(ValueError, match=r"'yahoo' needs train\.txt.*sa-vae"):
        import_corpus(yahoo.Config(), folder, tmp_path)
