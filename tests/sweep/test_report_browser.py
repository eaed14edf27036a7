"""The report in a real browser: on a desk and on a phone, by day and by night, by mouse, by keys, and on paper."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from sweep.report import write_report
from sweep.run import write_tables
from sweep.store import TrialStore
from tests.sweep.small_report import EVIL, everything

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
axe = pytest.importorskip("axe_playwright_python", reason="axe is not installed: pip install -e '.[dev]'")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 812}
SCREENS = [
    pytest.param(size, scheme, id=f"{size['width']}-{scheme}") for size in (DESK, PHONE) for scheme in ("light", "dark")
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path: apt-get install chromium"),
]


class Seen:
    """A page as it was opened, with what it asked for and complained of."""

    def __init__(self, page: Any, url: str):
        self.page, self.url = page, url
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(url)

    def column(self, place: int) -> list[str]:
        """Texts of a column of the comparison, without the row of the source."""
        cells = self.comparison.locator("tbody").first.locator(f"tr > :nth-child({place + 1})")
        return [text.strip() for text in cells.all_inner_texts()]

    @property
    def comparison(self) -> Any:
        return self.page.locator("table").first

    def heading(self, place: int) -> Any:
        return self.comparison.locator("tr.columns th").nth(place)

    def check(self) -> None:
        """It asked for nothing but itself, complained of nothing, and fits the screen."""
        assert self.requests == [self.url]
        assert self.complaints == []
        widths = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1]


Open = Callable[..., Seen]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the sweep in its store, with the page and the tables written."""
    root = tmp_path_factory.mktemp("report")
    store = TrialStore(root)
    record = everything(store)
    store.record(record)
    write_tables(record, store)
    write_report(record, store)
    return root / "sweeps" / "mine"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def show(folder: Path, browser: Any) -> Iterator[Open]:
    """Opens the page on a screen of its own."""
    contexts = []

    def opened(
        size: dict[str, int] = DESK, scheme: str = "light", file: str = "report.html", scripts: bool = True
    ) -> Seen:
        context = browser.new_context(viewport=size, color_scheme=scheme, java_script_enabled=scripts)
        contexts.append(context)
        return Seen(context.new_page(), (folder / file).as_uri())

    yield opened
    for context in contexts:
        context.close()


@contextmanager
def no_serious_finding(page: Any) -> Iterator[None]:
    """Of axe-core's, once with what is folded open."""
    yield
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    # Evaluated, since the page's own policy lets no script in.
    page.evaluate((resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize(("size", "scheme"), SCREENS)
@pytest.mark.parametrize("file", ["report.html", "table.html"])
def test_a_page_on_every_screen(show: Open, size: dict[str, int], scheme: str, file: str) -> None:
    seen = show(size, scheme, file)
    with no_serious_finding(seen.page):
        seen.check()
    seen.check()
    assert "taken" not in seen.page.title()
    ink, paper = seen.page.evaluate(
        "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
    )
    is_dark = sum(map(int, paper[4:-1].split(","))) < sum(map(int, ink[4:-1].split(",")))
    assert is_dark == (scheme == "dark")


def test_figures_take_the_colours_of_the_page(show: Open) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        page = show(DESK, scheme).page
        ink = page.evaluate("getComputedStyle(document.body).color")
        assert page.evaluate("getComputedStyle(document.querySelector('figure svg')).fill") == ink
        lines = "[...document.querySelectorAll('figure svg path')].map((path) => getComputedStyle(path).stroke)"
        colours[scheme] = set(page.evaluate(lines)) - {"none", ink}
    assert len(colours["light"]) >= 4
    assert colours["light"].isdisjoint(colours["dark"])


def test_columns_are_sorted_by_mouse(show: Open) -> None:
    seen = show()
    order = seen.column(0)
    heading, button = seen.heading(1), seen.heading(1).get_by_role("button")
    assert heading.get_attribute("aria-sort") == "none"
    button.click()
    assert heading.get_attribute("aria-sort") == "ascending"
    values = [float(text.split()[0]) for text in seen.column(1)]
    assert values == sorted(values)
    assert seen.page.get_by_role("status").inner_text() == "Toy: sorted by NLL, ascending"
    assert seen.comparison.locator("tbody").last.inner_text().startswith("entropy of the source")
    button.click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text.split()[0]) for text in seen.column(1)] == sorted(values, reverse=True)
    other = seen.heading(2)
    other.get_by_role("button").click()
    assert (heading.get_attribute("aria-sort"), other.get_attribute("aria-sort")) == ("none", "ascending")
    kls = seen.column(2)
    assert kls[-1] == "–"  # what has no number comes last, up and down
    other.get_by_role("button").click()
    assert seen.column(2)[-1] == "–"
    other.get_by_role("button").click()
    assert seen.column(0) == order
    seen.check()


