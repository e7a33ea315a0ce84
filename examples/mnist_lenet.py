"""MNIST with LeNet-5 as a task of one's own, and a budget of minutes.

    INNA_DATA=folder/with/the/four/idx.gz/files inna compare --task examples/mnist_lenet.py:make_task \\
        --optimizer sgd --optimizer heavy-ball --optimizer adam --optimizer inna:alpha=.5,beta=.1 \\
        --schedules 0.5 --tuning-epochs 1 --epochs 3 --out runs/mnist-lenet

The files are those of LeCun, Cortes and Burges; their SHA-256 is checked before anything is parsed.
"""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
import torch
from torch import nn

from inna.experiments import Task
from inna.experiments.datasets import data_folder
from inna.experiments.tasks import accuracy

FILES = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def make_task() -> Task:
    train = images("train-images-idx3-ubyte.gz"), labels("train-labels-idx1-ubyte.gz")
    test = images("t10k-images-idx3-ubyte.gz"), labels("t10k-labels-idx1-ubyte.gz")
    return Task("mnist", lenet5, train, test, nn.functional.cross_entropy, {"accuracy": (accuracy, "max")})


def lenet5() -> nn.Module:
    """(N, 1, 28, 28) -> (N, 10) logits; LeNet-5 with ReLU and max-pooling, 61,706 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def images(name: str) -> torch.Tensor:
    pixels = np.frombuffer(contents(name), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return torch.from_numpy(pixels.astype(np.float32) / 255)


def labels(name: str) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(contents(name), np.uint8, offset=8).astype(np.int64))


def contents(name: str) -> bytes:
    path = data_folder() / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; set INNA_DATA to the folder of the four files")
    packed = path.read_bytes()
    if hashlib.sha256(packed).hexdigest() != FILES[name]:
        raise ValueError(f"{path} is damaged or another file: its SHA-256 differs")
    return gzip.decompress(packed)
