"""The page in a real browser, headless: what it shows, what it does, and that it asks for nothing.

Without Chromium on the PATH (or at $CHROMIUM) these tests are skipped; where INNA_REQUIRE_BROWSER=1 they fail.
"""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsing import (
    SCHEMES,
    SCREENSHOTS,
    SIZES,
    Visit,
    accessibility_faults,
    check_policy,
    check_quiet_and_fitting,
    drawn,
    each_look,
    load_screenshots,
    scrolls_sideways,
    settle,
    visits,
)
from inna.experiments.report.results_table import comparisons
from inna.experiments.report.write import write_report
from inna.experiments.rows.documents import row_document
from inna.experiments.statistics.summary import summarize
from synthetic_study import HOSTILE, classification_study, hostile_study, regression_study, rows_of, save
from waiting import wait_until


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    paths = {}
    for study in (classification_study(), regression_study(), hostile_study()):
        name = {"digits": "digits", "diabetes": "regression"}.get(study.dataset, "hostile")
        rows = rows_of(study, diverging_final="INNA (α=0.5, β=1)")
        paths[name] = write_report(save(tmp_path_factory.mktemp(name), study, rows))
    return paths


@pytest.fixture
def visit(browser: Any, reports: dict[str, Path]) -> Iterator[Any]:
    with visits(browser) as go:

        def report(name: str = "digits", size: tuple[int, int] = SIZES[0], scheme: str = "light") -> Visit:
            seen: Visit = go(reports[name].as_uri(), size, scheme)
            drawn(seen, scheme)
            return seen

        yield report


@each_look
@pytest.mark.parametrize("name", ["digits", "regression", "hostile"])
def test_the_page_has_no_errors_fits_and_loads_nothing(
    visit: Any, reports: dict[str, Path], name: str, size: tuple[int, int], scheme: str
) -> None:
    seen = visit(name, size, scheme)
    check_quiet_and_fitting(seen, reports[name].as_uri(), size, scheme)
    assert seen.count(".chart") > 5


def test_the_policy_is_in_force(visit: Any) -> None:
    check_policy(visit())


LINES = "#chart-curves-training-loss-0 .mark-line path"


def test_a_click_on_the_legend_takes_curves_away_everywhere_and_brings_them_back(visit: Any) -> None:
    seen = visit()
    study = classification_study()
    points = "#chart-tuning-0 .mark-symbol path"
    before, symbols = seen.count(LINES), seen.count(points)
    assert before == len(study.contenders)
    names = "#chart-curves-training-loss-0 .mark-text text"
    assert {each.label for each in study.contenders} <= set(seen.page.locator(names).all_text_contents())
    adam = seen.page.locator('.legend button[data-contender="Adam"]')
    show_all = seen.page.locator("#show-all")
    assert not show_all.is_visible()
    adam.click()
    settle(seen)
    assert adam.get_attribute("aria-pressed") == "false"
    assert seen.count(LINES) == before - 1
    assert seen.count(points) < symbols
    adam.click()
    settle(seen)
    assert seen.count(LINES) == before
    adam.dblclick()
    settle(seen)
    assert seen.count(LINES) == 1
    show_all.click()
    settle(seen)
    assert seen.count(LINES) == before
    assert adam.get_attribute("aria-pressed") == "true"
    assert seen.said == []


def test_the_legend_works_with_the_keyboard_and_lets_one_stand_out(visit: Any) -> None:
    seen = visit()
    seen.page.locator('.legend button[data-contender="SGD"]').focus()
    settle(seen)
    opacities = seen.page.eval_on_selector_all(LINES, "all => all.map(each => each.getAttribute('opacity') ?? '1')")
    assert sorted(set(opacities)) == ["0.12", "1"]
    assert opacities.count("1") == 1
    seen.page.keyboard.press("Space")
    settle(seen)
    assert seen.count(LINES) == len(classification_study().contenders) - 1


def test_hovering_over_a_curve_shows_its_numbers(visit: Any) -> None:
    seen = visit("hostile")
    chart = seen.page.locator("#chart-curves-training-loss-0 svg")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    tooltip = seen.page.locator("#vg-tooltip-element.visible")

    def hovered() -> bool:
        for share in (0.49, 0.5):  # the chart may not listen yet
            seen.page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])
        return bool(tooltip.is_visible())

    wait_until(hovered)
    assert "training loss, mean" in tooltip.inner_text()
    assert tooltip.locator("img, script, b").count() == 0
    assert seen.said == []