def test_columns_are_sorted_by_keys(show: Open) -> None:
    seen = show()
    order = seen.column(0)
    seen.heading(0).get_by_role("button").focus()
    seen.page.keyboard.press("Enter")
    assert seen.heading(0).get_attribute("aria-sort") == "ascending"
    assert seen.column(0) != order
    assert seen.column(0)[0] == EVIL
    seen.page.keyboard.press("Space")
    assert seen.heading(0).get_attribute("aria-sort") == "descending"
    seen.page.keyboard.press("Tab")
    seen.page.keyboard.press("Space")
    assert seen.heading(1).get_attribute("aria-sort") == "ascending"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert seen.page.evaluate(outline) == "solid"


def test_the_first_key_skips_to_the_report(show: Open) -> None:
    seen = show()
    seen.page.keyboard.press("Tab")
    skip = seen.page.locator(".skip")
    assert skip.evaluate("(link) => link === document.activeElement && link.getBoundingClientRect().top >= 0")
    seen.page.keyboard.press("Enter")
    assert seen.page.evaluate("document.activeElement.id") == "main"
    for link in seen.page.locator("nav a").all():
        link.click()
        assert seen.page.locator(str(link.get_attribute("href"))).is_visible()
    assert {url.partition("#")[0] for url in seen.requests} == {seen.url}


def test_wide_things_scroll_by_themselves_on_a_phone(show: Open) -> None:
    seen = show(PHONE)
    scroll = seen.page.locator(".scroll").first
    assert scroll.evaluate("(each) => each.scrollWidth > each.clientWidth")
    scroll.focus()
    seen.page.keyboard.press("ArrowRight")
    frame = "new Promise(requestAnimationFrame)"  # it glides
    scroll.evaluate(f"async (each) => {{ for (let n = 0; n < 300 && !each.scrollLeft; n++) await {frame}; }}")
    assert scroll.evaluate("(each) => each.scrollLeft") > 0
    label, box = scroll.locator("tbody th").first.bounding_box(), scroll.bounding_box()
    assert label["x"] == pytest.approx(box["x"], abs=1)  # the methods stay in sight
    for panel in seen.page.locator(".panels svg").all():
        assert panel.bounding_box()["width"] > 300


def test_on_paper(show: Open) -> None:
    seen = show(scheme="dark")
    seen.page.emulate_media(media="print")
    assert not seen.page.locator("nav").is_visible()
    assert seen.page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert seen.page.pdf().startswith(b"%PDF")
    spec = seen.page.locator("#spec ~ details")
    assert spec.get_attribute("open") is None
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert spec.get_attribute("open") is not None
    seen.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert spec.get_attribute("open") is None
    seen.check()


def test_without_scripts_it_says_the_same(show: Open) -> None:
    seen = show(scripts=False)
    assert "LSTM-VAE-AVG (L = 5)" in seen.comparison.inner_text()
    assert seen.page.locator("th button").count() == 0
    assert not seen.page.locator(".hint").is_visible()
