"""Pages in a real browser, headless: how the tests open them and listen to what they say and ask for."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from scripts import ROOT, load_script
from waiting import PATIENCE

SCREENSHOTS = ROOT / "docs" / "screenshots.py"
CALL = 150.0  # seconds for a call of the browser; Playwright's half minute is too short on a busy machine
SIZES = [(1280, 800), (390, 844)]
SCHEMES = ["light", "dark"]
# Two of the four stand for all in a short run.
each_look = pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(SIZES[0], "light", id="1280-light"),
        pytest.param(SIZES[1], "dark", id="390-dark"),
        pytest.param(SIZES[0], "dark", id="1280-dark", marks=pytest.mark.slow),
        pytest.param(SIZES[1], "light", id="390-light", marks=pytest.mark.slow),
    ],
)
# Pages whose accessibility takes long to judge are judged in one.
one_look = pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(size, scheme, id=f"{size[0]}-{scheme}", marks=() if look == 0 else pytest.mark.slow)
        for look, (size, scheme) in enumerate(itertools.product(SIZES[::-1], SCHEMES[::-1]))
    ],
)


def load_screenshots() -> Any:
    return load_script("docs/screenshots.py")


@contextmanager
def launched() -> Iterator[Any]:
    """A headless Chromium; the test is skipped, or fails where INNA_REQUIRE_BROWSER=1, if there is none."""
    screenshots = load_screenshots()
    executable = screenshots.find_chromium()
    reason = "" if executable else "no Chromium on the PATH"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        reason = "playwright is not installed"
    if reason:
        if os.environ.get("INNA_REQUIRE_BROWSER") == "1":
            pytest.fail(f"INNA_REQUIRE_BROWSER=1, but {reason}")
        pytest.skip(reason)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=screenshots.FLAGS)
        yield running
        running.close()


@dataclass
class Visit:
    """An open page, with everything it said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def count(self, selector: str) -> int:
        found: int = self.page.locator(selector).count()
        return found

    def column(self, position: int) -> list[str]:
        texts: list[str] = self.page.eval_on_selector_all(
            "table.results tbody tr", "(lines, i) => lines.map(line => line.children[i].dataset.value)", position
        )
        return texts


@contextmanager
def visits(browser: Any) -> Iterator[Any]:
    """``go(address, size, scheme)``, which opens a page and listens to it; all are closed in the end."""
    contexts = []

    def go(address: str, size: tuple[int, int] = SIZES[0], scheme: str = "light", **settings: Any) -> Visit:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, **settings)
        context.set_default_timeout(1000 * CALL)
        contexts.append(context)
        seen = Visit(context.new_page())
        seen.page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
        seen.page.on("pageerror", lambda error: seen.said.append(f"error: {error}"))
        seen.page.on("dialog", lambda dialog: seen.said.append(f"dialog: {dialog.message}"))
        seen.page.on("request", lambda request: seen.asked.append(request.url))
        seen.page.goto(address)
        return seen

    yield go
    for context in contexts:
        context.close()


def drawn(seen: Visit, scheme: str) -> None:
    seen.page.wait_for_selector(f"html[data-drawn={scheme}]", timeout=1000 * PATIENCE)


def settle(seen: Visit) -> None:
    """Wait until nothing of the page has changed for twenty frames."""
    seen.page.evaluate(
        """new Promise((done) => { let quiet = 0;
        const observer = new MutationObserver(() => { quiet = 0; });
        observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
        const look = () => { quiet += 1; if (quiet > 20) { observer.disconnect(); done(); }
        else requestAnimationFrame(look); }; look(); })"""
    )


def until(seen: Visit, condition: str, seconds: float = PATIENCE) -> None:
    """Wait for a condition of the page, looked at once a frame. Playwright's own wait_for_function evaluates text
    inside the page from its second look on, which the pages' policy refuses: it works only if the first look succeeds.
    """
    held = seen.page.evaluate(
        f"""limit => new Promise((done) => {{ const begun = performance.now(); const look = () => {{
        if ({condition}) done(true); else if (performance.now() - begun > limit) done(false);
        else requestAnimationFrame(look); }}; look(); }})""",
        1000 * seconds,
    )
    assert held, f"after {seconds} seconds not yet: {condition}"


def scrolls_sideways(seen: Visit) -> bool:
    found: bool = seen.page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    return found


def check_quiet_and_fitting(seen: Visit, address: str, size: tuple[int, int], scheme: str) -> None:
    """The page said nothing, asked for itself alone and fits ``size``; its charts are drawn, in the theme's colours."""
    assert seen.said == []
    assert seen.asked == [address]
    assert not scrolls_sideways(seen)
    assert seen.count(".chart") == seen.count(".chart svg.marks")
    widths = seen.page.eval_on_selector_all(".chart svg", "all => all.map(each => each.getBoundingClientRect().width)")
    assert all(0.7 * min(size[0] - 32, 520) < width <= size[0] for width in widths)
    background = seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 24, 29)")


def accessibility_faults(seen: Visit) -> list[str]:
    """What axe-core calls serious or critical on the page: the rule and the element of each."""
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(seen.page).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


INTRUSIONS = """
    document.body.append(Object.assign(document.createElement("script"), { textContent: "window.inserted = 1" }));
    document.body.append(Object.assign(document.createElement("style"), { textContent: "body { opacity: 0.5 }" }));
    document.body.setAttribute("onclick", "window.clicked = 1");
    document.body.click();
    setTimeout("window.evaluated = 1", 0);
"""


def check_policy(seen: Visit) -> None:
    """What the page's policy forbids does nothing."""
    seen.page.evaluate(INTRUSIONS)
    settle(seen)
    assert seen.page.evaluate("[window.inserted, window.clicked, window.evaluated]") == [None, None, None]
    assert seen.page.evaluate("getComputedStyle(document.body).opacity") == "1"
    assert seen.page.evaluate("fetch('data:,x').then(() => 'fetched', () => 'refused')") == "refused"
