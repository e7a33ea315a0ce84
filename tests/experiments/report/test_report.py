"""The page, the table for the terminal and the figures, without a browser."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import altair
import pytest
from altair.utils.schemapi import validate_jsonschema
from rich.cells import cell_len
from rich.console import Console

from inna.experiments.charts.drawing import Figure, interactive, still
from inna.experiments.charts.page import _specifications
from inna.experiments.charts.themes import DARK, LIGHT
from inna.experiments.formatting import fixed, plain, signed
from inna.experiments.report.curves import MAX_POINTS, styles
from inna.experiments.report.difference_words import ratio
from inna.experiments.report.figures import figures
from inna.experiments.report.results_table import lines
from inna.experiments.report.sentences import (
    difference_places,
    headline,
    margin_places,
    spread_places,
    verdict,
    warnings_of,
)
from inna.experiments.report.write import print_summary, print_table, write_figures, write_report
from inna.experiments.rows.documents import row_document
from inna.experiments.rows.row_files import DamagedRowError, row_path
from inna.experiments.rows.run import Run
from inna.experiments.statistics.intervals import paired_difference, spread
from inna.experiments.statistics.summary import TRAIN_LOSS, summarize
from inna.experiments.study.study import Contender, Study
from page_source import SIGHT, Page, lab, linear, luminance
from synthetic_study import HOSTILE, classification_study, hostile_study, regression_study, rows_of, save

DIVERGING = "INNA (α=0.5, β=1)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = classification_study()
    return save(tmp_path_factory.mktemp("digits"), study, rows_of(study, diverging_final=DIVERGING))


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    study = hostile_study()
    path = write_report(save(tmp_path_factory.mktemp("hostile"), study, rows_of(study)))
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_is_written_whole(folder: Path, page: Page) -> None:
    path = folder / "report.html"
    assert path.stat().st_size < 2_000_000
    assert not [each for each in folder.iterdir() if each.suffix == ".tmp"]
    assert page.elements[0][0] == "html"


def test_the_policy_allows_exactly_what_is_in_the_page(page: Page) -> None:
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy
    assert "http" not in policy

    def hashes(wanted: str) -> set[str]:
        sources = (s for tag, a, s in page.inline if tag == wanted and a.get("type") != "application/json")
        return {f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in sources}

    assert set(rules["script-src"].split()) == hashes("script")
    assert set(rules["style-src"].split()) == hashes("style")
    assert len(hashes("script")) == 3


@pytest.mark.parametrize("name", ["page", "hostile_page"])
def test_nothing_in_the_page_needs_the_network_or_an_inline_handler(name: str, request: pytest.FixtureRequest) -> None:
    seen: Page = request.getfixturevalue(name)
    for tag, attributes in seen.elements:
        assert tag not in ("iframe", "object", "embed", "base", "form", "img")
        assert not [each for each in attributes if each.startswith("on") or each in ("style", "srcdoc", "srcset")]
        for link in ("src", "href"):
            assert (attributes.get(link) or "#").startswith(("#", "data:image/svg+xml,"))


def test_hostile_names_are_text_and_no_markup(hostile_page: Page) -> None:
    assert HOSTILE in hostile_page.text
    assert "<b>score</b>: a.b[0]" in hostile_page.text
    assert "$name ${name} {{x}}" in hostile_page.text
    assert [tag for tag, _ in hostile_page.elements].count("script") == 6
    assert "\x1b" not in hostile_page.text
    assert len(hostile_page.data("figures")["panels"]) > 6


def test_the_rows_in_the_page_are_the_rows(folder: Path, page: Page) -> None:
    rows = rows_of(classification_study(), diverging_final=DIVERGING)
    held = page.data("rows")
    assert {json.dumps(each, sort_keys=True) for each in held["rows"]} == {
        json.dumps(row_document(*row), sort_keys=True) for row in rows.items()
    }
    assert held["study"]["reference"] == "SGD"


def test_the_page_says_what_a_reader_needs(page: Page) -> None:
    study = classification_study()
    summary = summarize(study, rows_of(study, diverging_final=DIVERGING))
    for measure in summary.measures:
        assert headline(summary, measure)[1] in page.text
        for entry in summary.entries:
            assert " ".join(verdict(summary, entry, measure).split()) in page.text
    assert f"{DIVERGING}: 1 of 3 final runs diverged (seed 3); its means are over the other seeds." in page.text
    assert "in parameter features.0.weight; γ was" in page.text
    assert "the last finite loss" in page.text
    assert "With the constant schedule learning rates up to 0.316 survived tuning; 1 did not." in page.text
    assert study.command in page.text
    assert "Synthetic CPU @ 3.00 GHz" in page.text
    assert "“Significant” is corrected for multiple comparisons (Holm, level 5 % per measure)" in page.text


def data_names(specification: dict[str, Any]) -> set[str]:
    return {each["data"]["name"] for each in (specification, *specification["layer"]) if "data" in each}


def test_every_chart_follows_the_legend(page: Page) -> None:
    held = page.data("figures")
    assert {"chart-curves-training-loss-0", "chart-curves-test-accuracy-0", "chart-tuning-0", "chart-tuning-1"} <= set(
        held["panels"]
    )
    for panel in held["panels"].values():
        for theme in ("light", "dark"):
            assert {each["name"] for each in panel[theme]["params"]} >= {"hidden", "focus"}
            assert data_names(panel[theme]) <= set(held["datasets"])
            filtered = [layer for layer in panel[theme]["layer"] if "hidden" in json.dumps(layer.get("transform", ""))]
            assert filtered
            assert filtered == [layer for layer in panel[theme]["layer"] if "color" in layer["encoding"]]


@pytest.mark.parametrize(
    "study",
    [
        pytest.param(classification_study(), id="classification"),
        pytest.param(regression_study(), id="regression", marks=pytest.mark.slow),
    ],
)
def test_charts_are_valid_vega_lite(study: Study) -> None:
    summary, schema = summarize(study, rows_of(study, diverging_final=study.contenders[1].label)), altair.load_schema()
    for figure in figures(summary):
        validate_jsonschema(still(figure, LIGHT), schema)
        for panel in figure.panels:
            specification, datasets = interactive(figure, panel, DARK)
            validate_jsonschema(specification, schema)
            assert data_names(specification) <= set(datasets)


def test_charts_of_a_page_have_no_parts_that_altair_looks_up_in_its_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would for each encoding that is a dict or a text, which takes longer than all the rest."""

    def refused(*arguments: Any, **options: Any) -> None:
        raise AssertionError("give the encoding as alt.Y2(...), alt.OpacityValue(...) or the like")

    study = classification_study()
    summary = summarize(study, rows_of(study, diverging_final=study.contenders[1].label))
    monkeypatch.setattr("altair.utils.schemapi._FromDict", refused)
    assert len(_specifications(figures(summary))["panels"]) > 6


