"""`Run`, everything that decides a run, as JSON and in words."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from inna.checks import check_range, check_text, check_whole
from inna.files import canonical

__all__ = [
    "Metric",
    "Run",
    "as_json",
    "check_settings",
    "describe",
    "encode",
]

DEEPEST_SETTING = 4  # levels of tuples


@dataclass(frozen=True)
class Run:
    """Everything that decides a run; two equal runs give the same row, timings aside.

    Attributes:
        dataset: a built-in task's name (``digits``), or ``file.py:function`` of one's own.
        model: the network's name within the task.
        optimizer: a name such as ``inna``, ``sgd``, ``heavy-ball``, ``adagrad``, ``adam``, or an importable class.
        lr: learning rate (γ), > 0.
        alpha, beta: INNA's dampings; None for optimizers that have none.
        q: power of the decay γ (k + 1)^-q over iterations k; 0 is a constant learning rate.
        settings: the optimizer's other arguments as sorted (name, value) pairs.
        batch_size: of training; 0 if the task's own DataLoader decides and does not tell.
        epochs: passes over the training data, >= 1.
        seed: decides the initial weights and the order of the data.
        device, precision: where and in which arithmetic.
        source: fingerprint of the task that ``dataset`` names, if it is one's own; else empty.
        optimizer_source: fingerprint of the optimizer's class; empty for those of torch and inna.

    Raises:
        ValueError: a number is out of range.
    """

    dataset: str
    model: str
    optimizer: str
    lr: float
    alpha: float | None = None
    beta: float | None = None
    q: float = 0.0
    settings: tuple[tuple[str, Any], ...] = ()
    batch_size: int = 32
    epochs: int = 15
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    source: str = ""
    optimizer_source: str = ""

    def __post_init__(self) -> None:
        for name in ("dataset", "model", "optimizer", "device", "precision", "source"):
            check_text(name, getattr(self, name))
        for name in ("lr", "alpha", "beta", "q"):
            value = getattr(self, name)
            if value is not None:
                number = check_range(name, value, minimum=0.0, exclusive=name == "lr")
                object.__setattr__(self, name, number)
        for name, least in (("batch_size", 0), ("epochs", 1), ("seed", 0)):
            check_whole(name, getattr(self, name), minimum=least)
        object.__setattr__(self, "settings", check_settings(self.settings))

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that name the run; equal runs have equal keys, in any process.

        >>> Run("digits", "small-cnn", "sgd", 0.1).key == Run("digits", "small-cnn", "sgd", 0.1).key
        True
        """
        return hashlib.sha256(canonical(as_json(self)).encode()).hexdigest()[:16]

    @property
    def arguments(self) -> dict[str, Any]:
        """The optimizer's arguments besides the learning rate."""
        dampings = {"alpha": self.alpha, "beta": self.beta}
        return {name: value for name, value in dampings.items() if value is not None} | dict(self.settings)


def check_settings(settings: Any) -> tuple[tuple[str, Any], ...]:
    """Return ``settings`` as pairs with lists as tuples: JSON made lists of the tuples of ``Run.settings``.

    Raises:
        ValueError: it is not a sequence of pairs of a name and a value; values are texts, numbers, flags, None, and
            tuples of those.
    """
    if not isinstance(settings, (list, tuple)) or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str) for pair in settings
    ):
        raise ValueError("settings must be pairs of a name and a value")
    return tuple((name, _setting(name, value)) for name, value in settings)


def _setting(name: str, value: Any, depth: int = 0) -> Any:
    if isinstance(value, (list, tuple)) and depth < DEEPEST_SETTING:
        return tuple(_setting(name, part, depth + 1) for part in value)
    if value is not None and not isinstance(value, (str, int, float)):
        raise ValueError(f"the setting {name} must be a text, a number, a flag, None, or a tuple of those")
    return value


def as_json(run: Run) -> dict[str, Any]:
    """Return the fields of ``run`` as plain JSON; without ``optimizer_source``, which is younger, if it is empty."""
    encoded: dict[str, Any] = encode(vars(run))
    if not run.optimizer_source:
        del encoded["optimizer_source"]
    return encoded


def encode(value: Any) -> Any:
    """Return ``value`` as plain JSON: sequences as lists, numbers that are not finite as {"float": "nan"}."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Mapping):
        return {str(name): encode(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [encode(item) for item in value]
    return value


class Metric(NamedTuple):
    """A metric of the test set, stored in rows as ``test_<name>``, and which direction is good."""

    name: str
    goal: Literal["max", "min"]


def describe(run: Run, name: str = "") -> str:
    """Return a short description: the optimizer (or ``name`` in its place), learning rate, schedule and seed.

    >>> describe(Run("digits", "small-cnn", "inna", lr=0.01, alpha=0.5, beta=0.1))
    'inna:alpha=0.5,beta=0.1, γ 0.01, q 0, seed 0'
    """
    written = ",".join(f"{setting}={value}" for setting, value in run.arguments.items() if value is not None)
    name = name or (f"{run.optimizer}:{written}" if written else run.optimizer)
    return f"{name}, γ {run.lr:g}, q {run.q:g}, seed {run.seed}"
