"""The options of comparisons and runs.

One home for their names, defaults and descriptions.

The Python functions take the fields as keyword arguments, and the command line as options of the same names.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from inna.checks import check_whole, did_you_mean
from inna.experiments.rows.run import Run, Schedule, check_schedule
from inna.experiments.study.optimizer_names import check_reference, check_specification
from inna.experiments.study.seed_looks import parse_seeds
from inna.experiments.study.study import (
    HALF_DECADES,
    SCHEDULES,
    TRIALS,
    TUNING_SEED,
    Contender,
    Study,
    schedule_order,
)

__all__ = [
    "ComputeOptions",
    "DeviceOptions",
    "ProtocolOptions",
    "RunOptions",
    "StudyOptions",
    "TrainingOptions",
    "TuningMethod",
    "accepts",
]

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu", "hpu", "xla", "mtia")
"""The kinds of devices that a run may ask torch for."""

TuningMethod = Literal["grid", "halving"]
"""How every optimizer of a comparison is tuned."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """The device.

    Attributes:
        device: cpu, cuda, cuda:1, ..., or auto for a GPU if there is one.
    """

    device: str = Run.device

    def check_device(self) -> None:
        """Check the name of the device, importing nothing.

        Raises:
            ValueError: torch has no such kind of device.
        """
        kind, _, index = self.device.partition(":")
        if kind not in DEVICES or (":" in self.device and not index.isdecimal()):
            known = [each for each in DEVICES if each != kind]
            near = did_you_mean("cuda" if kind.lower() in ("gpu", "nvidia") else kind, known)
            raise ValueError(f"device {self.device!r} is unknown; give cpu, cuda, cuda:1, ..., or auto{near}")


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(DeviceOptions):
    """Batch size, device, arithmetic, and how much is evaluated.

    Attributes:
        batch_size: Samples per mini-batch, >= 1. [default: 32, or the DataLoader's own]
        precision: float32, float64 or bfloat16. With bfloat16 only the layers use it; weights, loss and optimizer stay
            in float32.
        loss_samples: Compute the training loss on this many samples, the first of the training set, after each epoch
            but the last; 0 for all samples. It saves time on large data sets.
    """

    batch_size: int | None = None
    precision: Literal["float32", "float64", "bfloat16"] = "float32"
    loss_samples: int = Run.loss_samples

    def check_samples(self) -> None:
        """Check the batch size, and the samples of the training loss.

        Raises:
            ValueError: one is out of range.
        """
        check_whole("loss_samples", self.loss_samples, minimum=0)
        if self.batch_size is not None:
            check_whole("batch_size", self.batch_size, minimum=1)


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """The protocol of a comparison.

    How every optimizer is tuned and which runs decide.

    Attributes:
        epochs: Epochs of each final run, >= 1.
        tuning_epochs: Epochs of each tuning run, >= 1.
        seeds: Seeds of the final runs. With auto or auto:CAP they are 1, 2, ..., and more are added until the winner on
            training loss is established, at most CAP, 20 if it is not given.
        tuning_seed: Seed of the tuning runs; it must not be a seed of the final runs.
        grid: Learning rates (γ) to try, > 0, instead of a search. A grid is extended by half-decades if the best is at
            an edge. [default: with --tuning grid nine half-decades, 0.0001 to 1]
        schedules: Schedules to try: powers q >= 0 of the decay γ (k+1)^-q over iterations k, of which 0 is constant;
            linear to zero; cosine to zero after a warm-up; hold, constant and in the last fifth linear to zero.
        tuning: How optimizers are tuned: halving for a search of the learning rate (γ) and further settings, or grid.
            [default: halving, or grid if one is given]
        trials: Trials of a search, for each optimizer; at least one for each schedule.
        untuned: Also run every optimizer untuned: with the learning rate of its library, a constant schedule, and the
            library's value of every setting that is not given. It costs as many runs as the final ones. [default: off]
        budget: Limit for all optimizers together, shared equally: 90s, 20m, 1.5h, 200runs or 3000epochs. [default: no
            limit]
        reference: The optimizer that the others are compared with, as a label or a specification. [default: SGD, or
            the first]
    """

    epochs: int = 30
    tuning_epochs: int = 15
    seeds: tuple[int, ...] | str = (1, 2, 3)
    tuning_seed: int = TUNING_SEED
    grid: tuple[float, ...] | None = None
    schedules: tuple[Schedule, ...] = SCHEDULES
    tuning: TuningMethod | None = None
    trials: int = TRIALS
    untuned: bool = False
    budget: str = ""
    reference: str | None = None

    @property
    def searches(self) -> bool:
        """True if optimizers are tuned by a search, false for a grid."""
        return self.grid is None if self.tuning is None else self.tuning == "halving"

    @property
    def lrs(self) -> tuple[float, ...]:
        """The grid given, or else the default one."""
        return HALF_DECADES if self.grid is None else tuple(self.grid)

    def check_tuning(self) -> None:
        """Check that method, trials and grid fit together; a grid may have 0 trials.

        Raises:
            ValueError: they do not, or there is no such method.
        """
        if self.tuning is not None and self.tuning not in get_args(TuningMethod):
            raise ValueError(f"tuning must be {' or '.join(get_args(TuningMethod))}, got {self.tuning!r}")
        check_whole("trials", self.trials, minimum=int(self.searches))
        if not self.searches and self.trials not in (0, TRIALS):
            raise ValueError("trials: a grid has none; leave the grid out, or give a --budget to try fewer values")
        if self.searches and self.grid is not None:
            raise ValueError(
                "grid: a search has no grid; give a range with the optimizer, such as sgd:lr=0.01..1, or --tuning grid"
            )

    def check(self, optimizers: Sequence[str]) -> None:
        """Check the options and the specifications ``optimizers``, importing nothing.

        Raises:
            ValueError: a value is out of range, a name is unknown, or the options do not fit together.
        """
        for text in optimizers:
            check_specification(text, tuned=True)
        check_whole("trials", self.trials, minimum=1)
        self.check_tuning()
        schedules = tuple(sorted(map(check_schedule, self.schedules), key=schedule_order))
        if self.reference is not None:
            check_reference(self.reference, optimizers)
        lr = 1.0 if self.untuned else None  # which one it is does not matter for the budget
        contenders = [
            Contender(text, "", grid=tuple(sorted(self.lrs)), qs=schedules, untuned_lr=lr) for text in optimizers
        ]
        seeds, cap = parse_seeds(self.seeds)
        Study(
            dataset="",
            model="",
            contenders=tuple(contenders),
            reference=optimizers[0],
            tuning_epochs=self.tuning_epochs,
            epochs=self.epochs,
            seeds=seeds,
            seed_cap=cap,
            tuning_seed=self.tuning_seed,
            budget=self.budget,
            trials=self.trials if self.searches else 0,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options of a single run.

    Attributes:
        lr: Learning rate (γ), > 0. [default: the optimizer's own]
        schedule: Schedule: power for the decay γ (k+1)^-q over iterations k, linear to zero, cosine to zero after a
            warm-up, or hold, constant and in the last fifth linear to zero.
        q: Power q >= 0 of the decay; 0 is constant.
        epochs: Passes over the training data, >= 1.
        seed: Seed of the initial weights and of the order of the data.
    """

    lr: float | None = None
    schedule: Literal["power", "linear", "cosine", "hold"] = "power"
    q: float = Run.q
    epochs: int = Run.epochs
    seed: int = Run.seed

    def check(self, optimizer: str) -> None:
        """Check the options and the specification ``optimizer``, importing nothing.

        Raises:
            ValueError: a value is out of range, or a name is unknown.
        """
        check_specification(optimizer)
        lr = 1.0 if self.lr is None else self.lr
        Run(
            dataset="",
            model="",
            optimizer="",
            lr=lr,
            q=self.q,
            epochs=self.epochs,
            seed=self.seed,
            schedule=self.schedule,
        )


@dataclass(frozen=True, kw_only=True)
class StudyOptions(ProtocolOptions, ComputeOptions):
    """All options of a comparison."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(TrainingOptions, ComputeOptions):
    """All options of a single run."""


def accepts(options: type) -> Callable[[_Function], _Function]:
    """Document the fields of ``options`` in a function that takes ``**options``.

    The signature lists them with their defaults; in the docstring they replace the line ``**options``.

    >>> @accepts(TrainingOptions)
    ... def train(**options):
    ...     ...
    >>> list(inspect.signature(train).parameters)
    ['lr', 'schedule', 'q', 'epochs', 'seed']
    """

    def document(function: _Function) -> _Function:
        signature = inspect.signature(function)
        named = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        keywords = [
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
            for field in dataclasses.fields(options)
        ]
        function.__signature__ = signature.replace(parameters=[*named, *keywords])  # type: ignore[attr-defined]
        lines = "".join(
            inspect.getdoc(base).partition("Attributes:\n")[2] + "\n"  # type: ignore[union-attr]
            for base in reversed(options.__mro__[:-1])
            if "Attributes:" in (base.__doc__ or "")
        )
        described = inspect.cleandoc(function.__doc__ or "")
        function.__doc__ = re.sub(r"^ *\*\*options:.*\n?", lambda _: lines, described, flags=re.MULTILINE)
        return function

    return document