def curve_points(figure: Figure) -> list[dict[str, Any]]:
    """What the first layer of a figure shows."""
    specification, datasets = interactive(figure, figure.panels[0], LIGHT)
    # Altair moves what all layers share to the top.
    return datasets[(specification["layer"][0].get("data") or specification["data"])["name"]]


def test_the_curves_are_mean_best_and_worst_of_the_seeds() -> None:
    study = classification_study()
    summary = summarize(study, rows_of(study))
    figure = next(each for each in figures(summary) if each.name == "curves-test-accuracy")
    drawn = curve_points(figure)
    entry = summary.entries[0]
    for point in (each for each in drawn if each["contender"] == entry.label):
        values = [result["history"][point["epoch"]]["test_accuracy"] for _, result in entry.finals.values()]
        assert (point["mean"], point["best"], point["worst"]) == pytest.approx(
            (sum(values) / 3, max(values), min(values))
        )
    assert len(drawn) == len(study.contenders) * (study.epochs + 1)


def test_the_guard_is_drawn_where_rows_have_its_measures() -> None:
    study = classification_study()
    rows = rows_of(study)
    assert not [figure for figure in figures(summarize(study, rows)) if figure.name.startswith("guard")]
    guarded = study.contenders[0].label
    for run, result in rows.items():
        if run.optimizer == study.contenders[0].optimizer:
            for point in result["history"]:
                share = min(1.0, 0.1 * point["epoch"] + 0.01 * run.seed)
                point |= {"guarded_share": share, "last_lr": 0.01 * point["epoch"]}
    summary = summarize(study, rows)
    drawn_of_guard = [figure for figure in figures(summary) if figure.name.startswith("guard")]
    for figure, name in zip(drawn_of_guard, ("guarded_share", "last_lr"), strict=True):
        validate_jsonschema(still(figure, LIGHT), altair.load_schema())
        drawn = curve_points(figure)
        assert [point["epoch"] for point in drawn if point["contender"] == guarded] == list(range(1, study.epochs + 1))
        (entry,) = (each for each in summary.entries if each.label == guarded)
        for point in (each for each in drawn if each["contender"] == guarded):
            values = [result["history"][point["epoch"]][name] for _, result in entry.finals.values()]
            assert point["mean"] == pytest.approx(sum(values) / len(values))


