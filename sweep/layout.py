"""A table as plain values: rows of cells under groups of columns, numbers unrounded, and footnotes."""

from collections.abc import Mapping
from dataclasses import dataclass

UNDEFINED = "–"
PENDING = "…"
NOT_A_BOUND = "†"
SMALL_BETA = "‡"
NOT_FINITE = "NaN"
TIED = "≈"


@dataclass(frozen=True)
class Number:
    """A mean and its sample standard deviation (n − 1); None for one value. A whole `mean` is exact or printed so.

    is_tied: tested, and not told apart from the best.
    """

    mean: float
    std: float | None = None
    is_best: bool = False
    is_tied: bool = False


@dataclass(frozen=True)
class Summary:
    """What stands in one column group of a row.

    entries: column key to a number or to the sign that takes its place. done, wanted: seeds, 0 for what is not trained.
    source: of a published number, where it was published. failed: of the seeds that are not done.
    """

    entries: Mapping[str, Number | str]
    done: int = 0
    wanted: int = 0
    source: str = ""
    failed: int = 0

    def mean(self, key: str) -> float | None:
        entry = self.entries.get(key)
        return entry.mean if isinstance(entry, Number) else None


@dataclass(frozen=True)
class Column:
    """key: of the entries that it shows. header: as printed. digits: after the point."""

    key: str
    header: str
    digits: int = 1


@dataclass(frozen=True)
class Group:
    """Columns under one heading. is_published: of others' numbers, beside our group of the same label."""

    label: str
    columns: tuple[Column, ...]
    is_published: bool = False

    @property
    def heading(self) -> str:
        return ", ".join(filter(None, (self.label, "published" if self.is_published else "")))


@dataclass(frozen=True)
class Row:
    """cells: one a group; None where there is nothing to show. marks: of footnotes. opens_block: a rule above it."""

    label: str
    cells: tuple[Summary | None, ...]
    marks: str = ""
    opens_block: bool = False


@dataclass(frozen=True)
class Table:
    """stub: heading of the row labels. seeds: how many every cell wants; None when they differ or none is wanted."""

    title: str
    stub: str
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    seeds: int | None = None
