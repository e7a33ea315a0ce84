"""Read a data set of one's own from an ``.npz`` file.

Four arrays of images or features, and labels.

The file is the layout of Keras' data sets: ``x_train``, ``y_train``, ``x_test``, ``y_test``. Other arrays in it are not
read. Nothing in it is unpickled: arrays of objects are refused.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from inna.checks import did_you_mean, similar_beside
from inna.experiments.tasks.catalogue import DatasetEntry, networks_for, split_subset

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Images = npt.NDArray[np.float32]
    Labels = npt.NDArray[np.int64]

__all__ = ["ARRAYS", "DataFile", "data_path", "has_changed", "is_data_file", "read_data_file"]

ENDING = ".npz"
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
CHANNELS = (1, 3)


class DataFile(NamedTuple):
    """The contents of a file.

    Attributes:
        entry: its description: shape of a sample, number of classes and samples, networks.
        source: ``sha256:`` and the SHA-256 of the file in hexadecimal digits, as rows contain it.
        train, test: (samples, labels). Samples are float32 of shape (N, channels, height, width) or (N, features),
            those of uint8 divided by 255; labels int64 of shape (N,).
    """

    entry: DatasetEntry
    source: str
    train: tuple[Images, Labels]
    test: tuple[Images, Labels]


def is_data_file(name: str) -> bool:
    """Return whether a data set's name is that of a file, or of a part of it.

    >>> is_data_file("data/mine.npz"), is_data_file("mine.npz[:1000]"), is_data_file("mnist")
    (True, True, False)
    """
    return split_subset(name)[0].endswith(ENDING)


def has_changed(before: tuple[str, str], now: tuple[str, str]) -> bool:
    """Return whether two data sets are the same file with other contents.

    They are given by name and SHA-256.

    >>> has_changed(("mine.npz", "a1"), ("mine.npz", "b2")), has_changed(("digits", "a1"), ("digits", "b2"))
    (True, False)
    """
    return is_data_file(now[0]) and before[0] == now[0] and before[1] != now[1]


def data_path(name: str, folder: Path | None = None) -> Path:
    """Return the file of the data set ``name``.

    A relative one is in ``folder``, or the working directory.

    Raises:
        ValueError: there is no such file.
    """
    path = (folder or Path.cwd()) / Path(split_subset(name)[0]).expanduser()
    if not path.is_file():
        raise ValueError(f"dataset {name}: no such file: {path}{similar_beside(path)}")
    return path


def read_data_file(path: Path) -> DataFile:
    """Read and check a file.

    A second call reads it again only if its bytes have changed.

    Raises:
        ValueError: it cannot be read, or an array is missing or cannot be used. The message is one line and names the
            file and the array.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     x, y = np.zeros((6, 28, 28), np.uint8), np.arange(6) % 3
    ...     np.savez(f"{folder}/mine.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    ...     entry = read_data_file(Path(folder) / "mine.npz").entry
    >>> entry.shape, entry.classes, entry.train, entry.test, entry.networks
    ((1, 28, 28), 3, 6, 3, ('lenet5', 'nin', 'mlp'))
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return _read(path, digest)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=2)
def _read(path: Path, digest: str) -> DataFile:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{path} changed while it was read")
    arrays = _arrays(path, content)
    train = _samples(path, "x_train", arrays["x_train"]), _labels(path, "y_train", arrays["y_train"])
    test = _samples(path, "x_test", arrays["x_test"]), _labels(path, "y_test", arrays["y_test"])
    _check_together(path, arrays, train, test)
    shape = tuple(map(int, train[0].shape[1:]))
    entry = DatasetEntry(
        name=path.name,
        title="a data set of one's own",
        shape=shape,
        classes=int(train[1].max()) + 1,
        train=len(train[0]),
        test=len(test[0]),
        terms="",
        source=f"SHA-256 {digest}",
        networks=networks_for(shape),
    )
    return DataFile(entry, f"sha256:{digest}", train, test)


