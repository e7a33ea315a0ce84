"""The page of a reproduction in a real browser, headless; as test_report_browser.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsing import (
    SIZES,
    Visit,
    accessibility_faults,
    check_policy,
    check_quiet_and_fitting,
    drawn,
    each_look,
    one_look,
    settle,
    visits,
)
from inna.paper.descents import write_descents
from inna.paper.page import write_reproduction
from protocol_rows import FINE, descents, rows_of, study_of
from synthetic_study import save


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = study_of()
    folder = save(tmp_path_factory.mktemp("mnist"), study, rows_of(study, diverging={("SGD", 3): 7}))
    write_descents(folder, descents())
    return write_reproduction(folder)


@pytest.fixture
def visit(browser: Any, page: Path) -> Iterator[Any]:
    with visits(browser) as go:

        def reproduction(size: tuple[int, int] = SIZES[0], scheme: str = "light") -> Visit:
            seen: Visit = go(page.as_uri(), size, scheme)
            drawn(seen, scheme)
            return seen

        yield reproduction


@each_look
def test_the_page_has_no_errors_fits_and_loads_nothing(
    visit: Any, page: Path, size: tuple[int, int], scheme: str
) -> None:
    seen = visit(size, scheme)
    for details in seen.page.locator("details").all():
        details.evaluate("each => each.open = true")
    settle(seen)
    check_quiet_and_fitting(seen, page.as_uri(), size, scheme)
    # Two figures of four panels, and five of two.
    assert seen.count(".chart") == 18


@one_look
def test_the_page_has_no_serious_accessibility_fault(visit: Any, size: tuple[int, int], scheme: str) -> None:
    seen = visit(size, scheme)
    for details in seen.page.locator("details").all():
        details.evaluate("each => each.open = true")
    settle(seen)
    assert accessibility_faults(seen) == []


def test_the_policy_is_in_force(visit: Any) -> None:
    check_policy(visit())


def test_a_verdict_opens_to_its_numbers(visit: Any) -> None:
    seen = visit()
    verdict = seen.page.locator("#claim-adam-trains-lower-epoch-20")
    table = verdict.locator("table")
    assert not table.is_visible()
    verdict.locator("summary").click()
    assert table.is_visible()
    assert "−2.000 [−1.987, −2.013]" in table.inner_text()
    assert verdict.locator(".badge").inner_text() == "holds"


def test_the_legend_hides_our_curves_and_the_papers_together(visit: Any) -> None:
    seen = visit()
    lines = "#chart-figure-3-0 .mark-line path"
    assert seen.count(lines) == 8
    seen.page.locator('.legend button[data-contender="Adam"]').click()
    settle(seen)
    assert seen.count(lines) == 6
    # Figure 1's descents are nobody's in the legend, and stay.
    assert seen.count("#chart-figure-1-recovered-3 .mark-line path") == 3
    assert seen.count(".legend button[data-contender]") == len(FINE)
    seen.page.locator("#show-all").click()
    settle(seen)
    assert seen.count(lines) == 8
    assert seen.said == []


def test_the_download_contains_results_and_descents(visit: Any, tmp_path: Path) -> None:
    seen = visit()
    with seen.page.expect_download() as waiting:
        seen.page.locator("#download").click()
    waiting.value.save_as(tmp_path / "rows.json")
    held = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert (len(held["rows"]), len(held["figure1"])) == (65, 6)
    assert seen.said == []
