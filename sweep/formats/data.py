"""CSV and JSON for programs: numbers unrounded, and the seeds behind them."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sweep.layout import Group, Number, Row, Summary, Table


def csv_text(tables: Sequence[Table]) -> str:
    """One line for each cell; a field is empty where there is no such number."""
    keys = list(dict.fromkeys(column.key for table in tables for group in table.groups for column in group.columns))
    head = ["table", "row", "marks", "group", "is_published", "n", "wanted", "failed", "is_best"]
    lines = [[*head, *(field for key in keys for field in (key, f"{key}_std")), "source"]]
    lines += [
        _csv_line(table, row, group, cell, keys)
        for table in tables
        for row in table.rows
        for group, cell in zip(table.groups, row.cells, strict=True)
        if cell
    ]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()


def _csv_line(table: Table, row: Row, group: Group, cell: Summary, keys: Sequence[str]) -> list[str]:
    numbers = {key: entry for key, entry in _shown(group, cell).items() if isinstance(entry, Number)}
    is_best = any(number.is_best for number in numbers.values())
    counts = [str(count) if cell.wanted else "" for count in (cell.done, cell.wanted, cell.failed)]
    values = [getattr(numbers.get(key), field, None) for key in keys for field in ("mean", "std")]
    return [
        *(table.title, row.label, row.marks, group.label, _claim(group.is_published), *counts, _claim(is_best)),
        *("" if value is None else repr(value) for value in values),
        cell.source,
    ]


def _claim(holds: bool) -> str:
    return "true" if holds else "false"


def _shown(group: Group, cell: Summary) -> Mapping[str, Number | str]:
    """The entries that the group has a column for."""
    return {column.key: cell.entries[column.key] for column in group.columns}


def json_text(tables: Sequence[Table]) -> str:
    """One object; its lists are in the order of the sweep, its keys sorted."""
    value = {"tables": [_table(table) for table in tables]}
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _table(table: Table) -> dict[str, Any]:
    """A row's cells name their group; one that the sweep leaves out is not there."""
    groups = [
        {**_identity(group), "columns": {column.key: column.header for column in group.columns}}
        for group in table.groups
    ]
    rows = [
        {
            "label": row.label,
            "marks": row.marks,
            "cells": [_cell(group, cell) for group, cell in zip(table.groups, row.cells, strict=True) if cell],
        }
        for row in table.rows
    ]
    return {"title": table.title, "stub": table.stub, "groups": groups, "rows": rows, "footnotes": table.footnotes}


def _cell(group: Group, cell: Summary) -> dict[str, Any]:
    """n, wanted: seeds, null for what is not trained. A number that there is none of is null."""
    numbers = {
        key: {"mean": entry.mean, "std": entry.std, "is_best": entry.is_best, "is_tied": entry.is_tied}
        if isinstance(entry, Number)
        else None
        for key, entry in _shown(group, cell).items()
    }
    is_ours = cell.wanted > 0
    counts = {"n": cell.done, "wanted": cell.wanted, "failed": cell.failed}
    return {
        **_identity(group),
        **{name: count if is_ours else None for name, count in counts.items()},
        "source": cell.source or None,
        "numbers": numbers,
    }


def _identity(group: Group) -> dict[str, Any]:
    return {"group": group.label, "is_published": group.is_published}
