"""The built site: links lead somewhere, names are in the reference, and a reader can use it, also on a telephone.

`make docs` builds it and runs these with INNA_REQUIRE_SITE=1; where it has not been built they are skipped.
"""

from __future__ import annotations

import functools
import html
import os
import re
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, unquote, urlsplit

import pytest

import inna
from browsing import SCHEMES, SIZES, Visit, accessibility_faults, each_look, scrolls_sideways, settle, visits
from waiting import PATIENCE

DOCS = Path(__file__).parents[2] / "docs"
SITE = DOCS / "_build" / "html"
MISSING = "the site has not been built; make docs builds it"
# What Sphinx writes beside the pages of docs/.
OF_SPHINX = {"genindex.html", "py-modindex.html", "search.html"}


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    if not (SITE / "index.html").is_file():
        if os.environ.get("INNA_REQUIRE_SITE") == "1":
            pytest.fail(f"INNA_REQUIRE_SITE=1, but {MISSING}")
        pytest.skip(MISSING)


class Page(HTMLParser):
    """The links, anchors and classes of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := attributes.get(name))}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"] or "")
        elif tag in ("img", "script", "iframe", "source") and attributes.get("src"):
            self.loaded.append(attributes["src"] or "")
        elif tag == "link" and attributes.get("rel") in ("stylesheet", "icon"):
            self.loaded.append(attributes["href"] or "")


@functools.cache
def read(path: Path) -> Page:
    return Page(path)


def pages() -> list[Path]:
    """Every page but the stand-alone ones, which have tests of their own."""
    alone = {path.name for path in (DOCS / "_generated" / "alone").glob("*.html")}
    return [path for path in sorted(SITE.rglob("*.html")) if path.name not in alone]


def test_every_page_of_the_sources_is_there() -> None:
    sources = {
        path.relative_to(DOCS).with_suffix(".html") for end in ("md", "ipynb") for path in DOCS.rglob(f"*.{end}")
    }
    sources = {path for path in sources if not path.parts[0].startswith("_") and ".ipynb_checkpoints" not in path.parts}
    assert len(sources) > 20
    assert sources <= {path.relative_to(SITE) for path in pages()}


def test_every_link_inside_leads_somewhere() -> None:
    broken = []
    for page in pages():
        for link in [*read(page).links, *read(page).loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                broken.append(f"{page.relative_to(SITE)}: {link}")
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in read(target).ids:
                broken.append(f"{page.relative_to(SITE)}: no anchor {link}")
    assert broken == []


def test_the_reference_begins_with_summaries_and_shows_real_defaults() -> None:
    modules = re.findall(
        r"automodule:: (\S+)", "".join(path.read_text("utf-8") for path in (DOCS / "api").glob("*.md"))
    )
    assert len(modules) > 15
    text = "".join(path.read_text("utf-8") for path in (SITE / "api").glob("*.html"))
    tables = "".join(re.findall(r'<table class="[^"]*summary[^"]*".*?</table>', text, re.DOTALL))
    for module in modules:
        assert f"#{module}." in tables, module
    signatures = re.findall(r'<dt class="sig.*?</dt>', text, re.DOTALL)
    called = [each for each in signatures if "sig-paren" in each]
    assert len(called) > 100
    assert not [each for each in called if re.search(r"&lt;(factory|built-in|function|object)", each)]


def test_code_is_at_most_88_columns_wide() -> None:
    wide = []
    for page in pages():
        for block in re.findall(r'<div class="highlight"><pre>(.*?)</pre>', page.read_text("utf-8"), re.DOTALL):
            lines = html.unescape(re.sub(r"<[^>]+>", "", block)).splitlines()
            wide += [(page.name, line) for line in lines if len(line.rstrip()) > 88]
    assert wide == []


def test_every_page_shows_the_version() -> None:
    for page in pages():
        assert f"inna {inna.__version__}" in page.read_text("utf-8"), page


def test_nothing_is_loaded_from_elsewhere() -> None:
    assert [(page.name, link) for page in pages() for link in read(page).loaded if "//" in link] == []


def test_every_public_name_has_its_entry_and_a_link_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from sphinx.util.inventory import InventoryFile

    monkeypatch.setattr(sys, "path", [str(DOCS / "_extensions"), *sys.path])
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    from public_names import public_names

    with (SITE / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, path: path)
    entries = {name for kind, found in inventory.items() if kind.startswith("py:") for name in found}
    names = public_names()
    assert len(names) > 80
    # A re-exported name stands where it is exported.
    assert sorted(set(names) - entries) == []
    index = set(read(SITE / "genindex.html").links)
    assert [name for name in names if not any(link.endswith(f"#{name}") for link in index)] == []
    # Names in the text lead there too.
    guide = read(SITE / "theory.html").links
    assert any(link.endswith("#inna.theory.monitor.EnergyMonitor") for link in guide)
    assert any(link.endswith("#inna.theory.curvature.suggest_lr") for link in read(SITE / "choosing.html").links)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The site on the loopback interface: its search fetches pages, which browsers refuse from files."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def go(browser: Any, address: str) -> Iterator[Any]:
    with visits(browser) as opened:

        def at(page: str, size: tuple[int, int] = SIZES[0], scheme: str = "light", **settings: Any) -> Visit:
            seen: Visit = opened(f"{address}/{page}", size, scheme, **settings)
            return seen

        yield at


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_page_scrolls_sideways_complains_or_asks_elsewhere(go: Any, address: str, scheme: str) -> None:
    wide = []
    seen = go("index.html", SIZES[1], scheme)
    for page in pages():
        seen.page.goto(f"{address}/{page.relative_to(SITE)}")
        if scrolls_sideways(seen):
            wide.append(str(page.relative_to(SITE)))
    assert wide == []
    assert seen.said == []
    assert [each for each in seen.asked if not each.startswith((address, "data:"))] == []


# Every kind of page: the first, prose with formulas, code, tables, signatures, a notebook, pictures, the search.
KINDS = (
    "index",
    "theory",
    "using-inna-in-jax",
    "comparisons",
    "api/keras",
    "notebooks/first-steps",
    "gallery",
    "search",
)


@each_look
def test_no_kind_of_page_has_a_serious_accessibility_fault(go: Any, size: tuple[int, int], scheme: str) -> None:
    faults = {}
    for kind in KINDS:
        seen = go(f"{kind}.html", size, scheme)
        settle(seen)
        if found := accessibility_faults(seen):
            faults[kind] = found
    assert faults == {}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_page_at_all_has_one_nor_scrolls_sideways(go: Any, address: str, size: tuple[int, int], scheme: str) -> None:
    seen = go("index.html", size, scheme)
    faults = {}
    for page in pages():
        name = str(page.relative_to(SITE))
        seen.page.goto(f"{address}/{name}")
        settle(seen)
        found = accessibility_faults(seen) + (["scrolls sideways"] if scrolls_sideways(seen) else [])
        if found:
            faults[name] = found
    assert faults == {}
    assert seen.said == []


def test_what_scrolls_in_a_box_is_reached_by_keyboard(go: Any) -> None:
    seen = go("comparisons.html", SIZES[1])
    settle(seen)
    boxes = seen.page.evaluate(
        """[...document.querySelectorAll("article pre, article table")].map(
        box => [box.scrollWidth > box.clientWidth, box.tabIndex === 0])"""
    )
    assert any(wide for wide, _ in boxes)
    assert [box for box in boxes if box[0] and not box[1]] == []


def test_the_first_screen_says_what_how_ten_lines_and_a_picture(go: Any) -> None:
    seen = go("index.html")
    bottoms = seen.page.evaluate(
        """[...document.querySelectorAll(".first .words p, .first .words pre, .first img")]
        .map(each => each.getBoundingClientRect()).filter(({ height }) => height > 0).map(({ bottom }) => bottom)"""
    )
    assert len(bottoms) >= 4
    assert max(bottoms) <= SIZES[0][1]
    words = seen.page.locator(".first").inner_text()
    assert "Newton's second law" in words or "Newton’s second law" in words
    assert "pip install" in words
    assert "INNA(model.parameters()" in words


def test_the_search_finds(go: Any) -> None:
    seen = go("search.html?q=suggest_lr")
    results = seen.page.locator("#search-results ul.search li a")
    results.first.wait_for(timeout=1000 * PATIENCE)
    found = results.evaluate_all(HREFS)
    assert any("inna.theory.curvature.suggest_lr" in link for link in found)
    assert any(link.startswith(("theory.html", "choosing.html")) for link in found)
    seen = go("index.html")
    seen.page.locator(".sidebar-search").fill("heavy ball")
    seen.page.keyboard.press("Enter")
    seen.page.wait_for_url("**/search.html?q=heavy+ball*")
    seen.page.locator("#search-results ul.search li a").first.wait_for(timeout=1000 * PATIENCE)


HREFS = "all => all.map(each => each.getAttribute('href'))"


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("learning rate", "choosing.html"),
        ("lr finder", "using-inna-in-pytorch.html"),
        ("install", "install.html"),
        ("cheat sheet", "cheat-sheet.html"),
    ],
)
def test_the_search_finds_what_users_look_for(go: Any, words: str, page: str) -> None:
    seen = go(f"search.html?q={quote_plus(words)}")
    seen.page.locator(f"#search-results a[href^='{page}']").first.wait_for(timeout=1000 * PATIENCE)
    results = seen.page.locator("#search-results ul.search li > a")
    found = [each.partition("#")[0].partition("?")[0] for each in results.evaluate_all(HREFS)]
    # Near the top, of pages: several results may be sections of one.
    assert list(dict.fromkeys(found)).index(page) < 5


def test_code_can_be_copied(go: Any, address: str) -> None:
    seen = go("theory.html")
    seen.page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    block = seen.page.locator("div.highlight", has_text="from inna.theory.flow import solve").first
    block.hover()
    block.locator("button.copybtn").click()
    settle(seen)
    copied = seen.page.evaluate("navigator.clipboard.readText()")
    # Without the prompts and what is printed.
    assert copied.startswith("from inna.theory.flow import solve\n")
    assert ">>>" not in copied


def test_the_interactive_page_is_inside(go: Any) -> None:
    seen = go("play.html")
    frame = seen.page.frame_locator("iframe.play")
    frame.locator("html[data-done]").wait_for(timeout=1000 * PATIENCE)
    assert frame.locator("#standing tr").count() == 1
    frame.locator('[data-lesson="1"]').click()
    frame.locator("#standing tr").nth(1).wait_for(timeout=1000 * PATIENCE)
    assert seen.said == []


def test_formulas_are_drawn_without_a_script(go: Any) -> None:
    seen = go("algorithm.html")
    sizes = seen.page.eval_on_selector_all("math", "all => all.map(each => each.getBoundingClientRect().width)")
    assert len(sizes) > 50
    assert min(sizes) > 3
    assert [link for link in read(SITE / "algorithm.html").loaded if "mathjax" in link.lower()] == []
