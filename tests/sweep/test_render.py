"""The formats: aligned, balanced, escaped, and readable by the programs that they are for."""

import csv
import io
import json
import re

import pytest

from sweep.layout import PENDING, UNDEFINED, Column, Group, Number, Row, Summary, Table
from sweep.render import FORMATS, render

COLUMNS = (Column("nll", "NLL"), Column("kl", "KL"), Column("ppl", "PPL"), Column("strict", "NLL ≤"))
MEAN, STD = 98.4321, 0.123456789


def numbers(mean: float = MEAN, std: float | None = STD, is_best: bool = False) -> Summary:
    entries = {"nll": Number(mean, std), "kl": UNDEFINED, "ppl": Number(592.25, 19.35)}
    return Summary({**entries, "strict": Number(mean, std, is_best)}, 5, 5)


def table(label: str = "LSTM-VAE-AVG (L = 10)", title: str = "PTB", num_groups: int = 2) -> Table:
    groups = tuple(Group(name, COLUMNS) for name in ("Standard", "Inputless", "Half")[:num_groups])
    pending = Summary(dict.fromkeys(("nll", "kl", "ppl", "strict"), PENDING), 0, 5)
    partial = Summary(numbers(101.0, None).entries, 1, 5)
    rows = (
        Row(label, (numbers(is_best=True),) * num_groups, "†"),
        Row("LSTM-LM", (pending, partial, None)[:num_groups], opens_block=True),
    )
    return Table(title, "method", groups, rows, ("† not a bound & 100 % of NLL ≤.", "short"), seeds=5)


def test_text_as_it_stands() -> None:
    plain = Table("PTB", "method", (Group("Standard", COLUMNS[:2]),), table(num_groups=1).rows, ("note",), 5)
    assert render([plain], "text").splitlines() == [
        "PTB",
        "",
        "                             Standard",
        "method                     NLL        KL",
        "────────────────────────────────────────",
        "LSTM-VAE-AVG (L = 10) †   98.4 ± 0.1  –",
        "────────────────────────────────────────",
        "LSTM-LM                      …        …",
        "",
        "note",
    ]


def test_text_keeps_its_width() -> None:
    wide = render([table()], "text").splitlines()
    assert max(map(len, wide)) <= 110
    assert len([line for line in wide if line.startswith("LSTM-LM")]) == 1
    stacked = render([table(num_groups=3)], "text").splitlines()
    assert max(map(len, stacked)) <= 110
    assert len([line for line in stacked if line.startswith("LSTM-LM")]) == 3


def test_text_marks_the_best_and_counts_seeds() -> None:
    text = render([table(num_groups=1)], "text")
    assert text.count("98.4 ± 0.1*") == 1
    assert "592.2 ± 19.4" in text  # as the decimal value of the binary number rounds: 592.25 and 19.35…01
    assert "101.0 (1/5)" in render([table()], "text")
    assert "(5/5)" not in text


@pytest.mark.parametrize("label", ["LSTM-LM", r"a & b_c 50% #1 $x$ {y} ~z^2 \cmd | <e>", "[0] first", "*star"])
def test_latex_is_balanced(label: str) -> None:
    tex = render([table(label, title="P & Q", num_groups=3)], "tex")
    stripped = re.sub(r"\\[{}&$%#_\\]", "", tex)
    assert stripped.count("{") == stripped.count("}")
    assert stripped.count("$") % 2 == 0
    assert sorted(re.findall(r"\\begin\{(.*?)\}", tex)) == sorted(re.findall(r"\\end\{(.*?)\}", tex))
    assert r"\caption{P \& Q}" in tex
    preamble = re.search(r"\\begin\{tabular\}\{l([ r]+)\}", tex)
    assert preamble is not None
    num_columns = 1 + preamble[1].count("r")
    rows = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 4
    for line in rows:
        spans = [int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", line)]
        assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) == num_columns
        assert not line.startswith(("[", "*"))
    assert r"\cmidrule(lr){2-5} \cmidrule(lr){6-9} \cmidrule(lr){10-13}" in tex
    assert r"$\mathbf{98.4 \pm 0.1}$" in tex
    assert "100 \\% of NLL $\\le$." in tex
    assert tex.isascii()


def test_markdown_escapes_pipes() -> None:
    text = render([table("a|b *c*")], "md")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {1 + 1 + 8}
    assert r"| a\|b \*c\* † |" in text
    assert "**98.4 ± 0.1**" in text
    assert "101.0 (1/5)" in text


def test_csv_has_a_line_a_cell_unrounded() -> None:
    lines = list(csv.DictReader(io.StringIO(render([table('say "a, b"'), table(num_groups=3)], "csv"))))
    assert len(lines) == 4 + 5  # the third group of the second table has one cell
    first, pending = lines[0], lines[2]
    assert [first["table"], first["row"], first["group"], first["marks"]] == ["PTB", 'say "a, b"', "Standard", "†"]
    assert [float(first["nll"]), float(first["nll_std"])] == [MEAN, STD]
    assert [first["kl"], first["n"], first["wanted"], first["is_best"]] == ["", "5", "5", "true"]
    assert [pending["nll"], pending["n"], pending["wanted"], pending["is_best"]] == ["", "0", "5", "false"]


def test_json_round_trip() -> None:
    text = render([table(num_groups=3)], "json")
    parsed = json.loads(text)
    assert json.dumps(parsed, indent=1, sort_keys=True, ensure_ascii=False) + "\n" == text
    (value,) = parsed["tables"]
    assert value["footnotes"] == ["† not a bound & 100 % of NLL ≤.", "short"]
    assert [group["columns"]["strict"] for group in value["groups"]] == ["NLL ≤"] * 3
    best, other = value["rows"]
    assert best["cells"][0]["numbers"] == {
        "nll": {"mean": MEAN, "std": STD, "is_best": False, "is_tied": False},
        "kl": None,
        "ppl": {"mean": 592.25, "std": 19.35, "is_best": False, "is_tied": False},
        "strict": {"mean": MEAN, "std": STD, "is_best": True, "is_tied": False},
    }
    assert [(cell["group"], cell["n"]) for cell in other["cells"]] == [("Standard", 0), ("Inputless", 1)]


@pytest.mark.parametrize("form", FORMATS)
def test_no_tables_and_no_rows(form: str) -> None:
    empty = Table("Corpora", "corpus", (Group("sentences", COLUMNS),), (), ())
    assert "corpus" in render([empty], form) or form == "csv"
    render([], form)


def test_unknown_format() -> None:
    with pytest.raises(ValueError, match="unknown format 'pdf'; choose one of text, md, tex, html, csv, json"):
        render([], "pdf")
