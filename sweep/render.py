"""Tables as text, Markdown, LaTeX, HTML, CSV and JSON: the same bytes for the same tables."""

from collections.abc import Callable, Mapping, Sequence

from sweep.formats.data import csv_text, json_text
from sweep.formats.html import html
from sweep.formats.latex import latex
from sweep.formats.markdown import markdown
from sweep.formats.text import text
from sweep.layout import Table

_RENDERERS: Mapping[str, Callable[[Sequence[Table]], str]] = {
    "text": text,
    "md": markdown,
    "tex": latex,
    "html": html,
    "csv": csv_text,
    "json": json_text,
}
FORMATS = tuple(_RENDERERS)


def render(tables: Sequence[Table], format: str) -> str:
    """The tables in one of `FORMATS`. Raises ValueError on another."""
    if format not in _RENDERERS:
        raise ValueError(f"unknown format '{format}'; choose one of {', '.join(FORMATS)}")
    return _RENDERERS[format](tables)
