"""The verdict in docs/benchmark.md is that of the committed rows."""

from __future__ import annotations

from pathlib import Path

from write_benchmark import PAGE, with_verdict

from inna.experiments.benchmark.judged import judge
from inna.experiments.benchmark.read import open_benchmark

RESULTS = Path(__file__).parents[2] / "results" / "benchmark"


def test_the_page_has_the_verdict_of_the_rows():
    page = PAGE.read_text(encoding="utf-8")
    assert with_verdict(page, judge(open_benchmark(RESULTS))) == page
