"""Markdown tables, best numbers bold."""

from collections.abc import Sequence

from sweep.formats.printed import Printed, marked_label, printed
from sweep.layout import Table


def markdown(tables: Sequence[Table]) -> str:
    return "\n".join(_table(table) for table in tables)


def _table(table: Table) -> str:
    headers = [
        f"{group.heading}: {column.header}" if group.heading else column.header
        for group in table.groups
        for column in group.columns
    ]
    lines = [
        f"### {_escaped(table.title)}",
        "",
        _line([_escaped(header) for header in (table.stub, *headers)]),
        _line(["---", *("---:" for _ in headers)]),
    ]
    for row in table.rows:
        entries = [_entry(entry) for i in range(len(row.cells)) for entry in printed(table, row, i)]
        lines.append(_line([_escaped(marked_label(row)), *entries]))
    return "\n".join([*lines, "", *(f"- {_escaped(note)}" for note in table.footnotes), ""])


def _line(fields: Sequence[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _entry(entry: Printed) -> str:
    number = f"{entry.mean} ± {entry.std}" if entry.std else entry.mean
    return (f"**{number}**" if entry.is_best else number) + entry.suffix


def _escaped(text: str) -> str:
    return text.translate({ord(sign): f"\\{sign}" for sign in "\\`*_|<[~"})
