"""LaTeX tables with booktabs, best numbers bold."""

from collections.abc import Iterator, Sequence

from sweep.formats.printed import Printed, has_headings, marked_label, printed
from sweep.layout import Group, Table

SIGNS: dict[str, str | int | None] = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    # At the start of a line these two would belong to the \\ of the line before.
    **{sign: f"{{{sign}}}" for sign in "[*"},
    **{
        sign: f"${name}$"
        for sign, name in zip("±≤≈−·×", (r"\pm", r"\le", r"\approx", "-", r"\cdot", r"\times"), strict=True)
    },
    **{sign: f"${name}$" for sign, name in zip("βκλ", (r"\beta", r"\kappa", r"\lambda"), strict=True)},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "…": r"\ldots{}",
    "–": "--",
}


def latex(tables: Sequence[Table]) -> str:
    return "\n".join(["% needs \\usepackage{booktabs}", *map(_table, tables)])


def _table(table: Table) -> str:
    counts = [len(group.columns) for group in table.groups]
    lines = [
        r"\begin{table*}",
        r"\centering\small",
        rf"\caption{{{_escaped(table.title)}}}",
        rf"\begin{{tabular}}{{l{''.join(' ' + 'r' * count for count in counts)}}}",
        r"\toprule",
        *(_headings(table.groups) if has_headings(table) else []),
        _line([_escaped(table.stub), *(_escaped(c.header) for g in table.groups for c in g.columns)]),
        r"\midrule",
    ]
    for row in table.rows:
        entries = [_entry(entry) for i in range(len(row.cells)) for entry in printed(table, row, i)]
        lines += [r"\midrule"] if row.opens_block else []
        lines.append(_line([_escaped(marked_label(row)), *entries]))
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip\footnotesize\raggedright"]
    lines += [f"{_escaped(note)}\\par" for note in table.footnotes]
    return "\n".join([*lines, r"\end{table*}", ""])


def _headings(groups: Sequence[Group]) -> Iterator[str]:
    """The headings over their columns, and the rules below them."""
    yield _line(["", *(rf"\multicolumn{{{len(g.columns)}}}{{c}}{{{_escaped(g.heading)}}}" for g in groups)])
    rules, first = [], 2
    for group in groups:
        rules.append(rf"\cmidrule(lr){{{first}-{first + len(group.columns) - 1}}}")
        first += len(group.columns)
    yield " ".join(rules)


def _line(fields: Sequence[str]) -> str:
    return " & ".join(fields) + r" \\"


def _entry(entry: Printed) -> str:
    if not entry.std:
        number = _escaped(entry.mean)
        return (rf"\textbf{{{number}}}" if entry.is_best else number) + _escaped(entry.suffix)
    number = rf"{entry.mean} \pm {entry.std}"
    return (rf"$\mathbf{{{number}}}$" if entry.is_best else f"${number}$") + _escaped(entry.suffix)


def _escaped(text: str) -> str:
    return text.translate(str.maketrans(SIGNS))
