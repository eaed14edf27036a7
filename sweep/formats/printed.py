"""What formats for readers share: entries at printed precision."""

from dataclasses import dataclass, replace

from sweep.layout import Number, Row, Table


@dataclass(frozen=True)
class Printed:
    """An entry at printed precision. suffix: how many seeds of the wanted ones it is over, where that is to be said."""

    mean: str
    std: str = ""
    suffix: str = ""
    is_best: bool = False


def printed(table: Table, row: Row, i: int) -> list[Printed]:
    """One for each column of group `i`."""
    cell, columns = row.cells[i], table.groups[i].columns
    if cell is None:
        return [Printed("")] * len(columns)
    printed = [_entry(cell.entries[column.key]) for column in columns]
    # All numbers of a cell are over the same seeds, so that its first says it for the others.
    if cell.done and (cell.done, cell.wanted) != (table.seeds, table.seeds):
        printed[0] = replace(printed[0], suffix=f" ({cell.done}/{cell.wanted})")
    return printed


def _entry(entry: Number | str) -> Printed:
    if isinstance(entry, str):
        return Printed(entry)
    return Printed(_decimal(entry.mean), "" if entry.std is None else _decimal(entry.std), is_best=entry.is_best)


def _decimal(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}"


def marked_label(row: Row) -> str:
    return f"{row.label} {row.marks}".rstrip()


def has_headings(table: Table) -> bool:
    return any(group.heading for group in table.groups)
