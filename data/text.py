"""Corpora that lie as text files: one sentence or document a line, words between whitespace, UTF-8.

A folder `<root>/<corpus>/` holds `train.txt`, `valid.txt` and `test.txt`; a `vocab.txt` beside them, one word a line,
is the corpus's word list. Without one the vocabulary is that of the training text alone.
"""

import codecs
import hashlib
import json
import sys
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data import vocabulary
from data.corpus import SPLITS, CorpusConfig, Text
from data.vocabulary import Vocabulary

WORD_LIST = "vocab"
"""Stem of the optional file that lists the vocabulary, beside the stems of the splits."""

_READING = "text-1"  # part of every fingerprint: raised when the same files give other words


@dataclass(frozen=True)
class TextRules:
    """How words become a vocabulary; `max_vocabulary` counts `</s>` and the unknown symbol too."""

    unknown: str
    max_vocabulary: int | None = None
    min_count: int = 1


@dataclass(frozen=True)
class PublishedFile:
    """One file as its publisher gives it out, under the name that it has in the corpus's folder.

    url: where a program can download it; None where only a person can.
    """

    name: str
    sha256: str
    url: str | None = None


class FileCorpusConfig(CorpusConfig):
    """Configuration of a corpus that lies in a folder of text files, and is fetched or imported into it."""

    @property
    @abstractmethod
    def folder(self) -> str:
        """Its folder under the corpora root, and its name in commands."""

    @property
    @abstractmethod
    def rules(self) -> TextRules: ...

    @property
    @abstractmethod
    def published(self) -> tuple[PublishedFile, ...]:
        """The files whose content is known; all of them and with addresses where `sweep data fetch` can get them."""

    @property
    @abstractmethod
    def how_to_get(self) -> str:
        """What a person without the files should do: a clause that can follow a semicolon."""


def read_folder(corpus: FileCorpusConfig, root: Path) -> Text:
    """The text in the corpus's folder. Raises ValueError on a missing or empty file and on input that breaks a rule."""
    return read_files(corpus, files_in(corpus, root))


def fingerprint_folder(corpus: FileCorpusConfig, root: Path) -> str:
    """sha256 of the bytes of the corpus's files and of its rules. Raises ValueError on a missing file."""
    hashes = {stem: sha256(path) for stem, path in files_in(corpus, root).items()}
    return hashlib.sha256(json.dumps([_READING, asdict(corpus.rules), hashes], sort_keys=True).encode()).hexdigest()


def files_in(corpus: FileCorpusConfig, root: Path) -> dict[str, Path]:
    """Stem to path of the corpus's files. Raises ValueError, with the way to get it, where a split is missing."""
    folder = root / corpus.folder
    for split in SPLITS:
        if not (folder / f"{split}.txt").is_file():
            raise missing_split(corpus, split, folder)
    return {stem: path for stem in (*SPLITS, WORD_LIST) if (path := folder / f"{stem}.txt").is_file()}


def missing_split(corpus: FileCorpusConfig, split: str, folder: Path) -> ValueError:
    return ValueError(f"corpus '{corpus.folder}' needs {split}.txt, and {folder} has none; {corpus.how_to_get}")


def read_files(corpus: FileCorpusConfig, files: Mapping[str, Path]) -> Text:
    """The text of files wherever they lie; `files` maps each split, and `vocab` if there is a list, to a path."""
    splits = {split: read_sentences(files[split]) for split in SPLITS}
    for split in SPLITS:
        if not splits[split]:
            raise ValueError(f"{files[split]} holds no words, and every split needs a sentence; {corpus.how_to_get}")
    return Text(splits, _vocabulary(corpus.rules, splits["train"], files.get(WORD_LIST)))


def read_sentences(path: Path) -> list[list[str]]:
    """The words of each line of a file; empty lines are dropped with a warning that counts them.

    Raises ValueError on bytes that are not UTF-8 and on a symbol that marks the ends of sentences.
    """
    sentences = _lines(path)
    kept = [sentence for sentence in sentences if sentence]
    if dropped := len(sentences) - len(kept):
        warnings.warn(f"{path}: {dropped} of {len(sentences)} lines are empty and are dropped", stacklevel=2)
    for number, sentence in enumerate(sentences, start=1):
        for symbol in (vocabulary.START, vocabulary.END):
            if symbol in sentence:
                raise ValueError(
                    f"{path}, line {number}: '{symbol}' marks the ends of sentences and is added here; "
                    "remove it from the text"
                )
    return kept


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _vocabulary(rules: TextRules, train: Sequence[Sequence[str]], word_list: Path | None) -> Vocabulary:
    if word_list is None:
        return vocabulary.from_sentences(train, rules.unknown, rules.max_vocabulary, rules.min_count)
    if rules.max_vocabulary is not None or rules.min_count != 1:
        raise ValueError(
            f"a word list fixes the vocabulary, but beside {word_list} there are max_vocabulary = "
            f"{rules.max_vocabulary} and min_count = {rules.min_count}; remove the list or the settings"
        )
    lines = _lines(word_list)
    for number, words in enumerate(lines, start=1):
        if len(words) > 1:
            raise ValueError(
                f"{word_list}, line {number}: a word list has one word a line, but this one has {len(words)}; "
                "leave only the words"
            )
    return vocabulary.from_word_list((words[0] for words in lines if words), rules.unknown)


def _lines(path: Path) -> list[list[str]]:
    """Words of every line, of the empty ones too. Lines end at a line feed alone: U+2028 and its like are text."""
    with path.open("rb") as file:
        return [_words(path, number, line) for number, line in enumerate(file, start=1)]


def _words(path: Path, number: int, line: bytes) -> list[str]:
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        words = line.decode("utf-8").split()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: line {number} has the byte 0x{line[error.start]:02x} at column {error.start + 1}; "
            f"convert the file, for example with `iconv -f latin1 -t utf-8`"
        ) from None
    # One object a type, not one a token: a tenth of the memory for text like Yahoo's.
    return [sys.intern(word) for word in words]
