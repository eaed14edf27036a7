"""What every dataset keeps, over all files of data/corpora/ that need nothing but themselves or three text files."""

import importlib
from pathlib import Path

import pytest

from data.cache import load
from data.corpus import SPLITS, CorpusConfig
from data.text import FileCorpusConfig
from sweep.config import kinds


def config_of(kind: str) -> CorpusConfig:
    config_type = importlib.import_module(f"data.corpora.{kind}").Config
    required = {name: "anything" for name, field in config_type.model_fields.items() if field.is_required()}
    config: CorpusConfig = config_type(**required)
    return config


@pytest.fixture(params=kinds("data"))
def config(request: pytest.FixtureRequest, tmp_path: Path) -> CorpusConfig:
    """A corpus that is there: its files, where it reads any, hold a few sentences with its unknown symbol."""
    config = config_of(request.param)
    if isinstance(config, FileCorpusConfig):
        folder = tmp_path / config.folder
        folder.mkdir()
        for number, split in enumerate(SPLITS):
            (folder / f"{split}.txt").write_text(f"one two {config.rules.unknown}\nthree one\ntwo\n" * (number + 1))
    return config


def test_a_corpus_has_its_splits_and_its_facts(config: CorpusConfig, tmp_path: Path) -> None:
    corpus = load(config, tmp_path)
    for split in SPLITS:
        assert corpus.splits[split].num_sentences > 0
        tokens, vocabulary = corpus.splits[split].tokens, corpus.vocabulary
        assert 0 <= int(tokens.min()) <= int(tokens.max()) < len(vocabulary)
        ends = corpus.splits[split].offsets[1:] - 1
        assert (tokens[ends] == vocabulary.end).all()
        assert int((tokens == vocabulary.end).sum()) == corpus.splits[split].num_sentences
    assert corpus.facts()["title"] == config.title
    assert config.licence.endswith(".")


def test_the_content_hash_is_that_of_the_content(config: CorpusConfig, tmp_path: Path) -> None:
    first = load(config, tmp_path)
    again = load(config, tmp_path)
    assert again.content_hash == first.content_hash
    assert config.fingerprint(tmp_path) == config.fingerprint(tmp_path)


@pytest.mark.parametrize("kind", kinds("data"))
def test_a_missing_corpus_is_one_sentence_with_a_way_out(kind: str, tmp_path: Path) -> None:
    config = config_of(kind)
    if isinstance(config, FileCorpusConfig):
        with pytest.raises(ValueError, match="sweep data import"):
            load(config, tmp_path)
        assert list(tmp_path.iterdir()) == []
