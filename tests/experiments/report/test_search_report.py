"""The report of a search: its figure, its table and its words."""

from __future__ import annotations

import io
import re
from typing import Any

from rich.console import Console

from inna.experiments.charts.drawing import interactive
from inna.experiments.charts.themes import LIGHT
from inna.experiments.comparison import contender
from inna.experiments.report.figures import figures
from inna.experiments.report.sentences import method_notes, near_best_name
from inna.experiments.report.write import print_table, write_report
from inna.experiments.rows.run import Run
from inna.experiments.statistics.summary import summarize
from inna.experiments.study.tuning import state
from synthetic_study import classification_study, result, save

CONTENDERS = tuple(contender(name, schedules=(0.0, "linear"), search=True) for name in ("sgd", "heavy-ball"))
STUDY = classification_study(contenders=CONTENDERS, reference="SGD", trials=8, tuning_epochs=8)


def search_rows() -> dict[Run, dict[str, Any]]:
    rows: dict[Run, dict[str, Any]] = {}
    for each in CONTENDERS:
        while due := [run for run in state(STUDY, each, rows).plan if run not in rows]:
            rows |= {run: result(STUDY, each, run) for run in due}
        rows |= {run: result(STUDY, each, run) for run in state(STUDY, each, rows).finals}
    return rows


ROWS = search_rows()


def test_the_figure_shows_each_trial_where_its_training_ended() -> None:
    figure = next(each for each in figures(summarize(STUDY, ROWS)) if each.name == "tuning")
    assert [panel.title for panel in figure.panels] == ["Schedule: constant", "Schedule: linear to 0"]
    assert "after 1, 2, 4 or 8 epochs" in figure.caption
    drawn = [
        point
        for panel in figure.panels
        for points in interactive(figure, panel, LIGHT)[1].values()
        for point in points
        if "settings" in point
    ]
    for each in CONTENDERS:
        tuning = state(STUDY, each, ROWS)
        ends: dict[Run, int] = {}
        for run in tuning.plan:
            if (
                run.seed == STUDY.tuning_seed and run.epochs <= STUDY.tuning_epochs
            ):  # the finalists' last rung is longer
                ends[run.trajectory] = max(run.epochs, ends.get(run.trajectory, 0))
        marks = {
            (point["lr"], point["settings"], point["epochs"]) for point in drawn if point["contender"] == each.label
        }
        assert {(lr, epochs) for lr, _, epochs in marks} == {(run.lr, epochs) for run, epochs in ends.items()}
        (ring,) = {point["lr"] for point in drawn if point["contender"] == each.label and point["chosen"]}
        assert tuning.choice is not None
        assert ring == tuning.choice.lr


def test_table_and_page_name_what_was_searched(tmp_path) -> None:
    summary = summarize(STUDY, ROWS)
    console = Console(file=io.StringIO(), width=240, color_system=None)
    print_table(summary, console)
    table = console.file.getvalue()
    assert re.search(r"momentum = 0\.\d+", table)
    assert near_best_name(STUDY) == "Trials near best"
    assert "8 trials for each optimizer" in method_notes(summary)[0]
    page = write_report(save(tmp_path, STUDY, ROWS)).read_text(encoding="utf-8")
    chosen = [entry.choice.run.arguments["momentum"] for entry in summary.entries[1:] if entry.choice]
    assert f"γ = {summary.entries[1].choice.lr:g} (from 0.0001 to 1)" in page
    assert f"momentum = {chosen[0]:g} (from 0.5 to 0.99), dampening = 0, weight_decay = 0" in page
    assert "seeds 0, 1000, 8 trials" in page or "seeds 0 and 1000, 8 trials" in page
    for entry in summary.entries:
        assert 1 <= entry.near_best <= len(entry.comparable)
