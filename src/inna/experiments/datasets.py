"""The data of the built-in tasks, as tensors ready to train on, and where downloaded data are kept."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["data_folder", "digits", "mnist"]

Split = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
# The paper trains on 50,000 images and tests on 10,000, for every data set.
TRAINING_IMAGES = 50_000
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
DIGITS_TEST_SHARE = 0.2
DIGITS_SPLIT_SEED = 0


def digits() -> Split:
    """scikit-learn's bundled 1,797 handwritten digits, split once and for all: 80 % train, 20 % test, stratified.

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


def data_folder() -> Path:
    """Where downloaded data are cached: the environment variable ``INNA_DATA``, or else the user's cache folder."""
    chosen = os.environ.get("INNA_DATA")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("inna"))


def mnist() -> Split:
    """MNIST's handwritten digits: the first 50,000 of the training files to train on, the 10,000 of the test files.

    Returns:
        ((train images, train labels), (test images, test labels)): images float32 of shape (N, 1, 28, 28) in [0, 1],
        labels int64 of shape (N,) in 0 .. 9.

    Raises:
        FileNotFoundError: a file is not in `data_folder`.
        ValueError: a file there is damaged or another one: its SHA-256 differs.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
    """
    train_images, train_labels, test_images, test_labels = (_idx(name, MNIST_FILES[name]) for name in MNIST_FILES)
    return (train_images[:TRAINING_IMAGES], train_labels[:TRAINING_IMAGES]), (test_images, test_labels)


def _idx(name: str, sha256: str) -> Tensor:
    path = data_folder() / name
    packed = path.read_bytes()
    if hashlib.sha256(packed).hexdigest() != sha256:
        raise ValueError(f"{path} is damaged or another file: its SHA-256 differs")
    content = np.frombuffer(gzip.decompress(packed), np.uint8)
    if "images" in name:
        return torch.from_numpy(content[16:].reshape(-1, 1, 28, 28).astype(np.float32) / 255)
    return torch.from_numpy(content[8:].astype(np.int64))
