"""Load the data of the built-in tasks as tensors.

Images are float32 of shape (N, channels, height, width) in [0, 1]: the published bytes divided by 255 (digits: by 16).
Labels are int64 of shape (N,).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inna.experiments.tasks.catalogue import DatasetEntry, entry

__all__ = ["cifar10", "cifar100", "digits", "fashion_mnist", "mnist", "published"]

Split = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
Bytes = npt.NDArray[np.uint8]
DIGITS_TEST_SHARE = 0.2
DIGITS_SPLIT_SEED = 0


def digits() -> Split:
    """Return scikit-learn's 1,797 handwritten digits in a fixed stratified split.

    80 % train, 20 % test.

    Returns:
        ((train images, train labels), (test images, test labels)): images float32 of shape (N, 1, 8, 8) in [0, 1],
        labels int64 of shape (N,) in 0 .. 9.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998, its test part.

    >>> (train_images, _), (test_images, _) = digits()
    >>> tuple(train_images.shape), tuple(test_images.shape)
    ((1437, 1, 8, 8), (360, 1, 8, 8))
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundle = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        bundle.images / 16,
        bundle.target,
        test_size=DIGITS_TEST_SHARE,
        random_state=DIGITS_SPLIT_SEED,
        stratify=bundle.target,
    )

    def tensors(images: object, labels: object) -> tuple[Tensor, Tensor]:
        return torch.as_tensor(images, dtype=torch.float32).unsqueeze(1), torch.as_tensor(labels, dtype=torch.int64)

    return tensors(train_images, train_labels), tensors(test_images, test_labels)


def published(name: str) -> Split:
    """Return a whole data set as it is published.

    Download the files that are missing.

    Args:
        name: "mnist", "fashion-mnist", "cifar10" or "cifar100".

    Returns:
        ((train images, train labels), (test images, test labels)) in the order of the files.

    Raises:
        ValueError: there is no such data set.
        DataError: a file is missing and cannot be downloaded.
    """
    described = entry(name)
    if not described.files:
        raise ValueError(f"{name} is not published as files")
    from inna.experiments.tasks.downloads import contents

    found = contents(described)
    if described.name.startswith("cifar"):
        training = [part for part in found if "test" not in part]
        return _cifar(found, training, described), _cifar(found, [part for part in found if "test" in part], described)
    return _idx_pair(found, "train", described), _idx_pair(found, "t10k", described)


def mnist() -> Split:
    """Return MNIST's handwritten digits.

    The first 50,000 training images, and the 10,000 test images.

    Returns:
        ((train images, train labels), (test images, test labels)): images of shape (N, 1, 28, 28), labels 0 .. 9.

    Raises:
        DataError: as in `published`.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
    """
    return _the_papers_split("mnist")


def fashion_mnist() -> Split:
    """Return Fashion-MNIST's articles of clothing, in the shape and split of `mnist`.

    Raises:
        DataError: as in `published`.

    Source: H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747, 2017.
    """
    return _the_papers_split("fashion-mnist")


def cifar10() -> Split:
    """Return CIFAR-10's photographs in ten classes.

    50,000 to train on, 10,000 to test on.

    Returns:
        ((train images, train labels), (test images, test labels)): images of shape (N, 3, 32, 32), channels red, green,
        blue; labels 0 .. 9.

    Raises:
        DataError: as in `published`.

    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    return _the_papers_split("cifar10")


def cifar100() -> Split:
    """Return CIFAR-100's photographs: as `cifar10`, with the fine labels 0 .. 99.

    Raises:
        DataError: as in `published`.

    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    return _the_papers_split("cifar100")


def _the_papers_split(name: str) -> Split:
    """Split as in the paper: 50,000 training images and 10,000 test images."""
    (images, labels), test = published(name)
    count = entry(name).train
    return (images[:count], labels[:count]), test


def _idx_pair(found: Mapping[str, bytes], part: str, described: DatasetEntry) -> tuple[Tensor, Tensor]:
    """Parse the IDX format.

    Four bytes for the type, four per dimension for its length, then the numbers.
    """
    images = np.frombuffer(found[f"{part}-images-idx3-ubyte"], np.uint8, offset=16)
    labels = np.frombuffer(found[f"{part}-labels-idx1-ubyte"], np.uint8, offset=8)
    return _tensors(images, labels, described)


def _cifar(found: Mapping[str, bytes], parts: list[str], described: DatasetEntry) -> tuple[Tensor, Tensor]:
    """Parse CIFAR's binary format.

    Records of the labels, the finest last, and 3,072 pixels.
    """
    pixels = int(np.prod(described.shape))
    labels_each = 2 if described.classes == 100 else 1
    records = np.frombuffer(b"".join(found[part] for part in parts), np.uint8).reshape(-1, labels_each + pixels)
    return _tensors(records[:, labels_each:], records[:, labels_each - 1], described)


def _tensors(images: Bytes, labels: Bytes, described: DatasetEntry) -> tuple[Tensor, Tensor]:
    scaled = images.reshape(-1, *described.shape).astype(np.float32)
    scaled /= 255
    return torch.from_numpy(scaled), torch.from_numpy(labels.astype(np.int64))
