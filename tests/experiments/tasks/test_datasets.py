"""What is read from the files of the data sets: small files of the same layouts, and the real ones where they are.

The real ones are read where INNA_DATA (or the user's cache folder) holds them; nothing is fetched here.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest
import torch

from inna.cli import run
from inna.experiments.tasks import datasets
from inna.experiments.tasks.catalogue import CATALOGUE
from inna.experiments.tasks.local_files import DataError, file_states

TRAIN, TEST = 7, 3
CIFAR_TEST_FILES = ("test_batch.bin", "test.bin")


def pixels(seed, count, shape):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels(count, classes):
    return (np.arange(count) * 37 % classes).astype(np.uint8)


def idx(array):
    header = bytes((0, 0, 8, array.ndim)) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    return header + array.tobytes()


def published(name, content):
    """The file of the catalogue with other content, which its checksum vouches for."""
    (file,) = (file for file in CATALOGUE[name].files if file.name == content[0])
    return dataclasses.replace(file, sha256=hashlib.sha256(content[1]).hexdigest(), addresses=())


def small_mnist(name):
    for part, count, seed in (("train", TRAIN, 1), ("t10k", TEST, 2)):
        yield f"{part}-images-idx3-ubyte.gz", gzip.compress(idx(pixels(seed, count, (28, 28))))
        yield f"{part}-labels-idx1-ubyte.gz", gzip.compress(idx(labels(count, 10)))


def small_cifar(name):
    """An archive with two images a training batch (seven in CIFAR-100's only one), and a file that nobody reads."""
    (file,) = CATALOGUE[name].files
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        # The publisher's archives do not have their members in the order of their names either.
        for number, member in reversed(list(enumerate([*file.contents, f"{name}/readme.html"]))):
            content = b"".join(records(name, member, number))
            header = tarfile.TarInfo(member)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    yield file.name, buffer.getvalue()


def records(name, member, number):
    count = TEST if member.endswith(CIFAR_TEST_FILES) else 2 if name == "cifar10" else TRAIN
    fine = labels(count, CATALOGUE[name].classes)
    for image, label in zip(pixels(number, count, (3, 32, 32)), fine, strict=True):
        yield bytes([19, label] if name == "cifar100" else [label]) + image.tobytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("INNA_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def small(folder, monkeypatch):
    def lay_down(name):
        files = []
        for content in (small_cifar if name.startswith("cifar") else small_mnist)(name):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / content[0]).write_bytes(content[1])
            files.append(published(name, content))
        monkeypatch.setitem(CATALOGUE, name, dataclasses.replace(CATALOGUE[name], files=tuple(files), train=5))

    return lay_down


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_idx_files_become_tensors_split_as_in_the_paper(small, name):
    small(name)
    (images, classes), (test_images, test_classes) = datasets.published(name)
    assert (images.dtype, classes.dtype) == (torch.float32, torch.int64)
    assert np.array_equal(images.numpy() * 255, pixels(1, TRAIN, (1, 28, 28)))
    assert np.array_equal(test_images.numpy() * 255, pixels(2, TEST, (1, 28, 28)))
    assert classes.tolist() == labels(TRAIN, 10).tolist()
    assert test_classes.tolist() == labels(TEST, 10).tolist()
    load = {"mnist": datasets.mnist, "fashion-mnist": datasets.fashion_mnist}[name]
    (first, first_classes), (whole_test, _) = load()
    assert first.equal(images[:5])
    assert first_classes.equal(classes[:5])
    assert whole_test.equal(test_images)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifars_binary_form_becomes_tensors(small, name):
    small(name)
    (images, classes), (test_images, test_classes) = datasets.published(name)
    batches = [2] * 5 if name == "cifar10" else [TRAIN]
    expected = np.concatenate([pixels(number, count, (3, 32, 32)) for number, count in enumerate(batches)])
    assert (images.dtype, classes.dtype) == (torch.float32, torch.int64)
    assert np.array_equal(images.numpy() * 255, expected)
    assert np.array_equal(test_images.numpy() * 255, pixels(len(batches), TEST, (3, 32, 32)))
    classes_of = CATALOGUE[name].classes
    assert classes.tolist() == [label for count in batches for label in labels(count, classes_of).tolist()]
    assert test_classes.tolist() == labels(TEST, classes_of).tolist()
    (first, _), _ = {"cifar10": datasets.cifar10, "cifar100": datasets.cifar100}[name]()
    assert first.equal(images[:5])


def test_cifar10_unpacked_elsewhere_is_found(folder, monkeypatch):
    name = "cifar10"
    (file,) = CATALOGUE[name].files
    contents = {}
    for number, member in enumerate(file.contents):
        content = b"".join(records(name, member, number))
        path = folder / member
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        contents[member] = f"md5:{hashlib.md5(content).hexdigest()}"
    file = dataclasses.replace(file, contents=contents, addresses=())
    monkeypatch.setitem(CATALOGUE, name, dataclasses.replace(CATALOGUE[name], files=(file,)))
    (images, _), (test_images, _) = datasets.cifar10()
    assert (len(images), len(test_images)) == (10, TEST)
    damaged = folder / next(iter(contents))
    damaged.write_bytes(b"?" + damaged.read_bytes()[1:])
    with pytest.raises(DataError, match=r"data_batch_1\.bin is damaged or another file"):
        datasets.cifar10()


def test_names_that_are_not_published_as_files():
    with pytest.raises(ValueError, match="digits is not published as files"):
        datasets.published("digits")
    with pytest.raises(ValueError, match="the data sets are"):
        datasets.published("mnits")


# Sums over the whole sets, from the published files: they stand for every byte and for the order of the files.
REAL = {
    "mnist": (
        "8010dd34fae03d685af56087b70c4021bc1e0373846dfa92450350fdff5c03b1",
        [4932, 5678, 4968, 5101, 4859, 4506, 4951, 5175, 4842, 4988],
    ),
    "cifar10": ("29cb2ad53a4b83dc13a413c44675ac385e4656a3cfdf151ff071d7b1f3789d28", [5000] * 10),
    "fashion-mnist": (None, None),
    "cifar100": (None, [500] * 100),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_data(name):
    if not all(state.place for state in file_states(CATALOGUE[name])):
        pytest.skip(f"{name} is not here: set INNA_DATA to a folder that holds it")
    digest, counts = REAL[name]
    load = getattr(datasets, name.replace("-", "_"))
    (images, classes), (test_images, test_classes) = load()
    described = CATALOGUE[name]
    assert images.shape == (described.train, *described.shape)
    assert test_images.shape == (described.test, *described.shape)
    assert (images.min(), images.max()) == (0, 1)
    assert test_classes.bincount().numel() == described.classes
    if counts is not None:
        assert classes.bincount().tolist() == counts
    if digest is not None:
        parts = (images, classes, test_images, test_classes)
        assert hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest() == digest


def test_the_command_shows_all_and_one_and_what_is_damaged(small, folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    small("mnist")
    (folder / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"cut")
    (folder / "cifar-100-binary.tar.gz").write_bytes(b"cut")
    assert run(["datasets"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert set(CATALOGUE) <= set(lines)
    for name, here in {"digits": " yes ", "mnist": " damaged ", "cifar10": " no ", "cifar100": " damaged "}.items():
        assert here in lines[name]
    assert "170 MB" in lines["cifar10"]
    assert "CC BY-SA 3.0" in lines["mnist"]
    assert run(["datasets", "mnist"]) == 0
    shown = capsys.readouterr().out
    assert f"here, intact: {folder}/mnist/train-images-idx3-ubyte.gz" in shown
    assert f"damaged or another file: {folder}/mnist/t10k-labels-idx1-ubyte.gz" in shown
    assert shown.count("SHA-256") == 4
    assert run(["datasets", "cifar10"]) == 0
    shown = capsys.readouterr().out
    assert "170,052,171 bytes, SHA-256 c4a38c50a1bc5f3a" in shown
    assert "not here" in shown
    assert "from https://www.cs.toronto.edu/" in shown


def test_the_command_fetches_into_the_folder_it_is_given(small, folder, capsys, monkeypatch, tmp_path):
    small("mnist")
    fetched = []
    monkeypatch.setattr("inna.experiments.tasks.downloads.fetch", lambda described: fetched.append(described.name))
    assert run(["datasets", "mnist", "--download", "--data-dir", str(tmp_path / "other")]) == 0
    assert fetched == ["mnist"]
    assert "not here" in capsys.readouterr().out
    assert run(["datasets", "mnist", "--data-dir", str(folder)]) == 0
    assert "here, intact" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["datasets", "mnits"], 2, f"the data sets are {', '.join(CATALOGUE)}; got 'mnits'"),
        (["datasets", "--download"], 2, "needs the name"),
        (["datasets", "cifar10", "--download"], 1, "cifar-10-binary.tar.gz is not in"),
        (["train", "--dataset", "cifar10"], 1, "cifar-10-binary.tar.gz is not in"),
        (
            ["compare", "--dataset", "mnist", "--model", "lenet"],
            2,
            "the networks for mnist are lenet5, nin; got 'lenet'",
        ),
        (["train", "--dataset", "digits", "--model", "nin"], 2, "the networks for digits are small-cnn; got 'nin'"),
    ],
)
def test_failures_are_one_line(folder, capsys, monkeypatch, arguments, status, words):
    (file,) = CATALOGUE["cifar10"].files
    nowhere = dataclasses.replace(CATALOGUE["cifar10"], files=(dataclasses.replace(file, addresses=()),))
    monkeypatch.setitem(CATALOGUE, "cifar10", nowhere)
    monkeypatch.chdir(folder)
    assert run(arguments) == status
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.splitlines()[-1].startswith("inna: ")
    assert [line for line in shown.err.splitlines() if not line.startswith(("inna: ", "downloading "))] == []
    assert list(folder.iterdir()) == []


def test_training_reads_the_folder_it_is_given_and_the_network_it_is_given(small, folder, capsys, monkeypatch):
    from inna.experiments.tasks import load as tasks

    small("fashion-mnist")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("INNA_DATA")
    monkeypatch.setenv("INNA_DATA", str(folder / "empty"))
    tasks._builtin_data.cache_clear()
    tasks._builtin.cache_clear()
    try:
        arguments = ["train", "sgd", "--dataset", "fashion-mnist", "--model", "nin", "--epochs", "1", "--lr", "0.01"]
        assert run([*arguments, "--data-dir", "."]) == 0
    finally:
        tasks._builtin_data.cache_clear()
        tasks._builtin.cache_clear()
    assert "row: runs/fashion-mnist-nin-train/" in capsys.readouterr().out
