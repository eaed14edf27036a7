"""The report's page: what it says of a sweep worked out by hand, that it is whole, escaped, and always the same."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweep.formats.html import Entry, grid
from sweep.inline_svg import inline
from sweep.layout import Column, Group, Number, Row, Summary, Table
from sweep.markup import without_credentials
from sweep.render import render
from sweep.report import page, read_facts, write_report
from sweep.report_cli import app
from sweep.store import TrialStore
from tests.sweep.small_report import (
    EVIL,
    SECRET,
    everything,
    keep,
    keep_evaluations,
    sweep,
)


class Page(HTMLParser):
    """What a page is made of. elements: tag and attributes, in order. text: by the id of the section it stands in."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, Mapping[str, str]]] = []
        self.words: dict[str, list[str]] = {}
        self._section, self._tag = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.elements.append((tag, found))
        self._tag = tag
        if tag == "section":
            self._section = found.get("aria-labelledby", "")
        if tag in ("td", "th", "li", "dt", "dd", "p"):
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        if self._tag not in ("style", "script"):
            self.words.setdefault(self._section, []).append(data)

    def of(self, section: str) -> str:
        """The section's text with single spaces."""
        return " ".join("".join(self.words.get(section, [])).split())

    def values(self, attribute: str) -> list[str]:
        return [found[attribute] for _, found in self.elements if attribute in found]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrialStore:
    """With everything a report can have."""
    store = TrialStore(tmp_path_factory.mktemp("report"))
    store.record(everything(store))
    return store


@pytest.fixture(scope="module")
def text(store: TrialStore) -> str:
    return page(read_facts(store.recorded("mine"), store))


def test_every_section_says_what_the_records_do(text: str) -> None:
    found = Page(text)
    top = found.of("")
    for said in ("Sweep report mine", EVIL, "18 of 21 trials done", "1970-01-01 00:00 to 02:00 UTC", "ffffffffffff"):
        assert said in top
    assert "no bound on anything" in found.of("reading")
    assert "LSTM-VAE-AVG (L = 5) †" in found.of("comparison")
    assert "only strict NLLs are ranked" in found.of("comparison")
    for title in ("Training curves, Toy", "Rate and distortion", "KL by dimension", "by the number of latent samples"):
        assert title in found.of("figures")
    assert "18 of 21 trials evaluated, with S = 10 draws" in found.of("diagnostics")
    assert "K = 50 importance draws" in found.of("diagnostics")
    searches = found.of("searches")
    assert "Toy / Standard / LSTM-VAE 3 3 2 1 0 0 4.5 min 0 21.50" in searches
    assert "update.learning_rate 0.5" in searches
    missing = found.of("missing")
    assert "Toy, Standard, LSTM-VAE: 1 of 2 seeds missing (seed 1 not begun yet)." in missing
    assert "Toy, Standard, LSTM-VAE-AVG (L = 5): 1 of 2 seeds missing (seed 1 failed)." in missing
    assert "1 trial: non-finite" in missing
    assert "sweep retry mine 07aaaaaaaaaa" in missing
    spent = "In all 27.0 min of training, 9.0 min of evaluation, 4.5 min of the trainings of searches."
    assert spent in found.of("cost")
    assert "Abacus 9000" in found.of("origin")
    assert "c0" * 32 in found.of("origin")
    assert f"the cat sat {EVIL}" in found.of("samples")
    assert "prior.json" not in text
    assert f"about: a toy of {EVIL}" in found.of("spec")


def test_what_a_user_wrote_is_text_and_nothing_else(text: str) -> None:
    tags = Counter(tag for tag, _ in Page(text).elements)
    assert tags["script"] == 1
    assert "<script>document" not in text
    assert Page(text).of("comparison").count(EVIL) >= 2  # a row, and notes