def test_a_zoomed_axis_holds_every_final_value() -> None:
    study = classification_study(epochs=200)
    summary = summarize(study, rows_of(study))
    figure = next(each for each in figures(summary) if each.name == "curves-test-accuracy")
    assert "outside the axis" in figure.caption
    chart, _ = interactive(figure, figure.panels[0], LIGHT)
    low, high = chart["layer"][1]["encoding"]["y"]["scale"]["domain"]
    finals = [value for entry in summary.entries for value in entry.values("test_accuracy").values()]
    assert low <= min(finals)
    assert max(finals) <= high


@pytest.mark.parametrize("first", [0.1, 0.1 * (1 + 2e-16), 0.08, 0.3], ids=["equal", "neighbouring", "lower", "higher"])
def test_curves_are_drawn_where_the_test_values_do_not_change(first: float) -> None:
    study = classification_study(epochs=4)
    rows = rows_of(study)
    for result in rows.values():
        for entry in result["history"]:
            entry |= dict.fromkeys(("test_loss", "test_accuracy"), first if entry["epoch"] == 0 else 0.1)
    drawn = [each for each in figures(summarize(study, rows)) if each.name.startswith("curves-test")]
    assert len(drawn) == 2
    for figure in drawn:
        chart, _ = interactive(figure, figure.panels[0], LIGHT)
        low, high = chart["layer"][1]["encoding"]["y"]["scale"]["domain"]
        assert low <= 0.1 <= high
        assert high - low > 0.001


def test_the_epochs_of_a_short_run_are_named_once_each() -> None:
    study = classification_study(epochs=2)
    summary = summarize(study, rows_of(study))
    figure = next(each for each in figures(summary) if each.name == "curves-training-loss")
    assert '"values": [0, 1, 2]' in json.dumps(still(figure, LIGHT))


def test_the_bars_span_the_learning_rates_within_twice_the_best_loss() -> None:
    study = classification_study()
    summary = summarize(study, rows_of(study))
    figure = next(each for each in figures(summary) if each.name == "tuning")
    bars = {
        row["contender"]: row
        for panel in figure.panels
        for rows in interactive(figure, panel, LIGHT)[1].values()
        for row in rows
        if "limit" in row
    }
    assert set(bars) == {entry.label for entry in summary.entries if entry.good_lrs}
    for entry in summary.entries:
        bar, rates = bars[entry.label], [run.lr for run, _ in entry.neighbours]
        losses = [result["train_loss"] if result["status"] == "done" else math.inf for _, result in entry.neighbours]
        assert entry.choice is not None
        assert bar["limit"] == 2 * min(losses) == 2 * entry.choice.train_loss
        for end, inwards in ((bar["low"], 1), (bar["high"], -1)):
            # At its end the loss is twice the best, unless the next learning rate diverged or there is none.
            place = next((k for k, lr in enumerate(rates) if math.isclose(lr, end)), None)
            if place is not None:
                assert losses[place] <= bar["limit"]
                outside = losses[place - inwards] if 0 <= place - inwards < len(losses) else math.inf
                assert math.isinf(outside)
            else:
                right = next(k for k, lr in enumerate(rates) if lr > end)
                share = math.log(end / rates[right - 1]) / math.log(rates[right] / rates[right - 1])
                there = math.log(losses[right - 1]) * (1 - share) + math.log(losses[right]) * share
                assert math.exp(there) == pytest.approx(bar["limit"])


def test_long_histories_are_thinned_and_the_caption_says_so() -> None:
    study = classification_study(contenders=classification_study().contenders[3:6], epochs=4000, seeds=(1, 2))
    summary = summarize(study, rows_of(study))
    figure = next(each for each in figures(summary) if each.name == "curves-training-loss")
    drawn = curve_points(figure)
    assert len(drawn) <= MAX_POINTS + len(study.contenders)
    assert {each["epoch"] for each in drawn} >= {0, 4, 4000}
    assert "One epoch in 4 is drawn" in figure.caption


