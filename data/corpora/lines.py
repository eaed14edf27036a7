"""Anybody's text: three files under a name of their own, by configuration alone."""

import re
from pathlib import Path

from pydantic import Field, field_validator

from data.corpus import Text
from data.text import FileCorpusConfig, PublishedFile, TextRules, fingerprint_folder, read_folder
from data.vocabulary import END, START


class Config(FileCorpusConfig):
    name: str
    unknown: str = "<unk>"
    max_vocabulary: int | None = Field(None, ge=3)  # predicted words, `</s>` and the unknown symbol included
    min_count: int = Field(1, ge=1)  # in the training text; rarer words are unknown

    @field_validator("name")
    @classmethod
    def _names_one_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
            raise ValueError(
                f"a corpus's name is letters, digits, '.', '_' and '-', starts with none of '.-', and has at most "
                f"100 characters, but it is {name!r}; choose another name, and keep paths for the corpora root"
            )
        return name

    @field_validator("unknown")
    @classmethod
    def _is_one_word(cls, unknown: str) -> str:
        if unknown.split() != [unknown] or unknown in (START, END):
            raise ValueError(
                f"the unknown symbol is one word, neither '{START}' nor '{END}', but it is {unknown!r}; "
                "use the one in your text, or '<unk>'"
            )
        return unknown

    @property
    def title(self) -> str:
        return self.name

    @property
    def licence(self) -> str:
        return "The text is the user's own; its licence is theirs to know."

    @property
    def folder(self) -> str:
        return self.name

    @property
    def rules(self) -> TextRules:
        return TextRules(self.unknown, self.max_vocabulary, self.min_count)

    @property
    def published(self) -> tuple[PublishedFile, ...]:
        return ()

    @property
    def how_to_get(self) -> str:
        return f"put train.txt, valid.txt and test.txt into a folder DIR and run `sweep data import {self.name} DIR`"

    def fingerprint(self, root: Path) -> str:
        return fingerprint_folder(self, root)

    def read(self, root: Path) -> Text:
        return read_folder(self, root)
