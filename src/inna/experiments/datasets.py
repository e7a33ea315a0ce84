"""The data of the built-in tasks, as tensors ready to train on, and where downloaded data are kept."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["data_folder", "digits"]

DIGITS_TEST_SHARE = 0.2
DIGITS_SPLIT_SEED = 0


def digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
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
