"""The published numbers of `conf/table/published.yaml`, checked, as the tables show them."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from sweep.layout import UNDEFINED, Number, Summary

Printed = int | float
"""As it was printed: a whole number without decimals."""


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Sizes(_Fields):
    """Sentences of each split and predicted types."""

    train: int
    valid: int
    test: int
    vocabulary: int
    source: str

    @property
    def sentences(self) -> dict[str, int]:
        return {"train": self.train, "valid": self.valid, "test": self.test}


class Values(_Fields):
    """NLL and KL in nats per sentence, perplexity per predicted token. nll_star: see the corpus's notes.

    iw: importance-weighted NLL.
    """

    nll: Printed
    nll_std: float | None = None
    kl: Printed | None = None
    kl_std: float | None = None
    ppl: Printed | None = None
    ppl_std: float | None = None
    iw: Printed | None = None
    iw_std: float | None = None
    nll_star: float | None = None


class PublishedRow(_Fields):
    """One system of a published table. match: labels of our rows that it is the counterpart of."""

    system: str
    match: list[str] = []
    source: str
    settings: dict[str, Values]

    def summary(self, setting: str) -> Summary | None:
        """Its numbers in a setting; None where it has none. An NLL* is given only where NLL needs one."""
        values = self.settings.get(setting)
        if values is None:
            return None
        entries: dict[str, Number | str] = {
            "nll": Number(values.nll, values.nll_std),
            "kl": UNDEFINED if values.kl is None else Number(values.kl, values.kl_std),
            "ppl": UNDEFINED if values.ppl is None else Number(values.ppl, values.ppl_std),
            "iw": "" if values.iw is None else Number(values.iw, values.iw_std),
            "nll_star": "" if values.nll_star is None else Number(values.nll_star),
        }
        return Summary(entries, source=self.source)


class PublishedCorpus(_Fields):
    """What is published on one corpus. rows: in the paper's order. notes: what a reader of them has to know."""

    sizes: Sizes
    notes: list[str] = []
    rows: list[PublishedRow]

    @property
    def settings(self) -> list[str]:
        """Labels of the settings, each once, in the order of the rows."""
        return list(dict.fromkeys(setting for row in self.rows for setting in row.settings))

    def rows_with(self, columns: Sequence[str]) -> list[PublishedRow]:
        """Those with a number besides the NLL for one of these columns."""
        more = [name for name in ("kl", "ppl", "iw") if name in columns]
        every = [(row, list(row.settings.values())) for row in self.rows]
        return [row for row, each in every if any(getattr(v, name) is not None for v in each for name in more)]

    def counterpart(self, label: str) -> PublishedRow | None:
        """The row that our row of this label is to be compared with."""
        return next((row for row in self.rows if label in row.match), None)


@cache
def published() -> Mapping[str, PublishedCorpus]:
    """By the title of the corpus. Raises ValueError when the file has a key or value that it should not have."""
    text = (resources.files("conf") / "table" / "published.yaml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, PublishedCorpus]).validate_python(yaml.safe_load(text))
