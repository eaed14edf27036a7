"""Yahoo Answers as sampled by Yang et al. 2017: 100,000 documents of 20 to 200 words, rare words as `_UNK`."""

from pathlib import Path

from data.corpus import Text
from data.text import FileCorpusConfig, PublishedFile, TextRules, fingerprint_folder, read_folder

# The training text has no published checksum, and its archive stands behind a page for people: no address here.
_SHA256 = {
    "valid.txt": "3247ac3ffcc4d4bfd6216f2aaa617f6706cdc4081874da39245fe156825898d1",
    "test.txt": "ad843c4363adbdd07d8055d9bf121e5f23c285760df43a0031b89d8538293075",
    "vocab.txt": "52c2045275a7114d748f694d984328bed5c7cdd5b82f784ee148e7c5d0be9911",
}


class Config(FileCorpusConfig):
    @property
    def title(self) -> str:
        return "Yahoo"

    @property
    def licence(self) -> str:
        return "The text comes from Yahoo Answers and is for research under the terms of Yahoo's Webscope programme."

    @property
    def folder(self) -> str:
        return "yahoo"

    @property
    def rules(self) -> TextRules:
        return TextRules(unknown="_UNK")

    @property
    def published(self) -> tuple[PublishedFile, ...]:
        return tuple(PublishedFile(name, sha256) for name, sha256 in _SHA256.items())

    @property
    def how_to_get(self) -> str:
        return (
            "the training text is published with the code of He et al. 2019 (vae-lagging-encoder) and Kim et al. 2018 "
            "(sa-vae): download it there, then run `sweep data import yahoo DIR`"
        )

    def fingerprint(self, root: Path) -> str:
        return fingerprint_folder(self, root)

    def read(self, root: Path) -> Text:
        return read_folder(self, root)
