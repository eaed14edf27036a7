"""Reading text files: what counts as a sentence and a word, and what is refused in which words."""

import warnings
from pathlib import Path

import pytest
from pydantic import ValidationError

from data.corpora import lines, ptb, yahoo
from data.corpus import encode
from data.text import FileCorpusConfig, read_sentences

SPLITS = {"train": "a b a\nc <unk>\na\n", "valid": "b d\n", "test": "a c\n"}


def write(root: Path, name: str = "mine", **files: str | bytes) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in {**SPLITS, **files}.items():
        (folder / f"{stem}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_vocabulary_is_that_of_train_and_other_words_are_unknown(tmp_path: Path) -> None:
    write(tmp_path)
    corpus = encode("mine", lines.Config(name="mine").read(tmp_path))
    assert corpus.vocabulary.words == ("</s>", "<unk>", "a", "b", "c")
    assert corpus.splits["valid"].tokens.tolist() == [3, corpus.vocabulary.unknown, 0]
    assert corpus.splits["train"].lengths.tolist() == [4, 3, 2]  # the line of one word is kept


def test_max_vocabulary_and_min_count(tmp_path: Path) -> None:
    write(tmp_path)
    assert lines.Config(name="mine", max_vocabulary=3).read(tmp_path).vocabulary.words == ("</s>", "<unk>", "a")
    assert lines.Config(name="mine", min_count=2).read(tmp_path).vocabulary.words == ("</s>", "<unk>", "a")


def test_word_list_is_the_vocabulary(tmp_path: Path) -> None:
    write(tmp_path, "yahoo", vocab="d\n_UNK\na\n")
    assert yahoo.Config().read(tmp_path).vocabulary.words == ("</s>", "_UNK", "d", "a")


def test_word_list_beside_settings_is_refused(tmp_path: Path) -> None:
    write(tmp_path, vocab="a\nb\n")
    with pytest.raises(ValueError, match=r"vocab\.txt there are max_vocabulary = 3 .*; remove"):
        lines.Config(name="mine", max_vocabulary=3).read(tmp_path)


def test_word_list_with_two_words_a_line_is_refused(tmp_path: Path) -> None:
    write(tmp_path, vocab="a\nb 7\n")
    with pytest.raises(ValueError, match=r"vocab\.txt, line 2: .* this one has 2"):
        lines.Config(name="mine").read(tmp_path)


def test_empty_lines_are_dropped_and_counted(tmp_path: Path) -> None:
    write(tmp_path, train="a b\n\n  \nc\n")
    with pytest.warns(UserWarning, match=r"train\.txt: 2 of 4 lines are empty"):
        assert read_sentences(tmp_path / "mine/train.txt") == [["a", "b"], ["c"]]


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    write(tmp_path, train="\ufeffa b\r\nc \u2028 d\x0be\nf".encode())
    assert read_sentences(tmp_path / "mine/train.txt") == [["a", "b"], ["c", "d", "e"], ["f"]]


def test_text_that_is_not_utf8_is_refused_with_its_place(tmp_path: Path) -> None:
    write(tmp_path, valid=b"fine\ncaf\xe9 x\n")
    with pytest.raises(ValueError, match=r"valid\.txt is not UTF-8: line 2 has the byte 0xe9 at column 4; convert"):
        lines.Config(name="mine").read(tmp_path)


@pytest.mark.parametrize("symbol", ["<s>", "</s>"])
def test_marks_of_sentence_ends_are_refused(tmp_path: Path, symbol: str) -> None:
    write(tmp_path, test=f"a\nb {symbol}\n")
    with pytest.raises(ValueError, match=rf"test\.txt, line 2: '{symbol}' .*; remove it"):
        lines.Config(name="mine").read(tmp_path)


@pytest.mark.parametrize(
    ("config", "way_out"),
    [
        (ptb.Config(), "sweep data fetch ptb"),
        (yahoo.Config(), r"vae-lagging-encoder.*sweep data import yahoo DIR"),
        (lines.Config(name="mine"), "sweep data import mine DIR"),
    ],
)
def test_missing_and_empty_splits_are_refused_with_the_command(
    tmp_path: Path, config: FileCorpusConfig, way_out: str
) -> None:
    with pytest.raises(ValueError, match=f"needs train.txt, and .* has none; .*{way_out}"):
        config.fingerprint(tmp_path)
    folder = write(tmp_path, config.folder, valid="")
    with pytest.raises(ValueError, match=f"valid.txt holds no words.*{way_out}"):
        config.read(tmp_path)
    (folder / "test.txt").unlink()
    for use in (config.read, config.fingerprint):
        with pytest.raises(ValueError, match=f"needs test.txt.*{way_out}"):
            use(tmp_path)


def test_fingerprint_follows_content_and_rules_only(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path / "elsewhere")
    config = lines.Config(name="mine")
    first = config.fingerprint(tmp_path)
    assert first == config.fingerprint(tmp_path / "elsewhere")
    others = [lines.Config(name="mine", min_count=2), lines.Config(name="mine", unknown="a")]
    prints = {first, *(other.fingerprint(tmp_path) for other in others)}
    write(tmp_path, valid="b e\n")
    prints.add(config.fingerprint(tmp_path))
    write(tmp_path, vocab="a\n")
    prints.add(config.fingerprint(tmp_path))
    assert len(prints) == 5


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "/a", "a b", "-f", "a\n", "ä", "a" * 101])
def test_names_that_are_no_folder_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="a corpus's name is letters"):
        lines.Config(name=name)


@pytest.mark.parametrize("unknown", ["", "two words", "</s>", "<s>", " x"])
def test_unknown_symbols_that_are_no_word_are_refused(unknown: str) -> None:
    with pytest.raises(ValidationError, match="the unknown symbol is one word"):
        lines.Config(name="mine", unknown=unknown)


def test_nothing_warns_on_clean_text(tmp_path: Path) -> None:
    write(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lines.Config(name="mine").read(tmp_path)