def test_losses_of_zero_or_less_do_not_break_the_log_axis() -> None:
    study = classification_study(contenders=classification_study().contenders[3:6])
    rows = rows_of(study)
    for result in rows.values():
        for point in (result, *result["history"]):
            point["train_loss"] -= 0.5
    for figure in figures(summarize(study, rows)):
        validate_jsonschema(still(figure, LIGHT), altair.load_schema())
    figure = next(each for each in figures(summarize(study, rows)) if each.name == "curves-training-loss")
    assert "symmetric log" in json.dumps(still(figure, LIGHT))


def test_figures_as_png_and_svg(tmp_path: Path) -> None:
    study = classification_study(contenders=classification_study().contenders[3:6], epochs=3, seeds=(1, 2))
    save(tmp_path, study, rows_of(study))
    paths = write_figures(tmp_path, ["png", "svg"])
    names = [each.name for each in figures(summarize(study, rows_of(study)))]
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    for path in paths:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        else:
            assert ElementTree.fromstring(path.read_text(encoding="utf-8")).tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("formats", [["pdf"], ["png", "jpeg"], "png"])
def test_unknown_formats_are_refused(tmp_path: Path, formats: Any) -> None:
    with pytest.raises(ValueError, match="formats must be of png and svg"):
        write_figures(tmp_path, formats)


def test_folders_without_a_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        write_report(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"no study\.json here"):
        write_report(tmp_path)
    study = classification_study()
    study.save(tmp_path)
    with pytest.raises(ValueError, match="no run of the study is done yet"):
        write_report(tmp_path)
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(DamagedRowError):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_study_under_way_says_what_is_missing_and_what_was_left_out(tmp_path: Path) -> None:
    study = classification_study()
    rows = rows_of(study, without=("Adam", "SGD"))
    save(tmp_path, study, rows)
    damaged = row_path(tmp_path, next(iter(rows)))
    damaged.write_bytes(damaged.read_bytes()[:100])
    stranger = classification_study(model="other")
    save(tmp_path, stranger, dict(list(rows_of(stranger).items())[:2]))
    study.save(tmp_path)
    seen = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "Adam: 3 final runs not done yet (seeds 1, 2 and 3)." in seen.text
    assert "Final runs are missing: there is no winner on training loss yet." in seen.text
    assert f"Skipped: {damaged}" in seen.text
    assert "Skipped: 2 rows of the folder, with other settings" in seen.text
    assert "The reference has no finished final run yet." in seen.text


def test_only_tuning_runs_still_give_a_page(tmp_path: Path) -> None:
    study = classification_study()
    labels = tuple(contender.label for contender in study.contenders)
    seen = Page(write_report(save(tmp_path, study, rows_of(study, without=labels))).read_text(encoding="utf-8"))
    assert "No final run is done yet." in seen.text


def test_runs_of_different_machines_are_pointed_out(tmp_path: Path) -> None:
    study = classification_study(contenders=classification_study().contenders[3:5])
    rows = rows_of(study)
    first = next(iter(rows))
    rows[first] = rows[first] | {"hardware": {"cpu": "another"}}
    seen = Page(write_report(save(tmp_path, study, rows)).read_text(encoding="utf-8"))
    assert "The runs come from different hardware: their timings cannot be compared." in seen.text


