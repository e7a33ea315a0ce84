"""`Run`, everything that decides a run, as JSON and in words."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from inna.checks import check_range, check_text, check_whole
from inna.files import canonical

__all__ = [
    "NAMED_SCHEDULES",
    "SCHEDULES",
    "Metric",
    "Run",
    "Schedule",
    "as_json",
    "check_schedule",
    "check_settings",
    "describe",
    "encode",
]

DEEPEST_SETTING = 4  # levels of tuples


Schedule = float | str
"""A learning-rate schedule: the power q of the decay γ (k + 1)^-q, or one of the names in `NAMED_SCHEDULES`."""

SCHEDULES: Mapping[str, tuple[str, float | None]] = {
    "linear": ("linear_decay", None),
    "cosine": ("cosine_decay", 0.05),
    "hold": ("hold_decay", 0.8),
}
"""The schedules that end at zero.

Each has the name of a function of `inna.schedules`, and the share of the iterations that is its second argument: the
warm-up of cosine, the constant part of hold.
"""

NAMED_SCHEDULES = tuple(SCHEDULES)
"""Their names."""

_POWER = "power"
# Younger than most rows, and left out of their JSON at these values, so that their keys stay.
_ABSENT: Mapping[str, Any] = {"optimizer_source": "", "schedule": _POWER, "horizon": 0, "loss_samples": 0}


@dataclass(frozen=True)
class Run:
    """Everything that decides a run; two equal runs give the same row, timings aside.

    Attributes:
        dataset: a built-in task's name (``digits``), or ``file.py:function`` of one's own.
        model: the network's name within the task.
        optimizer: a name such as ``inna``, ``sgd``, ``heavy-ball``, ``adagrad``, ``adam``, or an importable class.
        lr: learning rate (γ), > 0.
        alpha, beta: INNA's dampings; None for optimizers that have none.
        q: power of the decay γ (k + 1)^-q over iterations k; 0 is a constant learning rate, and the value with another
            ``schedule``.
        settings: the optimizer's other arguments as sorted (name, value) pairs.
        batch_size: of training; 0 if the task's own DataLoader decides and does not tell.
        epochs: passes over the training data, >= 1.
        seed: decides the initial weights and the order of the data.
        device, precision: where and in which arithmetic.
        source: fingerprint of the task that ``dataset`` names, if it is one's own; else empty.
        optimizer_source: fingerprint of the optimizer's class; empty for those of torch and inna.
        schedule: ``power`` for the decay with power q, ``linear`` to zero, ``cosine`` to zero after a warm-up over the
            first 5 % of the iterations, or ``hold``, constant over the first 80 % and then linear to zero.
        horizon: the epochs over which a schedule that ends at zero extends, >= ``epochs``; a run that is shorter is
            the beginning of a longer one. 0, to which it is set where it has no other effect, is ``epochs``.
        loss_samples: the training loss after each epoch but the last is that of so many samples, the first of the
            training set in its own order. It does not change the training. 0 is all of them.

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
    schedule: str = _POWER
    horizon: int = 0
    loss_samples: int = 0

    def __post_init__(self) -> None:
        for name in ("dataset", "model", "optimizer", "device", "precision", "source"):
            check_text(name, getattr(self, name))
        for name in ("lr", "alpha", "beta", "q"):
            value = getattr(self, name)
            if value is not None:
                number = check_range(name, value, minimum=0.0, exclusive=name == "lr")
                object.__setattr__(self, name, number)
        for name, least in (("batch_size", 0), ("epochs", 1), ("seed", 0), ("horizon", 0), ("loss_samples", 0)):
            check_whole(name, getattr(self, name), minimum=least)
        if self.schedule not in (_POWER, *NAMED_SCHEDULES) or (self.q and self.schedule != _POWER):
            raise ValueError(
                f"schedule must be one of {', '.join((_POWER, *NAMED_SCHEDULES))}, and q is for {_POWER}; got "
                f"{self.schedule!r} with q = {self.q:g}"
            )
        if self.schedule == _POWER or self.horizon == self.epochs:
            object.__setattr__(self, "horizon", 0)
        if 0 < self.horizon < self.epochs:
            raise ValueError(f"horizon must be at least epochs, {self.epochs}; got {self.horizon}")
        object.__setattr__(self, "settings", check_settings(self.settings))

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that name the run.

        Equal runs have equal keys, in any process.

        >>> first, second = (Run("digits", "small-cnn", "sgd", 0.1) for _ in range(2))
        >>> first.key == second.key
        True
        """
        return hashlib.sha256(canonical(as_json(self)).encode()).hexdigest()[:16]

    @property
    def trajectory(self) -> Run:
        """The longest run of which this is the beginning, or for a power its first epoch.

        It is equal for two runs if the longer one continues the shorter one.

        >>> run = dataclasses.replace(Run("digits", "small-cnn", "sgd", 0.1), schedule="linear")
        >>> short = dataclasses.replace(run, epochs=2, horizon=8)
        >>> short.trajectory == dataclasses.replace(run, epochs=8).trajectory
        True
        """
        return dataclasses.replace(
            self, epochs=1 if self.schedule == _POWER else self.horizon or self.epochs, horizon=0
        )

    @property
    def decay(self) -> Schedule:
        """The schedule: the power q, or a name of `NAMED_SCHEDULES`."""
        return self.q if self.schedule == _POWER else self.schedule

    def with_decay(self, decay: Schedule) -> Run:
        """Return this run with another schedule."""
        if isinstance(decay, str):
            return dataclasses.replace(self, q=0.0, schedule=decay)
        return dataclasses.replace(self, q=decay, schedule=_POWER)

    @property
    def arguments(self) -> dict[str, Any]:
        """The optimizer's arguments besides the learning rate."""
        dampings = {"alpha": self.alpha, "beta": self.beta}
        return {name: value for name, value in dampings.items() if value is not None} | dict(self.settings)


