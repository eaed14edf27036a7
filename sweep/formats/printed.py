"""What formats for readers share: entries at printed precision."""

from dataclasses import dataclass, replace

from sweep.layout import TIED, Number, Row, Table


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
    printed = [_entry(cell.entries[column.key], column.digits) for column in columns]
    # All numbers of a cell are over the same seeds, so that its first says it for the others.
    failed = f", {cell.failed} failed" if cell.failed else ""
    if failed or (cell.done and (cell.done, cell.wanted) != (table.seeds, table.seeds)):
        printed[0] = replace(printed[0], suffix=f"{printed[0].suffix} ({cell.done}/{cell.wanted}{failed})")
    return printed


def _entry(entry: Number | str, digits: int) -> Printed:
    if isinstance(entry, str):
        return Printed(entry)
    std = "" if entry.std is None else _decimal(entry.std, digits)
    return Printed(_decimal(entry.mean, digits), std, f" {TIED}" if entry.is_tied else "", entry.is_best)


def _decimal(value: float, digits: int) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:z.{digits}f}"


def marked_label(row: Row) -> str:
    return f"{row.label} {row.marks}".rstrip()


def has_headings(table: Table) -> bool:
    return any(group.heading for group in table.groups)