def test_the_lines_hold_the_statistics() -> None:
    study = classification_study()
    summary = summarize(study, rows_of(study, diverging_final=DIVERGING))
    found = lines(summary)
    assert [line.label for line in found] == [contender.label for contender in study.contenders]
    for line, entry in zip(found, summary.entries, strict=True):
        assert len(line.measures) == len(summary.measures)
        for measured, measure in zip(line.measures, summary.measures, strict=True):
            values = summary.spread(entry, measure)
            assert values is not None
            places = spread_places(summary, measure, values)
            worst = "diverged" if entry.label == DIVERGING else fixed(values.worst, places)
            assert measured.value == values.mean
            assert measured.mean == fixed(values.mean, places)
            assert measured.ends == f"[{worst}, {fixed(values.best, places)}]"
            if entry is summary.reference:
                assert measured.compared[:4] == ("–", "", "", "")
                assert math.isnan(measured.compared.value)
                continue
            difference = paired_difference(
                entry.values(measure.name), summary.reference.values(measure.name), ratio=measure.goal == "min"
            )
            assert difference is not None
            assert difference.low is not None
            assert difference.high is not None
            cell = measured.compared
            assert cell.value == difference.mean
            if measure.goal == "min":
                half = abs(difference.mean) + (difference.high - difference.low) / 2
                narrow = 10**half - 10 ** abs(difference.mean) < 0.1
                assert (
                    cell.mean == f"{ratio(abs(difference.mean), narrow)} {'lower' if difference.mean < 0 else 'higher'}"
                )
                assert cell.margin == f"{cell.mean} ({cell.interval})"
                near, far = sorted((abs(difference.low), abs(difference.high)))
                if difference.low * difference.high > 0:
                    assert cell.interval == f"{ratio(near, narrow)} to {ratio(far, narrow)}"
                else:
                    ends = ratio(-difference.low, narrow), ratio(difference.high, narrow)
                    assert cell.interval == f"{ends[0]} lower to {ends[1]} higher"
                continue
            places = difference_places(summary, measure)
            assert cell.mean == signed(difference.mean, places)
            assert cell.interval == f"{signed(difference.low, places)} to {signed(difference.high, places)}"
            margin = fixed((difference.high - difference.low) / 2, margin_places(summary, measure))
            assert cell.margin.endswith(f" ± {margin}")
        assert line.cost.runs == f"{entry.cost.runs:,}"
        assert line.cost.epochs_value == entry.cost.epochs
        assert line.tuned.width_value == entry.lr_width
        assert line.tuned.width == fixed(entry.lr_width, 1)
        assert line.tuned.near_best == f"{entry.near_best} of {len(entry.tuning)}"


def test_no_mean_has_more_digits_than_its_spread_supports() -> None:
    study = classification_study()
    summary = summarize(study, rows_of(study))
    for line, entry in zip(lines(summary), summary.entries, strict=True):
        values = summary.spread(entry, TRAIN_LOSS)
        assert values is not None
        unit = 10.0 ** -len(line.measures[0].mean.partition(".")[2])
        # At most two digits of the spread, but two of the mean.
        assert 100 * unit > abs(values.worst - values.best) or 100 * unit > values.mean
        assert abs(values.worst - values.best) >= 10 * unit or values.mean < 100 * unit


def printed(study: Study, rows: dict[Run, dict[str, Any]], width: int) -> str:
    out = io.StringIO()
    print_table(summarize(study, rows), Console(file=out, width=width, color_system=None))
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 250])
@pytest.mark.parametrize("make", [classification_study, regression_study, hostile_study])
def test_the_printed_table_fits_and_cuts_nothing(width: int, make: Any) -> None:
    study = make()
    rows = rows_of(study, diverging_final=DIVERGING)
    shown = printed(study, rows, width)
    assert max(cell_len(line) for line in shown.splitlines()) <= width
    assert "\x1b" not in shown
    for contender in study.contenders:
        assert plain(contender.label)[:20] in shown
    if make is not hostile_study:
        assert "…" not in shown
    assert "[worst, best]" in shown
    assert "width of good γ" in shown
    if make is classification_study:
        summary = summarize(study, rows)
        values = spread(summary.entries[0].values("train_loss").values(), "min", geometric=True)
        assert values is not None
        mean, best, worst = (fixed(each, spread_places(summary, TRAIN_LOSS, values)) for each in values[:3])
        assert f"{mean} [{worst}, {best}]" in shown


def test_the_summary_is_two_sentences_and_five_columns_of_80_characters() -> None:
    study = classification_study()
    summary = summarize(study, rows_of(study, diverging_final=DIVERGING))
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=80, color_system=None))
    leaders = " ".join(out.getvalue().partition("\n\n")[0].split())
    for measure in summary.measures[:2]:
        assert headline(summary, measure)[1] in leaders
    shown = [line for line in out.getvalue().splitlines() if line.startswith("optimizer")]
    assert [" ".join(line.split()) for line in shown] == ["optimizer loss SGD accuracy rate (γ)"]
    assert max(cell_len(line) for line in out.getvalue().splitlines()) <= 80
    assert f"Warning: {DIVERGING}: 1 of 3 final runs diverged" in " ".join(out.getvalue().split())