def test_the_variants_of_inna_are_one_name_and_one_line_until_they_are_opened(visit: Any) -> None:
    seen = visit()
    labels = [each.label for each in classification_study().contenders if each.optimizer == "inna"]
    assert len(labels) > 2
    line = 'table.results tr[data-family="INNA"]'
    for opener, variants in ((".legend .unfold", ".legend .family [data-contender]"), ("table.results .unfold", line)):
        shown = seen.page.locator(f"{variants}:visible")
        closed = shown.count()
        assert closed <= 1
        button = seen.page.locator(opener)
        assert str(len(labels)) in button.inner_text()
        for opened in (len(labels), closed):
            button.press("Enter")
            assert shown.count() == opened
            assert button.get_attribute("aria-expanded") == str(opened > closed).lower()
    # The line that stands for all is the best.
    losses = [
        float(each) for each in seen.page.eval_on_selector_all(line, "all => all.map(e => e.cells[1].dataset.value)")
    ]
    assert losses[0] == min(losses)
    assert seen.said == []


@each_look
def test_the_page_has_no_serious_accessibility_fault(visit: Any, size: tuple[int, int], scheme: str) -> None:
    seen = visit(size=size, scheme=scheme)
    assert accessibility_faults(seen) == []


def test_the_table_sorts_by_click_and_by_keyboard(visit: Any) -> None:
    seen = visit()
    heads = seen.page.locator("table.results thead th")
    assert heads.nth(1).get_attribute("aria-sort") == "ascending"
    losses = [float(value) for value in seen.column(1)]
    assert losses == sorted(losses)
    heads.nth(3).locator("button").click()
    accuracies = [float(value) for value in seen.column(3)]
    assert heads.nth(3).get_attribute("aria-sort") == "descending"
    assert accuracies == sorted(accuracies, reverse=True)
    assert seen.count("table.results th[aria-sort]") == 1
    heads.nth(3).locator("button").focus()
    seen.page.keyboard.press("Enter")
    assert heads.nth(3).get_attribute("aria-sort") == "ascending"
    assert [float(value) for value in seen.column(3)] == accuracies[::-1]
    # The reference has no difference to itself: it stays last, whichever way round.
    for _ in range(2):
        heads.nth(2).locator("button").click()
        assert seen.column(2)[-1] == ""
        known = [float(value) for value in seen.column(2)[:-1]]
        ascending = heads.nth(2).get_attribute("aria-sort") == "ascending"
        assert known == sorted(known, reverse=not ascending)
    heads.nth(0).locator("button").click()
    assert seen.column(0)[0] == "AdaGrad"


def test_five_columns_come_first_and_the_rest_on_demand(visit: Any) -> None:
    seen = visit()
    heads = "table.results thead th"
    shown = [head for head in seen.page.locator(heads).all() if head.is_visible()]
    assert [head.inner_text().split("\n")[0].split(" ")[0] for head in shown] == [
        "Optimizer",
        "Training",
        "Compared",
        "Test",
        "Learning",
    ]
    seen.page.locator("#all-columns").check()
    assert all(head.is_visible() for head in seen.page.locator(heads).all())
    cells = seen.page.locator("table.results tbody tr").first.locator("th, td")
    assert cells.count() == seen.count(heads)
    assert all(cell.is_visible() for cell in cells.all())
    seen.page.locator("#all-columns").uncheck()
    hidden = [cell.is_visible() for cell in cells.all()]
    assert hidden == [head.is_visible() for head in seen.page.locator(heads).all()]


def test_a_table_that_is_wider_than_its_place_says_so(visit: Any) -> None:
    wide = visit(size=SIZES[1], scheme="dark")
    assert wide.count("#results .scroll.wide") == 1
    roomy = visit(size=SIZES[0])
    assert roomy.count("#results .scroll.wide") == 0


def test_the_download_holds_the_rows(visit: Any, tmp_path: Path) -> None:
    seen = visit()
    with seen.page.expect_download() as waiting:
        seen.page.locator("#download").click()
    assert waiting.value.suggested_filename == "inna-digits-rows.json"
    waiting.value.save_as(tmp_path / "rows.json")
    held = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    rows = rows_of(classification_study(), diverging_final="INNA (α=0.5, β=1)")
    key = json.JSONEncoder(sort_keys=True).encode
    assert sorted(held["rows"], key=key) == sorted((row_document(*row) for row in rows.items()), key=key)
    assert seen.said == []


def test_a_click_copies_the_code(browser: Any, reports: dict[str, Path]) -> None:
    with visits(browser) as go:
        seen = go(reports["digits"].as_uri(), permissions=["clipboard-read", "clipboard-write"])
        drawn(seen, "light")
        block = seen.page.locator("#recipe .pasted").first
        block.locator("button").click()
        wait_until(lambda: block.locator("button").inner_text() == "Copied")
        copied = seen.page.evaluate("navigator.clipboard.readText()")
        assert copied.strip() == block.locator("pre").inner_text().strip()
        assert "optimizer = " in copied
        assert seen.said == []


