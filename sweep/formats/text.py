"""Aligned text for a terminal, in one monospaced font."""

import textwrap
from collections.abc import Sequence

from sweep.formats.printed import Printed, has_headings, marked_label, printed
from sweep.layout import Table

WIDTH = 110
"""Characters of a line at most, unless the groups of one label alone are wider."""


def text(tables: Sequence[Table]) -> str:
    return "\n".join(_text_table(table) for table in tables)


def _text_table(table: Table) -> str:
    """In one piece if it fits, without spaces around ± if that makes it fit, else the groups below one another."""
    pieces = _pieces(table)
    tries = [[_grid(table, range(len(table.groups)), is_wide)] for is_wide in (True, False)]
    tries += [[_grid(table, piece, is_wide) for piece in pieces] for is_wide in (True, False)]
    grids = next((grids for grids in tries if max(len(line) for grid in grids for line in grid) <= WIDTH), tries[-1])
    notes = [line for note in table.footnotes for line in textwrap.wrap(note, WIDTH, subsequent_indent="  ")]
    return "\n".join([table.title, *(line for grid in grids for line in ("", *grid)), "", *notes, ""])


def _pieces(table: Table) -> list[list[int]]:
    """Indices of the groups that stay side by side: those of one label."""
    by_label: dict[str, list[int]] = {}
    for i, group in enumerate(table.groups):
        by_label.setdefault(group.label, []).append(i)
    return list(by_label.values())


def _grid(table: Table, indices: Sequence[int], is_wide: bool) -> list[str]:
    """Lines of the row labels and the groups at `indices`."""
    sign, gap = (" ± ", "  ") if is_wide else ("±", " ")
    labels = _aligned([table.stub, *(marked_label(row) for row in table.rows)])
    blocks = [labels] + [_block(table, i, sign, gap) for i in indices]
    headings = [" " * len(labels[0])]
    for j, i in enumerate(indices, start=1):
        heading = table.groups[i].heading
        blocks[j] = [line.ljust(len(heading)) for line in blocks[j]]
        headings.append(heading.center(len(blocks[j][0])))
    header, *body = ["   ".join(parts).rstrip() for parts in zip(*blocks, strict=True)]
    rule = "─" * max(map(len, [header, *body]))
    lines = ["   ".join(headings).rstrip()] if has_headings(table) else []
    lines += [header, rule]
    for row, line in zip(table.rows, body, strict=True):
        lines += [rule, line] if row.opens_block else [line]
    return lines


def _block(table: Table, i: int, sign: str, gap: str) -> list[str]:
    """The lines of a group, its column headers first, all of one width."""
    cells = [printed(table, row, i) for row in table.rows]
    columns = []
    for k, column in enumerate(table.groups[i].columns):
        columns.append(_column(column.header, [entries[k] for entries in cells], sign))
    return [gap.join(parts) for parts in zip(*columns, strict=True)]


def _column(header: str, entries: Sequence[Printed], sign: str) -> list[str]:
    """Lines of one width, the decimal points of the means below one another."""
    means = max((len(entry.mean) for entry in entries), default=0)
    ends = [f"{sign + entry.std if entry.std else ''}{'*' if entry.is_best else ''}{entry.suffix}" for entry in entries]
    lines = [entry.mean.rjust(means) + end for entry, end in zip(entries, ends, strict=True)]
    return _aligned([header.rjust(means), *lines])


def _aligned(lines: Sequence[str]) -> list[str]:
    width = max(map(len, lines))
    return [line.ljust(width) for line in lines]