def test_a_learning_rate_that_is_given_is_marked() -> None:
    contenders = (Contender("INNAprop lr-free", "innaprop", grid=(0.01,), qs=(0.0,)), Contender("SGD", "sgd"))
    study = classification_study(contenders=contenders)
    rows = rows_of(study)
    assert [line.tuned.fixed for line in lines(summarize(study, rows))] == [True, False]
    assert "0.01 (not tuned)" in printed(study, rows, 300)


def test_the_printed_table_states_what_is_not_significant() -> None:
    study = classification_study()
    shown = printed(study, rows_of(study, diverging_final=DIVERGING), 300)
    assert f"The difference to SGD in training loss is not significant for {DIVERGING}." in shown
    assert "Intervals: 95\xa0%, paired by seed. Significant (else n.s.): corrected for multiple comparisons." in shown
    assert f"Warning: {DIVERGING}: 1 of 3 final runs diverged" in shown


def test_a_choice_on_the_edge_of_the_grid_is_a_warning() -> None:
    contenders = (Contender("INNA", "inna", 0.5, 0.1, grid=(1e-3, 0.1), qs=(0.0,)), Contender("SGD", "sgd"))
    study = classification_study(contenders=contenders)
    summary = summarize(study, rows_of(study))
    assert warnings_of(summary, summary.entries[0]) == [
        (
            "INNA: the chosen learning rate γ = 0.1 is the largest tried with its schedule; "
            "a better one may be outside the grid."
        )
    ]
    assert lines(summary)[0].tuned.edge == "largest tried"


def test_one_seed_gives_no_interval() -> None:
    study = classification_study(seeds=(1,))
    summary = summarize(study, rows_of(study))
    for line in lines(summary):
        for measured in line.measures:
            cell = measured.compared
            assert cell.interval == ("" if line.label == "SGD" else "one seed")
            assert "±" not in cell.margin
            assert not cell.comparison
    assert "One seed allows no test of significance" in printed(study, rows_of(study), 300)


# Simulated sight without red or green cones: linear RGB matrices of Viénot, Brettel and Mollon (1999).
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_contenders_look_different(theme: Any, sight: str) -> None:
    chosen = list(styles(classification_study()).values())
    for position, one in enumerate(chosen):
        ratio = sorted(luminance(color) + 0.05 for color in (one.color(theme), theme.background))
        assert ratio[1] / ratio[0] >= 3
        for other in chosen[position + 1 :]:
            seen = []
            for style in (one, other):
                rgb = linear(style.color(theme))
                seen.append(lab([sum(m * part for m, part in zip(line, rgb, strict=True)) for line in SIGHT[sight]]))
            # A difference of 10 in CIE 1976 is plain to see; where colours are nearer, the dash differs.
            assert math.dist(*seen) >= 10 or one.dash != other.dash


def test_styles_do_not_repeat_for_many_contenders() -> None:
    contenders = tuple(Contender(f"{name} {k}", name) for name in ("inna", "adam") for k in range(16))
    chosen = styles(classification_study(contenders=contenders, reference="adam 0"))
    # One more optimizer moves none that has its own style, and the others only if it takes theirs.
    more = styles(classification_study(contenders=(*contenders, Contender("SGD", "sgd")), reference="adam 0"))
    assert {label: more[label] for label in chosen} == chosen
    assert len({(style.light, style.dash) for style in chosen.values()}) == len(contenders)


def test_the_page_carries_the_version_of_vega_lite_that_altair_writes(page: Page) -> None:
    schema = next(iter(page.data("figures")["panels"].values()))["light"]["$schema"]
    assert schema.endswith(f"{altair.SCHEMA_VERSION}.json")


def test_labels_that_look_alike_on_one_line_are_refused(tmp_path: Path) -> None:
    study = classification_study(contenders=(Contender("a\x00", "sgd"), Contender("a\x01", "adam")), reference="a\x00")
    save(tmp_path, study, rows_of(study))
    with pytest.raises(ValueError, match="is given twice"):
        write_report(tmp_path)


def test_the_study_in_the_page_is_the_study(page: Page) -> None:
    held = page.data("rows")["study"]
    assert held == json.loads(json.dumps(dataclasses.asdict(classification_study())))


def test_numbers_in_the_page_use_true_minus_signs_and_no_nan(page: Page) -> None:
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", page.text)
    assert re.search(r"−0\.\d+", page.text)
