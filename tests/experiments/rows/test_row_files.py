"""Row files: they hold what was written, or say that they are damaged."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import inna
from inna.experiments.rows.check_result import check_result
from inna.experiments.rows.documents import row_document
from inna.experiments.rows.history import by_column
from inna.experiments.rows.origins import unused_sources_note, versions_note
from inna.experiments.rows.pack import pack
from inna.experiments.rows.results import history
from inna.experiments.rows.row_files import find_result, load_rows, read_row, read_rows, row_path, write_row
from inna.experiments.rows.run import Run, as_json

RESULTS = Path(__file__).parents[3] / "results"
RUN = Run("digits", "cnn", "adam", 0.1, settings=(("betas", (0.9, 0.99)), ("amsgrad", True), ("eps", None)))
RESULT = {"status": "diverged", "train_loss": math.nan, "history": [{"epoch": 0, "lr": 0.1, "train_loss": math.inf}]}


def test_a_row_survives_its_file(tmp_path):
    run, result = read_row(write_row(tmp_path, RUN, RESULT))
    assert run == RUN
    assert hash(run) == hash(RUN)
    assert math.isnan(result.pop("train_loss"))
    assert result == {name: value for name, value in RESULT.items() if name != "train_loss"}


def test_equal_runs_have_one_key_however_their_numbers_are_written():
    assert Run("d", "m", "inna", 1, 1, 0, 0).key == Run("d", "m", "inna", 1.0, 1.0, 0.0, 0.0).key
    assert Run("d", "m", "adam", 1.0, settings=(("betas", [0.9, 0.99]),)) == Run(
        "d", "m", "adam", 1.0, settings=(("betas", (0.9, 0.99)),)
    )


@given(st.binary(min_size=1, max_size=3), st.floats(0, 1, exclude_max=True))
def test_any_changed_bytes_are_noticed(tmp_path_factory, noise, place):
    folder, named = tmp_path_factory.mktemp("rows"), []
    path = write_row(folder, RUN, RESULT)
    content = path.read_bytes()
    start = int(place * len(content))
    path.write_bytes(content[:start] + noise + content[start + len(noise) :])
    found = read_rows(folder, on_damage=named.append)
    # Either it is noticed, and the file is named, or only white space was written otherwise.
    assert len(found) + len(named) == 1
    assert all(str(path) in line for line in named)
    assert all(row_document(RUN, result) == row_document(RUN, RESULT) for result in found.values())


@pytest.mark.parametrize("length", [0, 1, 100])
def test_a_row_that_was_cut_short_is_left_out_and_named(tmp_path, length):
    whole = write_row(tmp_path, Run("digits", "cnn", "sgd", 0.1), RESULT)
    cut = write_row(tmp_path, RUN, RESULT)
    cut.write_bytes(cut.read_bytes()[:length])
    with pytest.warns(UserWarning, match=cut.name):
        assert [row_path(tmp_path, run) for run in read_rows(tmp_path)] == [whole]


def test_the_run_inside_decides_whose_row_a_file_is(tmp_path):
    first, second = RUN, Run("digits", "cnn", "sgd", 0.1)
    own = write_row(tmp_path, first, RESULT)
    copy = row_path(tmp_path, second)
    shutil.copy(own, copy)
    assert [*read_rows(tmp_path)] == [first]
    assert find_result(tmp_path, second, pytest.fail) is None
    write_row(tmp_path, second, {"status": "done"})
    assert {**read_rows(tmp_path)}[second] == {"status": "done"}
    assert find_result(tmp_path, second, pytest.fail) == {"status": "done"}
    # Where the only row of a run has another's name, it is found, and gets its own before the other is written.
    own.rename(copy)
    assert find_result(tmp_path, first, pytest.fail)["status"] == "diverged"
    write_row(tmp_path, second, {"status": "done"})
    assert {*read_rows(tmp_path)} == {first, second}
    assert own.exists()


def test_of_two_files_of_a_run_that_with_its_name_counts(tmp_path):
    own = write_row(tmp_path, RUN, {"status": "old"})
    for name in ("a.row.json", "z.row.json"):
        shutil.copy(own, tmp_path / name)
    write_row(tmp_path, RUN, {"status": "new"})
    assert read_rows(tmp_path)[RUN]["status"] == "new"
    assert pack(tmp_path).rows == 1
    assert read_rows(tmp_path)[RUN]["status"] == "new"


def test_keys_of_runs_without_an_optimizer_of_ones_own_are_those_of_the_first_version():
    assert "optimizer_source" not in as_json(RUN)
    assert replace(RUN, optimizer_source="v2:1").key != RUN.key


def test_results_of_other_versions_are_counted():
    other = {"versions": {"inna": "0.0.1"}}
    assert versions_note([{}, {"versions": {"inna": inna.__version__}}]) == ""
    assert versions_note([other, other, {}]).startswith(
        f"2 results are from inna 0.0.1; this is inna {inna.__version__}."
    )


def test_rows_of_another_task_or_optimizer_of_the_same_name_are_counted():
    used = [replace(RUN, source="v2:a", optimizer_source="v2:b")]
    others = [RUN, replace(used[0], source="0" * 64), replace(used[0], optimizer_source="v2:c")]
    assert unused_sources_note(used, used) == ""
    assert unused_sources_note([*used, replace(RUN, dataset="mnist"), replace(RUN, optimizer="sgd")], used) == ""
    assert unused_sources_note([*used, *others], used).startswith("3 results of the folder are not used")


def test_load_rows_has_a_line_per_run(tmp_path):
    write_row(tmp_path, RUN, {"status": "done", "train_loss": 0.5})
    frame = load_rows(tmp_path)
    assert frame[["dataset", "lr", "status", "train_loss"]].values.tolist() == [["digits", 0.1, "done", 0.5]]


@pytest.mark.parametrize("packed", [False, True])
def test_load_rows_gives_histories_as_lists_of_dictionaries(tmp_path, packed):
    history = [{"epoch": 0, "train_loss": 2.3}, {"epoch": 1, "train_loss": 0.5}]
    write_row(tmp_path, RUN, {"status": "done", "history": history})
    if packed:
        pack(tmp_path)
    (found,) = load_rows(tmp_path)["history"]
    assert type(found) is list
    assert json.loads(json.dumps(found)) == history


@pytest.mark.parametrize(
    "changes",
    [{"lr": 0.0}, {"lr": math.nan}, {"q": -1.0}, {"alpha": -0.5}, {"epochs": 0}, {"seed": -1}, {"epochs": 1.5}],
)
def test_runs_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
        Run(**{"dataset": "d", "model": "m", "optimizer": "sgd", "lr": 0.1} | changes)


def test_the_loss_of_a_constant_output_may_be_unknown_but_is_a_number():
    for value in (None, 2.3, -1):
        check_result({"constant_loss": value})
    for value in ("2.3", True, 10**400, [2.3]):
        with pytest.raises(ValueError, match="constant_loss must be a number"):
            check_result({"constant_loss": value})


def test_a_history_is_counted_by_epochs_or_iterations():
    by_step = [{"step": 100, "train_loss": 2.0}, {"step": 200, "train_loss": 1.0}]
    check_result({"history": by_step})
    check_result({"history": by_column(by_step)})
    assert history({"history": by_step}) == ()
    for entries in ([{"train_loss": 2.0}], [{"step": 0.5}], [{"epoch": 0.5}], [7]):
        with pytest.raises(ValueError, match=r"history must have epoch or step in each entry|must be a whole number"):
            check_result({"history": entries})


def test_the_committed_rows_are_read():
    folders = [path.parent for path in RESULTS.glob("*/rows.jsonl")]
    assert len(folders) >= 8
    for folder in folders:
        assert read_rows(folder, on_damage=pytest.fail)