def test_the_page_needs_nothing_but_itself(text: str) -> None:
    found = Page(text)
    links = [*found.values("href"), *found.values("src"), *found.values("xlink:href")]
    assert [link for link in links if not link.startswith("#")] == ["data:,"]
    assert not re.search(r"url\((?!#)|@import|https?:", re.sub(r"https://\*\*\*@mlflow.example/x", "", text))
    (policy,) = [each["content"] for _, each in found.elements if each.get("http-equiv") == "Content-Security-Policy"]
    for rule in ("default-src 'none'", "style-src 'unsafe-inline'", "script-src 'unsafe-inline'", "img-src data:"):
        assert rule in policy


def test_ids_are_unique_and_references_lead_somewhere(text: str) -> None:
    found = Page(text)
    ids = found.values("id")
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    inner = [link[1:] for link in found.values("href") if link.startswith("#")]
    clips = re.findall(r"url\(#([^)]+)\)", text)
    assert set(inner) | set(clips) | set(found.values("aria-labelledby")) <= set(ids)
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    figures = [each for tag, each in found.elements if tag == "svg"]
    assert all(each.get("aria-hidden") == "true" or each["aria-label"] for each in figures)


def test_the_same_records_are_the_same_bytes(store: TrialStore, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-environment")
    facts = read_facts(store.recorded("mine"), store)
    mixed = replace(facts, results=dict(reversed(facts.results.items())))
    assert page(mixed) == text
    assert "of-the-environment" not in text


def test_no_password_and_no_host_is_passed_on(text: str) -> None:
    assert SECRET not in text
    assert "https://***@mlflow.example/x" in text
    assert "secret-host" not in text
    assert without_credentials("s3://key:word@host/x and a@b.example, http://h/@x") == (
        "s3://***@host/x and a@b.example, http://h/@x"
    )


def test_a_sweep_of_which_nothing_is_done(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    record = sweep()
    keep(store, record, but=range(len(record.trials)))
    found = Page(page(read_facts(record, store)))
    assert "0 of 20 trials done" in found.of("")
    assert "no seed is done (seeds 0, 1 not begun yet)" in found.of("missing")
    assert "Nothing is done yet." in found.of("cost")
    assert "There are none." in found.of("samples")
    assert {"figures", "diagnostics", "searches"} & set(found.values("id")) == set()
    assert "#figures" not in found.values("href")


def test_a_sweep_that_is_done_and_was_not_evaluated(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    record = sweep(methods=("LSTM-LM", "LSTM-VAE"))
    keep(store, record)
    found = Page(page(read_facts(record, store)))
    assert "all 8 trials done" in found.of("")
    assert "Nothing is missing" in found.of("missing")
    assert "sweep sample 00aaaaaaaaaa has a model write some" in found.of("samples")
    assert "diagnostics" not in found.values("id")
    assert "KL by dimension" not in found.of("figures")
    assert "latent samples" not in found.of("figures")  # all models have L = 1


def test_the_command_writes_page_and_tables(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    record = sweep(methods=("LSTM-LM", "LSTM-VAE"), settings=("Standard",))
    keep(store, record)
    done = CliRunner().invoke(app, ["mine", "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert done.output == f"{tmp_path}/sweeps/mine/report.html\n"
    folder = tmp_path / "sweeps" / "mine"
    assert {path.name for path in folder.iterdir()} >= {"report.html", "table.tex", "table.html"}
    before = (folder / "report.html").read_bytes()
    assert write_report(record, store) == "report.html"
    assert (folder / "report.html").read_bytes() == before
    assert write_report(record, store, paper=True) == "report.html"
    assert b"no published numbers are known for the corpus Toy" in (folder / "report.html").read_bytes()


def table() -> Table:
    columns = (Column("nll", "NLL"), Column("kl", "KL"))
    best = Summary({"nll": Number(98.44, 0.1, is_best=True), "kl": "–"}, 2, 2)
    partial = Summary({"nll": Number(101.0, is_tied=True), "kl": Number(12.0)}, 1, 3, failed=1)
    rows = (
        Row("A <b>", (best, None), "†"),
        Row("B", (partial, Summary({"nll": Number(90.0, 12.5), "kl": Number(1.0)}, source="x"))),
        Row("floor", (Summary({"nll": Number(95.0), "kl": "–"}), None), opens_block=True),
    )
    groups = (Group("Standard", columns), Group("Standard", columns, is_published=True))
    return Table("PTB", "method", groups, rows, ("a note & more",), 2)


def test_a_table_as_it_is_laid_out() -> None:
    found = grid(table())
    assert found.columns == ("NLL", "KL", "n", "NLL", "KL")
    assert found.groups == (("Standard", 3), ("Standard, published", 2))
    assert (found.firsts, found.texts, found.spreads, found.spread) == ({3}, set(), {0, 3}, 6)
    assert [[each.label for each in block.lines] for block in found.blocks] == [["A <b> †", "B"], ["floor"]]
    first, second = found.blocks[0].lines
    assert first.entries[:3] == (Entry("98.4", "0.1", value=98.44, is_best=True), Entry("–"), Entry("2", value=2))
    assert second.entries[:3] == (
        Entry("101.0", mark="≈", value=101.0),
        Entry("12.0", value=12.0),
        Entry("1/3, 1 failed", value=1),
    )
    assert found.blocks[1].lines[0].entries[2] == Entry("")


def test_a_table_as_html() -> None:
    text = render([table()], "html")
    found = Page(text)
    scopes = Counter(each["scope"] for tag, each in found.elements if tag == "th")
    assert scopes == {"colgroup": 2, "col": 6, "row": 3}
    assert found.values("data-value") == ["98.44", "2", "101.0", "12.0", "1", "90.0", "1.0", "95.0"]
    assert '<strong>98.4</strong><span class="spread"> ± 0.1</span>' in text
    assert '101.0<span class="spread"> ≈</span>' in text
    assert "A &lt;b&gt; †" in text
    assert "a note &amp; more" in text
    assert text.startswith("<!doctype html>")
    assert render([table()], "html") == text


def test_a_figure_takes_the_pages_colours() -> None:
    svg = (
        '<?xml version="1.0"?>\n<svg xmlns:xlink="x" width="72pt" height="36pt" viewBox="0 0 72 36" version="1.1">'
        '<metadata><a id="m"/></metadata><defs><style type="text/css">*{a: b}</style></defs><!-- the <user> - -> -->'
        '<g id="g" clip-path="url(#c)"><use xlink:href="#g" style="fill: #0072B2; stroke: #123456"/></g></svg>'
    )
    found = inline(svg, "f1", 'a "b" <c>', {"#0072b2": "var(--blue)"})
    assert found.startswith(
        '<svg role="img" aria-label="a &#34;b&#34; &lt;c&gt;" viewBox="0 0 72 36" width="96" height="48"'
    )
    assert '<g id="f1-g" clip-path="url(#f1-c)"><use href="#f1-g" style="fill: var(--blue); stroke: #123456"/>' in found
    assert not re.search("user|metadata|<style", found)
    assert 'aria-hidden="true"' in inline(svg, "f2", "", {})


def test_no_colour_of_a_figure_is_left_as_it_was_drawn(text: str) -> None:
    figures = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", figures)) == set()
    assert "var(--series-1)" in figures
    assert "currentColor" in figures


@pytest.fixture
def evaluated_store(tmp_path: Path) -> TrialStore:
    store = TrialStore(tmp_path)
    record = sweep(methods=("LSTM-LM", "LSTM-VAE"))
    keep(store, record)
    keep_evaluations(store, record)
    return store


def test_a_damaged_record_is_named_and_no_page_is_written(evaluated_store: TrialStore) -> None:
    record = evaluated_store.recorded("mine")
    evaluated_store.trial(record.trials[0].key).publish("result.json", b"{}")
    with pytest.raises(ValueError, match=r"result\.json is damaged"):
        write_report(record, evaluated_store)
    assert "report.html" not in evaluated_store.sweep("mine").names()
