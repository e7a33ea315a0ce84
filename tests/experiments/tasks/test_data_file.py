"""Data sets of one's own from .npz files: what is read, what is refused, and that rows are tied to the bytes."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inna.cli import run as run_command
from inna.experiments import compare, load_rows, train
from inna.experiments.comparison import make_run, make_study
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.sweep import sweep
from inna.experiments.sweep.workers import SweepError
from inna.experiments.tasks.data_file import ARRAYS, read_data_file
from inna.experiments.tasks.load import load_task, task_of
from inna.paper.protocol import Scale
from inna.paper.reproduction import find_reproduction, read_results

SIZES = st.sampled_from([(1, 8, 8), (3, 8, 9), (1, 28, 28), (3, 20, 33), (3, 40, 32)])


def arrays(shape=(6,), classes=3, train=9, test=4, *, dtype=np.float32, seed=0):
    """Return arrays that are accepted, of samples of any shape."""
    draw = np.random.default_rng(seed)

    def samples(count):
        if dtype == np.uint8:
            return draw.integers(0, 256, (count, *shape), dtype=np.uint8)
        return draw.standard_normal((count, *shape)).astype(dtype)

    return {
        "x_train": samples(train),
        "y_train": np.arange(train) % classes,
        "x_test": samples(test),
        "y_test": np.arange(test) % classes,
    }


def write(folder: Path, content, name="mine.npz") -> Path:
    path = folder / name
    np.savez(path, **content)
    return path


@settings(max_examples=12, deadline=None)
@given(
    shape=SIZES,
    last=st.booleans(),
    dtype=st.sampled_from([np.uint8, np.float16, np.float32, np.float64]),
    classes=st.integers(2, 5),
    labels=st.sampled_from([np.uint8, np.int16, np.int64, np.uint64]),
    column=st.booleans(),
    packed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_images_are_read_in_either_layout_and_every_network_takes_them(
    shape, last, dtype, classes, labels, column, packed, seed, tmp_path_factory
):
    content = arrays(shape, classes, dtype=dtype, seed=seed)
    path = tmp_path_factory.mktemp("data") / "mine.npz"
    stored = {
        name: array.transpose(0, 2, 3, 1) if last and name[0] == "x" else array for name, array in content.items()
    }
    stored |= {name: stored[name].astype(labels).reshape(-1, *[1] * column) for name in ("y_train", "y_test")}
    (np.savez_compressed if packed else np.savez)(path, other=np.arange(3), **stored)
    data = read_data_file(path)
    assert (data.entry.shape, data.entry.classes) == (shape, classes)
    assert data.source == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    for part, (samples, found) in (("train", data.train), ("test", data.test)):
        expected = content[f"x_{part}"].astype(np.float32) / (255 if dtype == np.uint8 else 1)
        assert samples.dtype == np.float32
        assert np.array_equal(samples, expected.astype(np.float32))
        assert np.array_equal(found, content[f"y_{part}"])
    for model in data.entry.networks:
        task, source = load_task(str(path), model=model)
        task.check()
        assert (source, task.model_name) == (data.source, model)
        with torch.no_grad():
            assert task.model()(task.train[0][:2]).shape == (2, classes)


def test_digits_in_a_file_give_the_numbers_of_the_built_in_task(tmp_path):
    builtin, _ = load_task("digits")
    (x, y), (xt, yt) = builtin.train, builtin.test
    content = {"x_train": x.numpy(), "y_train": y.numpy(), "x_test": xt.numpy(), "y_test": yt.numpy()}
    path = write(tmp_path, content)
    ours = train(make_run("sgd", str(path), lr=0.1, epochs=1))
    theirs = train(make_run("sgd", "digits", lr=0.1, epochs=1))
    assert [ours[name] for name in ("model", "train_loss", "test_loss", "test_accuracy")] == [
        theirs[name] for name in ("model", "train_loss", "test_loss", "test_accuracy")
    ]


def test_grey_images_need_no_channels_and_a_subset_has_its_name(tmp_path):
    path = write(tmp_path, arrays((28, 28), dtype=np.uint8, train=20, test=10))
    assert read_data_file(path).entry.shape == (1, 28, 28)
    task, source = load_task(f"{path}[:10]")
    assert (len(task.train[0]), len(task.test[0]), source) == (10, 5, read_data_file(path).source)
    with pytest.raises(ValueError, match="has 20 training images"):
        load_task(f"{path}[:21]")


def changed(**new):
    return lambda content: content | new


def without(name):
    return lambda content: {key: array for key, array in content.items() if key != name}


INFINITE = np.full((9, 6), 1e39)
REFUSED = [
    (
        without("y_test"),
        r"no array y_test; needed are x_train, y_train, x_test, y_test, it has x_train, y_train, x_test",
    ),
    (changed(x_train=np.array([{}] * 9)), "x_train is an array of Python objects, which can run code"),
    (changed(y_train=np.array([None] * 9)), "y_train is an array of Python objects"),
    (changed(x_train=np.full((9, 6), "a")), "x_train must be uint8 images .* or floats; got <U1 of shape"),
    (changed(x_train=np.ones((9, 6), np.int64)), r"x_train must be uint8 .* or floats; got int64 of shape \(9, 6\)"),
    (changed(x_train=np.ones((9, 6), complex)), "x_train must be uint8 .*; got complex128"),
    (changed(x_train=np.ones((9, 6), np.uint8)), r"x_train must be images of shape .*; got uint8 of shape \(9, 6\)"),
    (changed(x_train=np.ones(9)), r"x_train must be images of shape .*; got float64 of shape \(9,\)"),
    (changed(x_train=np.ones((9, 2, 2, 2, 2))), "x_train must be images of shape"),
    (changed(x_train=np.ones((9, 8, 8, 2))), "x_train must have 1 or 3 channels, .*; neither is 1 or 3"),
    (changed(x_train=np.ones((9, 3, 8, 3))), "both the second and the last dimension are 1 or 3"),
    (changed(x_train=np.ones((0, 6))), r"x_train is empty; got float64 of shape \(0, 6\)"),
    (changed(x_train=np.where(np.eye(9, 6), np.nan, 0)), "x_train must be finite in float32; 6 of 54 values are not"),
    (changed(x_train=INFINITE), "x_train must be finite in float32; 54 of 54 values"),
    (changed(y_train=np.ones(9)), "y_train must be whole numbers of an integer type, .*; got float64"),
    (changed(y_train=np.ones(9, bool)), "y_train must be whole numbers of an integer type, .*; got bool"),
    (
        changed(y_train=np.ones((9, 2), int)),
        r"y_train must be one label per sample, .* \(N, 1\); got int64 of shape \(9, 2\)",
    ),
    (changed(y_train=np.int64(1)), r"y_train must be one label per sample"),
    (changed(y_train=np.arange(9) % 3 - 1), "y_train must be classes 0, 1, ...; got the label -1"),
    (
        changed(y_train=np.full(9, 2**64 - 1, np.uint64)),
        "y_train must be classes .*; got the label 18446744073709551615",
    ),
    (changed(y_train=np.arange(9) % 3 * 2), "y_train must contain every class from 0 to its largest label, 4; class 1"),
    (changed(y_train=np.zeros(9, int)), "y_train must contain at least two classes; got only 0"),
    (changed(y_test=np.full(4, 3)), "y_test must contain classes of y_train, 0 .. 2; got the label 3"),
    (changed(y_train=np.arange(8) % 3), "x_train and y_train must have one length; got 9 and 8"),
    (
        changed(x_test=np.ones((4, 5), np.float32)),
        r"x_train and x_test must be alike, .*\(9, 6\) and float32 of shape \(4, 5\)",
    ),
    (changed(x_test=np.ones((4, 6))), "x_train and x_test must be alike, .*; got float32 .* and float64"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_other_files_are_refused_in_one_line_that_names_file_and_array(change, words, tmp_path, capsys):
    path = write(tmp_path, change(arrays()))
    with pytest.raises(ValueError, match=re.escape(str(path)) + ".*" + words) as raised:
        read_data_file(path)
    assert "\n" not in str(raised.value)
    assert run_command(["datasets", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_type_that_differs_between_train_and_test_is_refused(tmp_path):
    content = arrays((8, 8), dtype=np.uint8)
    path = write(tmp_path, content | {"x_test": content["x_test"].astype(np.float32)})
    with pytest.raises(ValueError, match=r"must be alike, .*; got uint8 .* and float32"):
        read_data_file(path)


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), flip=st.booleans(), packed=st.booleans())
def test_damaged_files_are_refused_or_read_as_they_were(share, flip, packed, tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / "mine.npz"
    (np.savez_compressed if packed else np.savez)(path, **arrays())
    whole, before = path.read_bytes(), read_data_file(path)
    at = int(share * len(whole))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :] if flip else whole[:at])
    error = ""
    try:
        after = read_data_file(path)
    except ValueError as raised:
        error = str(raised)
    if error:
        assert str(path) in error
        assert "\n" not in error
        return
    # A byte that does not concern the arrays, such as a date.
    assert flip
    assert after.source != before.source
    for ours, theirs in zip([*before.train, *before.test], [*after.train, *after.test], strict=True):
        assert np.array_equal(ours, theirs)


def test_no_npz_file_is_named_as_such_and_no_pickle_runs(tmp_path):
    (tmp_path / "text.npz").write_text("x_train")
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    for name, words in (
        ("text.npz", "not an .npz file"),
        ("one.npz", "not an .npz file"),
        ("none.npz", "no such file"),
    ):
        with pytest.raises(ValueError, match=words):
            load_task(str(tmp_path / name))
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as archive:
        for name in ARRAYS:
            archive.writestr(f"{name}.npy", b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ValueError, match=r"x_train is (not an array|damaged|an array of Python objects)"):
        load_task(str(tmp_path / "raw.npz"))


SHORT = {"epochs": 1, "tuning_epochs": 1, "seeds": (1,), "grid": (0.1,), "schedules": (0.0,)}


def test_rows_have_the_sha256_and_another_file_of_the_name_is_refused(tmp_path):
    path, folder = write(tmp_path, arrays()), tmp_path / "rows"
    rows = compare(str(path), optimizers=["sgd"], folder=folder, **SHORT).rows
    source = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert set(rows["source"]) == set(load_rows(folder)["source"]) == {source}
    before = {row.name: row.read_bytes() for row in folder.glob("*.row.json")}
    run = make_run("sgd", str(path), lr=0.1)
    write(tmp_path, arrays(seed=1))
    with pytest.raises(ValueError, match=rf"mine\.npz is not the file of the run: .*, the run's {source}"):
        task_of(run)
    with pytest.raises(SweepError, match=r"has results of another .*mine\.npz: its SHA-256 was sha256:"):
        compare(str(path), optimizers=["sgd"], folder=folder, **SHORT)
    assert {row.name: row.read_bytes() for row in folder.glob("*.row.json")} == before
    write(tmp_path, arrays())
    assert len(compare(str(path), optimizers=["sgd"], folder=folder, **SHORT).rows) == len(rows)


@pytest.mark.slow
def test_worker_processes_read_the_file_again_and_refuse_another(tmp_path):
    path = write(tmp_path, arrays())
    study = make_study(str(path), ["sgd", "adam"], **SHORT)
    rows, failures = sweep(study, tmp_path / "rows", SweepOptions(jobs=2))
    assert (len(rows), failures) == (4, [])
    write(tmp_path, arrays(seed=1))
    rows, failures = sweep(study, tmp_path / "other rows", SweepOptions(jobs=2))
    assert rows == {}
    assert all("is not the file of the run" in failure.error for failure in failures)


def test_the_commands_take_a_file_and_name_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, arrays((8, 8), dtype=np.uint8))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    few = ["--epochs", "1", "--tuning-epochs", "1", "--seeds", "1", "--grid", ".1", "--schedules", "0", "--jobs", "1"]
    assert run_command(["compare", "--dataset", "mine.npz", "--optimizer", "sgd", *few]) == 0
    assert run_command(["train", "sgd", "--dataset", "mine.npz", "--model", "mlp", "--epochs", "1"]) == 0
    assert digest in (tmp_path / "runs/mine/report.html").read_text()
    capsys.readouterr()
    assert run_command(["status", "runs/mine"]) == 0
    assert digest in capsys.readouterr().out.replace("\n", "")
    assert run_command(["datasets", "mine.npz"]) == 0
    shown = capsys.readouterr().out
    assert "8 x 8 grey, 3 classes" in shown
    assert digest in shown
    assert run_command(["compare", "--dataset", "mine.npz", "--model", "nin"]) == 2
    assert "the networks for mine.npz are small-cnn, mlp; got 'nin'" in capsys.readouterr().err
    write(tmp_path, arrays((8, 8), dtype=np.uint8, seed=1))
    assert run_command(["compare", "--dataset", "mine.npz", "--optimizer", "sgd", *few]) == 1
    error = capsys.readouterr().err
    assert "has results of another mine.npz" in error
    assert error.count("\n") == 1


def test_a_reproduction_of_ones_own_data_is_judged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("inna.paper.protocol.QUICK", {"mlp": Scale(1, 1, (1,), 8)})
    write(tmp_path, arrays())
    assert run_command(["reproduce", "fig2", "--dataset", "mine.npz", "--jobs", "1"]) == 0
    folder = tmp_path / "runs/reproduce-mine-mlp-quick"
    reproduction = find_reproduction(folder, read_results(folder))
    assert reproduction is not None
    assert (folder / "reproduction.html").exists()
    assert {run.dataset for run, _ in reproduction.results.summary.rows()} == {"mine.npz[:8]"}


def test_a_width_is_the_networks_name_in_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, arrays((20, 20), train=4, test=2, classes=2))
    assert run_command(["train", "sgd", "--dataset", "mine.npz", "--width", "0.1", "--epochs", "1"]) == 0
    assert set(load_rows(tmp_path / "runs/mine-nin-w0.1-train")["model"]) == {"nin-w0.1"}