def _arrays(path: Path, content: bytes) -> dict[str, Any]:
    import numpy as np

    if not zipfile.is_zipfile(io.BytesIO(content)):
        cut = content.startswith(b"PK") or not content
        raise ValueError(
            f"{path} is {'cut short' if cut else 'not an .npz file'}; write one with numpy.savez(file, "
            f"{', '.join(f'{name}=...' for name in ARRAYS)})"
        )
    found = {}
    name = "its directory"
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            for name in ARRAYS:
                if name not in archive.files:
                    others = ", ".join(archive.files) or "none"
                    raise _ArrayError(
                        f"{path}: no array {name}; needed are {', '.join(ARRAYS)}, it has {others}"
                        f"{did_you_mean(name, archive.files)}"
                    )
                found[name] = archive[name]
    except _ArrayError as error:
        raise ValueError(str(error)) from None
    # zipfile, zlib and numpy raise a dozen types for bytes that are damaged.
    except Exception as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: {name} is an array of Python objects, which can run code; allowed are uint8 and floats for "
                "samples, whole numbers for labels"
            ) from None
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ValueError(f"{path}: {name} is damaged ({reason})") from error
    for name, array in found.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{path}: {name} is not an array")
    return found


class _ArrayError(Exception):
    """A file that is whole but lacks an array."""


def _samples(path: Path, name: str, array: Any) -> Images:
    import numpy as np

    given = f"got {array.dtype} of shape {array.shape}"
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(f"{path}: {name} must be uint8 images (0 .. 255) or floats; {given}")
    if array.ndim not in ((3, 4) if array.dtype == np.uint8 else (2, 3, 4)):
        raise ValueError(
            f"{path}: {name} must be images of shape (N, height, width), (N, height, width, channels) or (N, channels, "
            f"height, width), or floats of shape (N, features); {given}"
        )
    if not array.size:
        raise ValueError(f"{path}: {name} is empty; {given}")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4:
        first, last = array.shape[1] in CHANNELS, array.shape[3] in CHANNELS
        if first == last:
            which = "both the second and the last dimension are" if first else "neither is"
            raise ValueError(
                f"{path}: {name} must have 1 or 3 channels, second (NCHW) or last (NHWC); {which} 1 or 3; {given}"
            )
        array = array.transpose(0, 3, 1, 2) if last else array
    with np.errstate(over="ignore"):  # refused below
        samples: Images = np.array(array, dtype=np.float32, order="C")
    if array.dtype == np.uint8:
        samples /= 255
    elif (wrong := int(np.count_nonzero(~np.isfinite(samples)))) > 0:
        raise ValueError(f"{path}: {name} must be finite in float32; {wrong:,} of {samples.size:,} values are not")
    return samples


def _labels(path: Path, name: str, array: Any) -> Labels:
    import numpy as np

    given = f"got {array.dtype} of shape {array.shape}"
    if array.dtype.kind not in "iu":
        raise ValueError(f"{path}: {name} must be whole numbers of an integer type, the classes 0, 1, ...; {given}")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{path}: {name} must be one label per sample, of shape (N,) or (N, 1); {given}")
    if not array.size:
        raise ValueError(f"{path}: {name} is empty; {given}")
    least, largest = int(array.min()), int(array.max())
    if least < 0:
        raise ValueError(f"{path}: {name} must be classes 0, 1, ...; got the label {least}")
    if largest >= np.iinfo(np.int64).max:
        raise ValueError(f"{path}: {name} must be classes 0, 1, ...; got the label {largest}")
    labels: Labels = array.astype(np.int64)
    return labels


def _check_together(
    path: Path, arrays: dict[str, Any], train: tuple[Images, Labels], test: tuple[Images, Labels]
) -> None:
    import numpy as np

    for part, (samples, labels) in (("train", train), ("test", test)):
        if len(samples) != len(labels):
            raise ValueError(
                f"{path}: x_{part} and y_{part} must have one length; got {len(samples):,} and {len(labels):,}"
            )
    if arrays["x_train"].dtype != arrays["x_test"].dtype or arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        given = " and ".join(f"{arrays[name].dtype} of shape {arrays[name].shape}" for name in ("x_train", "x_test"))
        raise ValueError(f"{path}: x_train and x_test must be alike, apart from their length; got {given}")
    classes = np.unique(train[1])
    count = len(classes)
    if count < 2:
        raise ValueError(f"{path}: y_train must contain at least two classes; got only {classes[0]}")
    if classes[-1] != count - 1:
        absent = int(np.flatnonzero(classes != np.arange(count))[0])
        raise ValueError(
            f"{path}: y_train must contain every class from 0 to its largest label, {classes[-1]}; class {absent} is "
            "missing"
        )
    largest = int(test[1].max())
    if largest >= count:
        raise ValueError(f"{path}: y_test must contain classes of y_train, 0 .. {count - 1}; got the label {largest}")
