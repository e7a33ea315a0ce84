"""The verdict in docs/benchmark.md is that of the committed rows."""

from __future__ import annotations

from pathlib import Path

from write_benchmark import FIVE_SEEDS, HYPOTHESES, PAGE, with_five_seeds, with_hypotheses, with_verdict

from inna.experiments.benchmark.judged import judge
from inna.experiments.benchmark.read import open_benchmark

RESULTS = Path(__file__).parents[2] / "results" / "benchmark"


def test_the_page_has_the_verdict_of_the_rows():
    page = PAGE.read_text(encoding="utf-8")
    assert with_verdict(page, judge(open_benchmark(RESULTS))) == page


def test_the_page_has_the_losses_of_the_experiments():
    page = PAGE.read_text(encoding="utf-8")
    assert with_hypotheses(page, HYPOTHESES) == page
    for path in HYPOTHESES.iterdir():
        assert page.count(f"<!-- rows of {path.name} -->") == page.count(f"<!-- end of {path.name} -->") == 1


def test_the_page_has_the_verdict_of_five_seeds():
    page = PAGE.read_text(encoding="utf-8")
    assert with_five_seeds(page, judge(open_benchmark(FIVE_SEEDS))) == page
