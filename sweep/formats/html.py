"""HTML tables: a page of its own for `table.html`, and the grids that `sweep report` lays out in the same way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from sweep.formats.printed import Printed, has_headings, marked_label, printed
from sweep.layout import TIED, Group, Number, Row, Summary, Table
from sweep.markup import filled


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a grid. text, spread: what is printed, and what behind a ±.

    mark: of a footnote, behind both. value: by which its column is sorted, None last of all. A column of texts is set
    to the left, others to the right.
    """

    text: str
    spread: str = ""
    mark: str = ""
    value: float | str | None = None
    is_best: bool = False


@dataclass(frozen=True)
class Line:
    """entries: one a column; none where the label is all there is."""

    label: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Block:
    """Lines that stay together when a column is sorted. label: above them, unless empty."""

    lines: tuple[Line, ...]
    label: str = ""


@dataclass(frozen=True)
class Grid:
    """A table as it is laid out. stub: heading of the line labels. groups: headings over columns, and of how many.

    notes: below it.
    """

    title: str
    stub: str
    columns: tuple[str, ...]
    blocks: tuple[Block, ...]
    groups: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    # Each once: the template asks for them in every place of the grid.
    @cached_property
    def firsts(self) -> set[int]:
        """Columns with which a group begins, the first one apart."""
        return set(accumulate(num for _, num in self.groups[:-1]))

    @cached_property
    def entries(self) -> list[tuple[int, Entry]]:
        """All of them, each with its column."""
        return [pair for block in self.blocks for line in block.lines for pair in enumerate(line.entries)]

    @cached_property
    def texts(self) -> set[int]:
        """Columns of texts."""
        return {k for k, entry in self.entries if isinstance(entry.value, str)}

    @cached_property
    def spreads(self) -> set[int]:
        """Columns in which something stands behind a mean."""
        return {k for k, entry in self.entries if entry.spread or entry.mark}

    @cached_property
    def spread(self) -> int:
        """Characters of the most that stands behind a mean, so that the points of means are below one another."""
        behind = [entry for _, entry in self.entries if entry.spread or entry.mark]
        return max((2 + len(entry.spread) + 2 * len(entry.mark) for entry in behind), default=0)


def html(tables: Sequence[Table]) -> str:
    """A page that needs nothing but itself."""
    title = ", ".join(table.title for table in tables)
    return filled("tables.html", title=title, grids=[grid(table) for table in tables])


def grid(table: Table) -> Grid:
    """How a table is laid out: a group that is trained has a column that says over how many seeds its numbers are."""
    counted = [_is_trained(table, i) for i in range(len(table.groups))]
    columns = [list(_columns(group, is_counted)) for group, is_counted in zip(table.groups, counted, strict=True)]
    headings = [(group.heading, len(each)) for group, each in zip(table.groups, columns, strict=True)]
    blocks: list[list[Line]] = [[]]
    for row in table.rows:
        if row.opens_block and blocks[-1]:
            blocks.append([])
        blocks[-1].append(Line(marked_label(row), tuple(_entries(table, row, counted))))
    return Grid(
        table.title,
        table.stub,
        tuple(column for each in columns for column in each),
        tuple(Block(tuple(lines)) for lines in blocks),
        tuple(headings) if has_headings(table) else (),
        table.footnotes,
    )


def _is_trained(table: Table, i: int) -> bool:
    cells = [row.cells[i] for row in table.rows]
    return any(cell.wanted > 0 for cell in cells if cell is not None)


def _columns(group: Group, is_counted: bool) -> Iterator[str]:
    yield from (column.header for column in group.columns)
    if is_counted:
        yield "n"


def _entries(table: Table, row: Row, counted: Sequence[bool]) -> Iterator[Entry]:
    for i, (group, is_counted) in enumerate(zip(table.groups, counted, strict=True)):
        cell = row.cells[i]
        for column, entry in zip(group.columns, printed(table, row, i), strict=True):
            yield _entry(entry, None if cell is None else cell.entries[column.key])
        if is_counted:
            yield _count(cell)


def _entry(entry: Printed, of: Number | str | None) -> Entry:
    if not isinstance(of, Number):
        return Entry(entry.mean)
    return Entry(entry.mean, entry.std, TIED if of.is_tied else "", of.mean, of.is_best)


def _count(cell: Summary | None) -> Entry:
    return counted(cell.done, cell.wanted, cell.failed) if cell is not None and cell.wanted else Entry("")


def counted(done: int, wanted: int, failed: int = 0) -> Entry:
    """Over how many seeds a number is; of how many, where some are missing, and how many of those have failed."""
    missing = f"/{wanted}" if done < wanted else ""
    return Entry(f"{done}{missing}{f', {failed} failed' if failed else ''}", value=done)


def number(found: Number, digits: int) -> Entry:
    """A mean over seeds and its deviation, with so many decimals."""
    spread = "" if found.std is None else f"{found.std:z.{digits}f}"
    return Entry(f"{found.mean:z,.{digits}f}", spread, value=found.mean)