def check_schedule(schedule: Any) -> Schedule:
    """Return a schedule as a number or a name; ``constant`` is 0.

    Raises:
        ValueError: it is no power q >= 0 and none of the names.

    >>> check_schedule("0.5"), check_schedule("constant"), check_schedule("linear")
    (0.5, 0.0, 'linear')
    """
    if schedule in NAMED_SCHEDULES:
        return str(schedule)
    try:
        return check_range("schedules", 0.0 if schedule == "constant" else float(schedule), minimum=0.0)
    except (TypeError, ValueError):
        raise ValueError(
            f"schedules must be powers q >= 0, or one of constant, {', '.join(NAMED_SCHEDULES)}; got {schedule!r}"
        ) from None


def check_settings(settings: Any) -> tuple[tuple[str, Any], ...]:
    """Return ``settings`` as pairs with lists as tuples.

    JSON made lists of the tuples of ``Run.settings``.

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
    """Return the fields of ``run`` as plain JSON.

    Without those that are younger than most rows, at their defaults.
    """
    return {name: encode(value) for name, value in vars(run).items() if name not in _ABSENT or value != _ABSENT[name]}


def encode(value: Any) -> Any:
    """Return ``value`` as plain JSON.

    Sequences as lists, numbers that are not finite as {"float": "nan"}.
    """
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
    """A metric of the test set, and which direction is good.

    Rows store it as ``test_<name>``.
    """

    name: str
    goal: Literal["max", "min"]


def describe(run: Run, name: str = "") -> str:
    """Return a short description.

    The optimizer (or ``name`` in its place), learning rate, schedule and seed.

    >>> describe(Run("digits", "small-cnn", "inna", lr=0.01, alpha=0.5, beta=0.1))
    'inna:alpha=0.5,beta=0.1, γ 0.01, q 0, seed 0'
    """
    written = ",".join(f"{setting}={value}" for setting, value in run.arguments.items() if value is not None)
    name = name or (f"{run.optimizer}:{written}" if written else run.optimizer)
    schedule = f"q {run.q:g}" if run.schedule == _POWER else run.schedule
    return f"{name}, γ {run.lr:g}, {schedule}, seed {run.seed}"