def test_the_curves_can_be_drawn_against_steps_and_seconds(visit: Any) -> None:
    seen = visit()
    titles = "#chart-curves-training-loss-0 .role-axis-title text"
    spans = {}
    for unit, title in (("step", "step"), ("seconds", "seconds of training"), ("epoch", "epoch")):
        seen.page.locator(f'input[name="unit"][value="{unit}"]').click()
        wait_until(lambda title=title: title in seen.page.locator(titles).all_text_contents())
        drawn(seen, "light")
        ticks = seen.page.locator("#chart-curves-training-loss-0 .role-axis-label text").all_text_contents()
        spans[unit] = [text for text in ticks if text]
        assert seen.count(LINES) == len(classification_study().contenders)
    # 45 iterations of 0.2 seconds an epoch, 15 epochs.
    assert "600" in spans["step"]
    assert "3" in spans["seconds"]
    assert "15" in spans["epoch"]
    assert seen.said == []


@pytest.mark.parametrize("name", ["curves-training-loss-0", "tuning-0"])
def test_a_chart_is_saved_as_png_and_svg(visit: Any, tmp_path: Path, name: str) -> None:
    seen = visit()
    seen.page.locator('.legend button[data-contender="Adam"]').click()
    settle(seen)
    for format_ in ("png", "svg"):
        with seen.page.expect_download() as waiting:
            seen.page.locator(f"#chart-{name} + .save button", has_text=format_.upper()).click()
        assert waiting.value.suggested_filename == f"{name}.{format_}"
        waiting.value.save_as(tmp_path / waiting.value.suggested_filename)
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    text = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    # Every optimizer that is shown is named in the picture, at its line or in a legend; the hidden one is not.
    shown = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    for each in classification_study().contenders:
        assert (each.label in shown) == (each.label != "Adam")
    assert seen.said == []


def test_hostile_names_are_inert(visit: Any) -> None:
    seen = visit("hostile")
    assert seen.count("img") == 0
    assert seen.count(".legend button") == len(hostile_study().contenders) + 1
    button = seen.page.locator(".legend button").first
    assert button.get_attribute("data-contender") == HOSTILE
    before = seen.count(LINES)
    button.click()
    settle(seen)
    assert seen.count(LINES) == before - 1
    assert seen.said == []


def test_the_charts_follow_a_change_of_theme_and_width(visit: Any) -> None:
    seen = visit()
    seen.page.locator('.legend button[data-contender="Adam"]').click()
    color = "#chart-curves-training-loss-0 .mark-line path"
    light = seen.page.locator(color).first.get_attribute("stroke")
    seen.page.emulate_media(color_scheme="dark")
    drawn(seen, "dark")
    assert seen.page.locator(color).first.get_attribute("stroke") != light
    # What the legend has hidden stays hidden.
    assert seen.count(LINES) == len(classification_study().contenders) - 1
    seen.page.set_viewport_size({"width": 390, "height": 844})
    settle(seen)
    assert not scrolls_sideways(seen)
    assert seen.said == []


def test_the_four_pictures(browser: Any, reports: dict[str, Path], tmp_path: Path) -> None:
    screenshots = load_screenshots()
    script = [
        sys.executable,
        str(SCREENSHOTS),
        str(reports["regression"]),
        str(tmp_path / "shots" / "one"),
        "--first-screen",
    ]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    names = [f"one-{scheme}-{width}.png" for scheme in SCHEMES for width in screenshots.WIDTHS]
    assert [Path(line).name for line in done.stdout.splitlines()] == names
    for name in names:
        picture = (tmp_path / "shots" / name).read_bytes()
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        assert int.from_bytes(picture[16:20], "big") == 2 * int(name.split("-")[2].removesuffix(".png"))


def test_another_reference_can_be_chosen(visit: Any) -> None:
    page = visit().page
    study = classification_study()
    summary = summarize(study, rows_of(study, diverging_final="INNA (α=0.5, β=1)"))
    adam = next(entry for entry in summary.entries if entry.label == "Adam")
    page.locator("#all-columns").check()
    page.locator("table.results .unfold").click()
    page.select_option("#reference", "Adam")
    for measure, place in zip(summary.measures, range(len(summary.measures)), strict=True):
        expected = comparisons(summary, measure, adam)
        for label, cell in expected.items():
            line = page.locator("table.results tbody tr", has=page.locator(f'th[data-value="{label}"]'))
            shown = line.locator("td.compared").nth(place).inner_text().split("\n")
            assert [part for part in shown if part] == [
                part for part in (cell.mean, cell.interval, cell.comparison) if part
            ]
    own = page.locator('table.results tbody tr:has(th[data-value="Adam"])')
    assert own.locator(".badge").inner_text().lower() == "reference"
    assert page.locator("table.results .badge").count() == 1
    assert own.locator("td.compared").first.inner_text() == "–"
