"""A reproduction's page, figures and Markdown, without a browser."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import altair
import pytest
from altair.utils.schemapi import validate_jsonschema
from reproduction_markdown import WRITTEN, begin_mark, end_mark, fill, result_section, sections

from inna.experiments.charts.drawing import Figure, interactive, still
from inna.experiments.charts.themes import DARK, LIGHT
from inna.experiments.report.curves import styles
from inna.experiments.statistics.summary import summarize
from inna.experiments.study.study import Study
from inna.experiments.study.tuning import state
from inna.paper.claims import CLAIMS
from inna.paper.curves import paper_curve
from inna.paper.descents import write_descents
from inna.paper.figures import figure1_figures, reproduction_figures
from inna.paper.page import write_reproduction
from inna.paper.protocol import LR_FREE, contenders
from inna.paper.reproduction import find_reproduction, read_reproduction, read_results
from inna.paper.verdicts import Verdict
from inna.paper.words import agreement, lead, numbers_lines, protocol_words
from page_source import SIGHT, Page, lab, linear
from protocol_rows import FINE, descents, rows_of, study_of
from scripts import load_script
from synthetic_study import classification_study, save
from synthetic_study import rows_of as other_rows

DOCS = Path(__file__).parents[2] / "docs"
FOUR = list(FINE)[:4]


def figures_of(study: Study, **options: Any) -> dict[str, Figure]:
    return {figure.name: figure for figure in reproduction_figures(summarize(study, rows_of(study, **options)))}


def layers(figure: Figure, panel: int = 0) -> list[dict[str, Any]]:
    specification, data = interactive(figure, figure.panels[panel], LIGHT)
    # Altair moves data that all layers have in common to the top.
    return [
        layer | {"rows": data[layer.get("data", specification.get("data"))["name"]]} for layer in specification["layer"]
    ]


def theirs(figure: Figure, panel: int = 0) -> list[dict[str, Any]]:
    """The circles of the paper's curves."""
    return [row for layer in layers(figure, panel) if layer["mark"].get("filled") is False for row in layer["rows"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = study_of(command="inna reproduce all --dataset mnist --scale medium")
    path = save(tmp_path_factory.mktemp("mnist"), study, rows_of(study, diverging={("INNA (0.5, 1)", 2): 12}))
    write_descents(path, descents())
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    path = write_reproduction(folder)
    assert path == folder / "reproduction.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_figures_are_the_papers_in_its_layout():
    found = figures_of(study_of())
    assert list(found) == ["figure-2", "figure-3", "figure-4", "beyond", "seconds"]
    assert [panel.title for panel in found["figure-2"].panels] == ["Training loss", "Test accuracy"]
    drawn = {
        (name, panel): list(dict.fromkeys(row["contender"] for row in layers(figure, panel)[0]["rows"]))
        for name, figure in found.items()
        for panel in (0, 1)
    }
    best = "INNA (0.1, 0.1)"
    slow = [label for label in FINE if "q = " in label]
    assert drawn["figure-2", 0] == drawn["figure-2", 1] == FOUR
    assert drawn["figure-3", 0] == drawn["figure-3", 1] == [best, "SGD", "AdaGrad", "Adam"]
    assert drawn["figure-4", 0] == ["INNA (0.5, 0.1)", *slow]
    assert drawn["figure-4", 1] == ["Adam", slow[0]]
    assert drawn["beyond", 0] == drawn["beyond", 1] == [best, "heavy ball", "AdamW", "INNAprop"]
    over_seconds = [best, "SGD", "AdaGrad", "Adam", "heavy ball", "AdamW", "INNAprop", slow[0]]
    assert drawn["seconds", 0] == drawn["seconds", 1] == over_seconds


def test_an_epoch_takes_the_time_of_the_fastest():
    study = study_of()
    rows = rows_of(study)
    for place, (run, result) in enumerate(rows.items()):
        for each in result["history"][1:]:
            each["seconds"] = 2.0 + place + each["epoch"] if run.optimizer != "adam" else 0.5 + each["epoch"]
    figure = next(each for each in reproduction_figures(summarize(study, rows)) if each.name == "seconds")
    drawn = layers(figure)[0]["rows"]
    assert [row["seconds"] for row in drawn if row["contender"] == "Adam"] == [1.5 * k for k in range(21)]
    drawing = figure.panels[0].draw(LIGHT, True)
    x = drawing.chart.to_dict()["layer"][0]["encoding"]["x"]
    assert (x["field"], x["title"]) == ("seconds", "seconds of training")
    assert list(drawing.axes) == ["seconds"]
    for result in rows.values():
        for each in result["history"]:
            each["seconds"] = None
    assert "seconds" not in {each.name for each in reproduction_figures(summarize(study, rows))}


def test_losses_are_drawn_as_the_logarithm_of_their_mean():
    rows = layers(figures_of(study_of())["figure-3"])[0]["rows"]
    sgd = next(row for row in rows if (row["contender"], row["epoch"]) == ("SGD", 20))
    losses = [0.1 / 1.03, 0.1, 0.1 * 1.03]
    assert sgd["mean"] == pytest.approx(math.log10(sum(losses) / 3), abs=1e-12)
    assert sgd["best"] == pytest.approx(math.log10(min(losses)), abs=1e-12)
    assert sgd["worst"] == pytest.approx(math.log10(max(losses)), abs=1e-12)


def test_the_papers_curves_have_circles_up_to_our_last_epoch():
    found = figures_of(study_of(epochs=23))
    rows = [row for row in theirs(found["figure-3"]) if row["contender"] == "Adam"]
    assert [row["epoch"] for row in rows] == [0, 5, 10, 15, 20, 23]
    curve = paper_curve(3, "mnist", "log10_train_loss", "Adam")
    assert curve is not None
    assert [row["mean"] for row in rows] == [curve.at(row["epoch"]).mean for row in rows]
    assert {row["contender"] for row in theirs(found["figure-2"])} == set(FOUR)
    # The mean accuracy of (0.5, 1) runs below the paper's axis.
    assert {row["contender"] for row in theirs(found["figure-2"], 1)} == set(FOUR[:3])
    assert {row["contender"] for row in theirs(found["figure-4"], 1)} == {"Adam", "INNA (0.5, 0.1), q = 1/4"}
    assert theirs(found["beyond"]) == []
    assert "The paper trains a Network in Network, here it is lenet5." in found["figure-2"].caption
    assert "Network" not in figures_of(study_of("cifar10", "nin"))["figure-2"].caption


def test_every_title_names_a_smaller_width(tmp_path):
    study = dataclasses.replace(study_of("cifar10", "nin-w0.333"), precision="bfloat16", loss_samples=10_000)
    rows = rows_of(study)
    for figure in reproduction_figures(summarize(study, rows)):
        assert figure.title.endswith(", 0.333 of the channels")
        assert "Before the last epoch the training loss is that of the first 10,000 samples." in figure.caption
        assert ("0.333 of them" in figure.caption) == bool(theirs(figure))
    page = Page(write_reproduction(save(tmp_path, study, rows)).read_text(encoding="utf-8"))
    for title in ("Figure 2: the four (α, β)", "Figure 3: INNA, SGD, AdaGrad and Adam", "Figure 4: slower decays"):
        assert f"{title}, 0.333 of the channels" in page.text
        assert page.text.count(title) == 1
    assert "nin-w0.333 on cifar10, 20 epochs (the paper: 200), layers in bfloat16, seeds 1, 2 and 3" in page.text


def test_the_papers_damping_is_named_where_ours_differs():
    figure = figures_of(study_of(), changes={"INNA (0.5, 0.5)": (0.01, 0.98, 1.0)})["figure-3"]
    rows = [row for row in theirs(figure) if row["contender"] == "INNA (0.5, 0.5)"]
    assert {row["curve"] for row in rows} == {"the paper’s INNA (0.1, 0.1)"}
    assert "Its curve of INNA is INNA (0.1, 0.1)." in figure.caption


@pytest.mark.parametrize("dataset", ["digits", "mnist[:5000]"])
def test_other_data_have_no_curves_of_the_paper(dataset):
    found = figures_of(study_of(dataset, "small-cnn"))
    assert not any(theirs(figure, panel) for figure in found.values() for panel in (0, 1))
    assert not any("paper’s mean" in figure.caption for figure in found.values())


def test_figures_without_runs_are_skipped_and_partial_ones_drawn():
    assert figures_of(study_of(), without=list(FINE)) == {}
    found = figures_of(study_of(), without=[label for label in FINE if label not in ("Adam", "INNA (0.5, 0.1)")])
    assert list(found) == ["figure-2", "figure-3", "figure-4", "seconds"]
    assert [row["contender"] for row in layers(found["figure-3"])[0]["rows"][::21]] == ["INNA (0.5, 0.1)", "Adam"]


def test_a_diverged_seed_is_marked_at_its_last_epoch():
    figure = figures_of(study_of(), diverging={("SGD", 3): 7})["figure-3"]
    crosses = [layer["rows"] for layer in layers(figure) if layer["mark"].get("shape") == "cross"]
    assert [(row["contender"], row["seed"], row["epoch"]) for row in crosses[0]] == [("SGD", 3, 7)]
    assert "×: a seed diverged after this epoch" in figure.caption


def test_an_optimizer_that_diverged_on_every_seed_is_named():
    slowest = "INNA (0.5, 0.1), q = 1/16"
    found = figures_of(study_of(), diverging={(slowest, seed): 2 + seed for seed in (1, 2, 3)})
    crosses = [layer["rows"] for layer in layers(found["figure-4"]) if layer["mark"].get("shape") == "cross"]
    assert [(row["contender"], row["epoch"]) for row in crosses[0]] == [(slowest, 3), (slowest, 4), (slowest, 5)]
    assert f"Not drawn, since every seed diverged: {slowest}." in found["figure-4"].caption
    assert "diverged" not in found["figure-2"].caption


def test_the_specifications_are_valid():
    study, schema = study_of(), altair.load_schema()
    figure_3 = reproduction_figures(summarize(study, rows_of(study, diverging={("SGD", 3): 7})))[1]
    for figure in (figure_3, figure1_figures(descents())[0]):
        validate_jsonschema(still(figure, LIGHT), schema)
        for panel in figure.panels[-2:]:
            specification, _ = interactive(figure, panel, DARK)
            validate_jsonschema(specification, schema)


def test_every_chart_can_hide_optimizers():
    study = study_of()
    for figure in [*reproduction_figures(summarize(study, rows_of(study))), *figure1_figures(descents())]:
        for panel in figure.panels:
            specification, _ = interactive(figure, panel, LIGHT)
            assert {parameter["name"] for parameter in specification["params"]} >= {"hidden", "focus"}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_the_members_of_a_figure_look_different(theme, sight):
    chosen = styles(study_of())
    slow = [label for label in FINE if "q = " in label]
    for members in (
        FOUR,
        *([best, "SGD", "AdaGrad", "Adam"] for best in FOUR),
        ["INNA (0.5, 0.1)", *slow],
        [slow[0], "Adam"],
        *([best, "heavy ball", "AdamW", "INNAprop"] for best in FOUR),
    ):
        for one, other in itertools.combinations(members, 2):
            seen = [
                lab(
                    [
                        sum(m * part for m, part in zip(line, linear(chosen[label].color(theme)), strict=True))
                        for line in SIGHT[sight]
                    ]
                )
                for label in (one, other)
            ]
            # A difference of 10 in CIE 1976 is plain to see; where colours are nearer, the dash differs.
            assert math.dist(*seen) >= 10 or chosen[one].dash != chosen[other].dash, (one, other)


def test_an_optimizer_has_one_style_on_every_page():
    here, there = (
        styles(study_of()),
        styles(classification_study(contenders=study_of().contenders[2:9], reference="SGD")),
    )
    shared = here.keys() & there.keys()
    assert len(shared) == 7
    assert all(here[label] == there[label] for label in shared)


def test_figure_1_has_a_figure_for_each_kind_of_settings():
    recovered, caption = figure1_figures(descents())
    assert [panel.title for panel in recovered.panels] == [
        "(a) α = 0.3, β = 0.01",
        "(b) α = 0.3, β = 0.1",
        "(c) α = 1.3, β = 0.1",
        "(d) log10 J",
    ]
    assert caption.panels[0].title == "(a) α = 0.3, β = 0.01, ends outside"
    path = next(layer["rows"] for layer in layers(recovered) if "order" in layer["encoding"])
    assert [row["order"] for row in path] == list(range(0, 88_001, 800))
    triangles = layers(recovered, 3)[1]["rows"]
    assert [row["iteration"] for row in triangles] == [45089, 73185, 45380, 70609, 87212, 71660]
    assert figure1_figures([]) == []


def plain_spaces(words: str) -> str:
    return " ".join(words.split())


def test_the_page_contains_the_verdicts_with_their_numbers(page, folder):
    reproduction = read_reproduction(folder)
    assert len(reproduction.verdicts) == len(CLAIMS)
    for verdict in [*reproduction.verdicts, *reproduction.figure1_verdicts]:
        assert verdict.statement in page.text
        assert plain_spaces(verdict.sentence) in page.text
        assert all(number.ours in page.text and number.paper in page.text for number in verdict.numbers)
    assert f"Of {len(CLAIMS)} claims {len(CLAIMS) - 2} hold, 2 do not, and 0 lack runs." in page.text
    assert "judged at epoch 20, where by the same rule the paper’s curves say: does not hold" in page.text
    badges = [attributes["class"] for tag, attributes in page.elements if tag == "span" and "class" in attributes]
    judged = [*reproduction.verdicts, *reproduction.figure1_verdicts]
    # One badge for our outcome, and one in the table for its agreement with the paper.
    assert badges.count("badge good") == sum(v.outcome == "holds" for v in judged) + sum(
        agreement(v)[1] == "good" for v in judged
    )


def test_the_page_describes_the_runs(page):
    assert "mnist, lenet5: do the paper’s claims hold?" in page.text
    assert (
        "lenet5 on mnist, 20 epochs (the paper: 200), seeds 1, 2 and 3, scale medium. 65 runs, 1 diverged." in page.text
    )
    assert "INNA (0.5, 1): 1 of 3 final runs diverged (seed 2)" in page.text
    assert "inna reproduce all --dataset mnist --scale medium" in page.text
    assert ("a", {"href": "report.html"}) in page.elements
    drawn = ("figure1", "figure2", "figure3", "figure4", "beyond", "seconds")
    for section in ("verdicts", *drawn, "numbers", "settings", "method"):
        assert ("a", {"href": f"#{section}"}) in page.elements
        assert any(attributes.get("id") == section for _, attributes in page.elements)


def test_the_page_is_one_file_with_a_policy_and_its_data(page):
    assert not [tag for tag, attributes in page.elements if tag in ("link", "script", "img") and attributes.get("src")]
    assert not [attributes for _, attributes in page.elements if "style" in attributes]
    policy = next(attributes for _, attributes in page.elements if attributes.get("http-equiv"))["content"] or ""
    assert policy.startswith("default-src 'none'")
    held = page.data("rows")
    assert len(held["rows"]) == 65
    assert held["figure1"] == json.loads(json.dumps([vars(each) for each in descents()]))
    places = {attributes["id"] for _, attributes in page.elements if attributes.get("class") == "chart"}
    assert places == set(page.data("figures")["panels"])
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", page.text)


def test_the_numbers_are_shown_beside_the_papers(folder):
    reproduction = read_reproduction(folder)
    assert reproduction.summary is not None
    lines = {line[0]: line[1:] for line in numbers_lines(reproduction.summary)}
    assert lines["SGD"] == [
        "−1.000 [−0.987, −1.013]",
        "−1.200 [−0.910, −1.318]",
        "−1.780 [−1.303, −2.080]",
        "0.9700 [0.9698, 0.9702]",
        "0.9909 [0.9768, 0.9909]",
        "0.9939 [0.9898, 0.9938]",
    ]
    assert lines["heavy ball"][1:3] == ["–", "–"]
    assert lines["INNA (0.5, 1)"][0].endswith("(1 seed diverged)")
    assert lines["INNA (0.5, 0.1), q = 1/16"][1:3] == ["−1.626 [−1.589, −1.668]", "0.609 [1.166, −1.907]"]


def test_partial_results_list_missing_runs(tmp_path):
    study = study_of()
    reproduction = read_reproduction(save(tmp_path, study, rows_of(study, without=["INNA (0.5, 1)", ("SGD", 2)])))
    assert lead(reproduction.summary).endswith("61 runs, none diverged; 4 final runs remaining.")
    section = result_section("mnist", reproduction)
    assert "Needs 3 final seeds of each optimizer; there are 0 of INNA (0.5, 1)." in section
    assert "2 hold, 0 do not, and 9 lack runs." in section


def test_final_runs_that_cannot_start_are_not_remaining(tmp_path):
    study, slowest = study_of(), "INNA (0.5, 0.1), q = 1/16"
    rows = rows_of(study, without=[slowest, ("SGD", 2)])
    contender = next(each for each in study.contenders if each.label == slowest)
    diverged = {"status": "diverged", "train_loss": math.nan}
    rows |= {run: rows[run] | diverged for run, _ in state(study, contender, rows).results(rows)}
    assert lead(read_reproduction(save(tmp_path, study, rows)).summary).endswith("; 1 final run remaining.")


def test_the_described_protocol_is_the_one_that_runs():
    stated, taken, lengths = protocol_words()
    assert "(α, β) = (0.1, 0.1), (0.5, 0.1), (0.5, 0.5) and (0.5, 1) with" in stated
    assert "training loss after 15 epochs; 200 epochs from 5 initialisations" in stated
    for contender in contenders():
        grid = ", ".join(f"{lr:g}" for lr in contender.grid)
        names = re.search(rf"{re.escape(grid)} for (.*?)(?: and 0\.|, extended)", taken)
        assert names is not None
        assert contender.label.split(" (")[0] in re.split(", | and ", names[1])
    assert "paper, 200 epochs, tuning over 15, 5 seeds" in lengths
    assert "nin, 5 epochs, tuning over 2, 1 seed, 320 images." in lengths


def test_figure_1_alone_is_a_reproduction(tmp_path):
    write_descents(tmp_path, descents())
    reproduction = read_reproduction(tmp_path)
    seen = Page(write_reproduction(tmp_path).read_text(encoding="utf-8"))
    assert "Figure 1: do the paper’s claims hold?" in seen.text
    assert "report.html" not in seen.text
    assert [figure.name for figure in reproduction.figures] == ["figure-1-recovered", "figure-1-caption"]


def test_before_its_first_run_only_figure_1_is_shown(tmp_path):
    study_of().save(tmp_path)
    with pytest.raises(ValueError, match="no run of the study is done yet"):
        write_reproduction(tmp_path)
    write_descents(tmp_path, descents())
    assert read_reproduction(tmp_path).summary is None


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no study\.json"):
        read_reproduction(tmp_path)
    study = classification_study()
    save(tmp_path, study, other_rows(study))
    assert find_reproduction(tmp_path, read_results(tmp_path)) is None
    with pytest.raises(ValueError, match="not the paper's protocol"):
        read_reproduction(tmp_path)


def test_other_grids_are_the_papers_protocol_and_other_schedules_are_not(tmp_path):
    study = study_of()
    fixed = tuple(dataclasses.replace(each, grid=(0.02, 0.05, 0.08)) for each in study.contenders)
    found = dataclasses.replace(study, contenders=fixed)
    save(tmp_path, found, rows_of(found))
    assert find_reproduction(tmp_path, read_results(tmp_path)) is not None
    others = tuple(dataclasses.replace(each, qs=(0.3,)) for each in fixed)
    other = dataclasses.replace(study, contenders=others)
    save(tmp_path, other, rows_of(other))
    assert find_reproduction(tmp_path, read_results(tmp_path)) is None


def test_innaprop_without_a_learning_rate_may_stand_beside_the_protocol(tmp_path):
    free = dataclasses.replace(LR_FREE, grid=(0.5, 0.7, 1.0))
    study = study_of(contenders=[*study_of().contenders, free])
    ends = {free.label: (0.001, 0.99, 1.0)}
    save(tmp_path / "both", study, rows_of(study, ends))
    figures = {figure.name: figure for figure in read_reproduction(tmp_path / "both").figures}
    assert figures["beyond"].title == "Beyond the paper: heavy ball, AdamW, INNAprop and INNAprop.lr_free"
    assert "INNAprop.lr_free" in {row["contender"] for row in layers(figures["seconds"])[0]["rows"]}
    alone = dataclasses.replace(study, contenders=(free,), reference=free.label)
    save(tmp_path / "alone", alone, rows_of(alone, ends))
    assert find_reproduction(tmp_path / "alone", read_results(tmp_path / "alone")) is None


def test_the_pictures_of_a_reproduction_are_figure_1_and_the_others(folder):
    names = [figure.name for figure in read_reproduction(folder).figures]
    assert names == ["figure-1-recovered", "figure-1-caption", "figure-2", "figure-3", "figure-4", "beyond", "seconds"]


def test_the_markdown_contains_every_verdict_and_number(folder):
    reproduction = read_reproduction(folder)
    assert reproduction.summary is not None
    section = result_section("mnist", reproduction)
    for verdict in [*reproduction.verdicts, *reproduction.figure1_verdicts]:
        assert f"| {verdict.statement} | **{verdict.outcome}**" in section
        assert f"- *{verdict.statement}* {verdict.sentence}" in section
    for line in numbers_lines(reproduction.summary):
        assert f"| {' | '.join(line)} |" in section
    for figure in reproduction.figures:
        assert f"(images/reproduction-mnist-{figure.name}.png)" in section
    assert section.startswith(lead(reproduction.summary))
    assert "    inna reproduce all --dataset mnist --scale medium" in section
    widths = {table.count("|") for table in re.findall(r"^\| claim .*$", section, re.MULTILINE)}
    assert widths == {3, 5}


def test_data_without_curves_of_the_paper_have_no_empty_columns(tmp_path):
    study = study_of("digits", "small-cnn")
    section = result_section("digits", read_reproduction(save(tmp_path, study, rows_of(study))))
    assert "|  | log₁₀ training loss, epoch 20 | test accuracy, epoch 20 |" in section
    assert "| claim | verdict |\n" in section


def test_a_page_keeps_handwritten_text():
    by_hand = f"# Title\n\nBefore.\n\n{begin_mark('a')}\nold\n{end_mark('a')}\n\nAfter.\n"
    page = fill(by_hand, "a", "new")
    assert page == f"# Title\n\nBefore.\n\n{begin_mark('a')}\n\nnew\n\n{end_mark('a')}\n\nAfter.\n"
    assert fill(page, "a", "new") == page
    more = fill(page, "b", "other")
    assert more.startswith(page.rstrip())
    assert sections(more) == ["a", "b"]
    for broken in (by_hand + by_hand, by_hand.replace(end_mark("a"), ""), end_mark("a") + begin_mark("a")):
        with pytest.raises(ValueError, match="must contain each of"):
            fill(broken, "a", "new")


def write_reproduction_script() -> Any:
    return load_script("docs/write_reproduction.py")


def test_the_script_fills_a_page_and_draws_its_pictures(tmp_path):
    script = write_reproduction_script()
    study = study_of(contenders=[each for each in study_of().contenders if each.label in ("SGD", "AdaGrad")])
    folder = save(tmp_path / "few", study, rows_of(study))
    page = tmp_path / "reproduction.md"
    page.write_text("# By hand\n", encoding="utf-8")
    written = script.write_page(page, [folder])
    assert written[0] == page
    text = page.read_text(encoding="utf-8")
    assert sections(text) == [*WRITTEN, "few"]
    assert [path.name for path in written[1:]] == ["reproduction-few-figure-3.png", "reproduction-few-seconds.png"]
    assert written[1].read_bytes().startswith(b"\x89PNG")
    for reference in re.findall(r"\]\((images/.*?\.png)\)", text):
        assert tmp_path / reference in written
    assert text.startswith("# By hand\n")
    script.write_page(page, [folder], pictures=False)
    assert page.read_text(encoding="utf-8") == text


def test_the_committed_page_matches_the_results(tmp_path):
    page = tmp_path / "reproduction.md"
    committed = (DOCS / "reproduction.md").read_text(encoding="utf-8")
    page.write_text(committed, encoding="utf-8")
    write_reproduction_script().write_page(page, [], pictures=False)
    assert page.read_text(encoding="utf-8") == committed, "run python docs/write_reproduction.py"
    for reference in re.findall(r"\]\((images/.*?\.png)\)", committed):
        assert (DOCS / reference).is_file()


def test_the_table_of_verdicts_has_the_papers_and_ours(tmp_path):
    study = study_of()
    page = Page(write_reproduction(save(tmp_path, study, rows_of(study))).read_text(encoding="utf-8"))
    verdicts = read_reproduction(tmp_path).verdicts
    assert page.text.index("Of 11 claims") < page.text.index("The paper, epoch 20") < page.text.index("Each claim with")
    for verdict in verdicts:
        cells = f"{verdict.statement} {verdict.paper or '–'} {verdict.paper_end or '–'} {verdict.outcome}"
        assert f"{cells} {agreement(verdict)[0]}" in page.text


def test_agreement_is_with_the_papers_curves_or_else_with_the_claim():
    verdict = read_verdict("holds", None)
    assert agreement(verdict)[0] == "confirmed"
    assert agreement(read_verdict("does not hold", None))[0] == "not confirmed"
    assert agreement(read_verdict("does not hold", "does not hold"))[0] == "as in the paper"
    assert agreement(read_verdict("holds", "does not hold"))[0] == "differs"
    assert agreement(read_verdict("not enough runs", "holds"))[0] == "not enough runs"


def read_verdict(outcome, paper):
    return Verdict("name", "statement", "source", outcome, "epoch 20", (), paper, None, "")


def test_the_legend_has_only_what_is_drawn(tmp_path):
    study = study_of()
    folder = save(tmp_path, study, rows_of(study, without=["Adam", "SGD"]))
    page = Page(write_reproduction(folder).read_text(encoding="utf-8"))
    shown = [attributes["data-contender"] for _, attributes in page.elements if attributes.get("data-contender")]
    assert sorted(shown) == sorted(label for label in FINE if label not in ("Adam", "SGD"))
