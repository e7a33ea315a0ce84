"""The page of a benchmark in a real browser, headless; as test_report_browser.py."""

from __future__ import annotations

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
from inna.experiments.benchmark.judged import judge
from inna.experiments.benchmark.read import open_benchmark
from inna.experiments.benchmark.report.page import build_page

RESULTS = Path(__file__).parents[3] / "results" / "benchmark"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmark") / "benchmark.html"
    path.write_text(build_page(judge(open_benchmark(RESULTS), resamples=50)), encoding="utf-8")
    return path


@pytest.fixture
def visit(browser: Any, page: Path) -> Iterator[Any]:
    with visits(browser) as go:

        def benchmark(size: tuple[int, int] = SIZES[0], scheme: str = "light") -> Visit:
            seen: Visit = go(page.as_uri(), size, scheme)
            drawn(seen, scheme)
            return seen

        yield benchmark


@each_look
def test_the_page_has_no_errors_fits_and_loads_nothing(
    visit: Any, page: Path, size: tuple[int, int], scheme: str
) -> None:
    seen = visit(size, scheme)
    for details in seen.page.locator("details").all():
        details.evaluate("each => each.open = true")
    settle(seen)
    check_quiet_and_fitting(seen, page.as_uri(), size, scheme)
    # Two figures of profiles with three panels each, and two of mean ratios.
    assert seen.count(".chart") >= 8


@one_look
def test_the_page_has_no_serious_accessibility_fault(visit: Any, size: tuple[int, int], scheme: str) -> None:
    seen = visit(size, scheme)
    for details in seen.page.locator("details").all():
        details.evaluate("each => each.open = true")
    settle(seen)
    assert accessibility_faults(seen) == []


def test_the_policy_is_in_force(visit: Any) -> None:
    check_policy(visit())


def test_the_legend_hides_an_optimizer_in_every_chart(visit: Any) -> None:
    seen = visit()
    charts = seen.page.locator(".chart").count()
    before = [seen.count(f".chart >> nth={i} >> path") for i in range(charts)]
    seen.page.locator('.legend button[data-contender="Adam"]').click()
    settle(seen)
    after = [seen.count(f".chart >> nth={i} >> path") for i in range(charts)]
    assert all(there > left for there, left in zip(before, after, strict=True))
    seen.page.locator("#show-all").click()
    settle(seen)
    assert [seen.count(f".chart >> nth={i} >> path") for i in range(charts)] == before
    assert seen.said == []
