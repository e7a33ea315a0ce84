"""A study: optimizers compared on a task, their tuning, the final seeds.

Every run of a study follows from its description. A second start computes the missing runs from it, and the report the
purpose of each row. The description is in ``study.json`` beside the rows. No framework is imported.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from inna.checks import check_range, check_text, check_whole
from inna.experiments.rows.row_files import DamagedRowError, read_document
from inna.experiments.rows.run import NAMED_SCHEDULES, Metric, Run, Schedule, check_schedule, check_settings
from inna.experiments.study.budget import parse_budget
from inna.experiments.study.search_space import MOST_DIMENSIONS, Dimension, round_lr
from inna.experiments.study.seed_looks import looks, share
from inna.files import canonical, write_document

__all__ = [
    "HALF_DECADES",
    "REFINEMENTS",
    "SCHEDULES",
    "TRIALS",
    "TUNING_SEED",
    "Choice",
    "Contender",
    "Study",
    "schedule_order",
]

MANIFEST = "study.json"
_WORDS = {
    "dataset": "task",
    "source": "version of the task",
    "contenders": "optimizers",
    "tuning_epochs": "tuning epochs",
    "tuning_seed": "tuning seed",
    "batch_size": "batch size",
    "loss_samples": "samples of the training loss",
    "refinement": "refinement of learning rates",
}
# Nine half-decades, 1e-4 to 1: the default grid of learning rates.
HALF_DECADES = tuple(round_lr(10 ** (k / 2)) for k in range(-8, 1))
# The default powers q of the decay, and the seed of the tuning runs.
SCHEDULES: tuple[Schedule, ...] = (0.0, 0.5)
TUNING_SEED = 0
# The steps in a decade of a grid's refinements, one after the other.
REFINEMENTS = (4, 8)
# The default trials of a search.
TRIALS = 24
# A search's second tuning seed is as much above the first, far from the seeds of final runs.
_SEED_DISTANCE = 1000


def schedule_order(decay: Schedule) -> tuple[int, float]:
    """Return the key that sorts schedules: powers q, ascending, then the named ones."""
    return (1, NAMED_SCHEDULES.index(decay)) if isinstance(decay, str) else (0, decay)


@dataclass(frozen=True)
class Contender:
    """An optimizer of a study.

    Its settings, which are fixed, and the grid or space in which it is tuned.

    Attributes:
        label: its name in tables and legends, unique within the study.
        optimizer, alpha, beta, settings: as in `Run`.
        source: ``optimizer_source`` of `Run`.
        grid: the learning rates (γ) to try, ascending.
        qs: the schedules to try: powers q of the decay γ (k + 1)^-q, ascending, then names as in `Run`.
        space: the settings that a search tunes. Without the learning rate it is searched over the range of ``grid``,
            or fixed if that is one value.
        untuned_lr: the learning rate of its library, with which it is also run untuned; None for no such runs.

    Raises:
        ValueError: the grid or the schedules are empty, repeat a value, or contain one out of range.
    """

    label: str
    optimizer: str
    alpha: float | None = None
    beta: float | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    grid: tuple[float, ...] = HALF_DECADES
    qs: tuple[Schedule, ...] = SCHEDULES
    source: str = ""
    space: tuple[Dimension, ...] = ()
    untuned_lr: float | None = None

    def __post_init__(self) -> None:
        check_text("label", self.label)
        check_text("optimizer", self.optimizer)
        for name in ("alpha", "beta"):
            if (damping := getattr(self, name)) is not None:
                object.__setattr__(self, name, check_range(name, damping, minimum=0.0))
        if self.untuned_lr is not None:
            lr = check_range("untuned_lr", self.untuned_lr, minimum=0.0, exclusive=True)
            object.__setattr__(self, "untuned_lr", lr)
        grid = tuple(check_range("grid", value, minimum=0.0, exclusive=True) for value in self.grid)
        qs = tuple(map(check_schedule, self.qs))
        for name, values, sorted_ in (
            ("grid", grid, sorted(set(grid))),
            ("schedules", qs, sorted(set(qs), key=schedule_order)),
        ):
            if not values or list(values) != sorted_:
                raise ValueError(f"{name} must contain at least one value, ascending, none twice; got {list(values)}")
        object.__setattr__(self, "grid", grid)
        object.__setattr__(self, "qs", qs)
        object.__setattr__(self, "settings", check_settings(self.settings))
        names = [dimension.name for dimension in self.space]
        if len(set(names)) < len(names) or len(names) > MOST_DIMENSIONS:
            raise ValueError(
                f"{self.label}: at most {MOST_DIMENSIONS} settings can be searched, none twice; got {names}"
            )


class Choice(NamedTuple):
    """The outcome of tuning.

    Attributes:
        run: the tuning run with the chosen learning rate, schedule and settings.
        train_loss: the training loss there; over several tuning seeds their mean, geometric if all are positive.
        edge: -1 or +1 if the learning rate is the smallest or the largest tried, so that a better one may be beyond;
            else 0.
    """

    run: Run
    train_loss: float
    edge: int = 0

    @property
    def lr(self) -> float:
        """The chosen learning rate (γ)."""
        return self.run.lr

    @property
    def decay(self) -> Schedule:
        """The chosen schedule."""
        return self.run.decay


@dataclass(frozen=True)
class Study:
    """A comparison of optimizers on one task.

    They are tuned on ``tuning_seed`` and compared on ``seeds``.

    Attributes:
        dataset, model, batch_size, device, precision, source, loss_samples: as in `Run`.
        contenders: the optimizers.
        reference: label of the optimizer that the others are compared with.
        tuning_epochs, tuning_seed: length and seed of the tuning runs; the seed is none of ``seeds``.
        epochs, seeds: of the final runs.
        metrics: measured on the test set, the main one first.
        command: the command line that made the study, for the report.
        trials: of a search for each optimizer; 0 if each is tuned on its grid. A search also trains on a second tuning
            seed.
        seed_cap: the seeds that are used at most where they are added until the winner is established, as
            `inna.experiments.study.seed_looks` describes; ``seeds`` are then 1, 2, ... as far as they are needed. 0 if
            ``seeds`` are given.
        refinement: where optimizers are tuned on grids, how fine the learning rates around the best become: 4 for
            quarters of a decade, 8 for eighths, 0 for the grid alone.
        budget: limit of the whole study, as `parse_budget` reads it, shared equally among the optimizers; empty for no
            limit. Runs and epochs limit the tuning runs of each, time stops them.

    Raises:
        ValueError: two optimizers are the same, the reference is none of them, the tuning seed is among the
            final seeds, a number is out of range, or the budget does not pay for one tuning run and the final runs of
            each.
    """

    dataset: str
    model: str
    contenders: tuple[Contender, ...]
    reference: str
    tuning_epochs: int
    epochs: int
    seeds: tuple[int, ...]
    tuning_seed: int = TUNING_SEED
    batch_size: int = 32
    device: str = "cpu"
    precision: str = "float32"
    source: str = ""
    metrics: tuple[Metric, ...] = (Metric("accuracy", "max"),)
    command: str = ""
    budget: str = ""
    trials: int = 0
    seed_cap: int = 0
    loss_samples: int = 0
    refinement: int = 0

    def __post_init__(self) -> None:
        for name in ("dataset", "model", "reference", "device", "precision", "source", "command", "budget"):
            check_text(name, getattr(self, name))
        for name in ("batch_size", "loss_samples"):
            check_whole(name, getattr(self, name), minimum=0)
        for name, goal in self.metrics:
            check_text("a metric's name", name)
            if goal not in ("max", "min"):
                raise ValueError(f"the goal of metric {name} must be 'max' or 'min', got {goal!r}")
        labels = [contender.label for contender in self.contenders]
        for name in ("tuning_epochs", "epochs"):
            check_whole(name, getattr(self, name), minimum=1)
        for seed in (self.tuning_seed, *self.seeds):
            check_whole("seed", seed, minimum=0)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must contain at least one seed, none twice; got {list(self.seeds)}")
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(f"optimizer {twice!r} is given twice")
        if self.reference not in labels:
            raise ValueError(f"reference must be one of {labels}, got {self.reference!r}")
        check_whole("seed_cap", self.seed_cap, minimum=0)
        if self.seed_cap and self.seeds not in [tuple(range(1, look + 1)) for look in looks(self.seed_cap)]:
            raise ValueError(f"seeds that are added must be 1, 2, ... up to one of {looks(self.seed_cap)}")
        finals = range(1, self.seed_cap + 1) if self.seed_cap else self.seeds
        for seed in (*self.tuning_seeds, *self.spare_seeds):
            if seed in finals:
                raise ValueError(f"the tuning seed must not be a final seed: {seed} is in {list(finals)}")
        check_whole("trials", self.trials, minimum=0)
        if self.refinement not in (0, *REFINEMENTS):
            raise ValueError(f"refinement must be 0 or one of {list(REFINEMENTS)}, got {self.refinement!r}")
        if self.trials and self.refinement:
            raise ValueError("refinement must be 0 in a search, which refines its learning rates itself")
        most = max((len(contender.qs) for contender in self.contenders), default=0)
        if 0 < self.trials < most:
            raise ValueError(f"trials must be at least the number of schedules, {most}; got {self.trials}")
        if self.tuning_limit is not None and self.tuning_limit < 1:
            raise ValueError(
                f"a budget of {self.budget} does not pay for one tuning run of {self.tuning_epochs} epochs and "
                f"{self.most_seeds} final runs of {self.epochs} for each of {len(labels)} optimizers"
            )

    @property
    def tuning_seeds(self) -> tuple[int, ...]:
        """The tuning seed, and the second one of a search."""
        return (self.tuning_seed, self.tuning_seed + _SEED_DISTANCE) if self.trials else (self.tuning_seed,)

    @property
    def spare_seeds(self) -> tuple[int, ...]:
        """Two further tuning seeds of a search, used beside a rate that fails."""
        return tuple(self.tuning_seed + _SEED_DISTANCE * place for place in (2, 3)) if self.trials else ()

    @property
    def tuning_limit(self) -> int | None:
        """The tuning runs that a budget in runs or epochs allows each optimizer.

        None for no such limit.
        """
        if not self.budget:
            return None
        amount, unit = parse_budget(self.budget)
        share = amount / len(self.contenders)
        if unit == "runs":
            return int(share) - self.finals
        if unit == "epochs":
            return int((share - self.finals * self.epochs) // self.tuning_epochs)
        return None

    @property
    def finals(self) -> int:
        """The final runs of each optimizer at most, with the untuned ones."""
        return self.most_seeds * (2 if any(each.untuned_lr is not None for each in self.contenders) else 1)

    @property
    def most_seeds(self) -> int:
        """The number of final seeds, with those that may be added."""
        return self.seed_cap or len(self.seeds)

    def continues(self, run: Run) -> bool:
        """Return whether ``run`` is one that a search may continue for more epochs."""
        return bool(self.trials) and run.seed in self.tuning_seeds and run.epochs < self.longest

    @property
    def longest(self) -> int:
        """The epochs of the last rung of a search.

        Those of final runs, at most twice the tuning epochs.
        """
        return max(self.tuning_epochs, min(self.epochs, 2 * self.tuning_epochs))

    @property
    def error_share(self) -> float:
        """The share of the error rate that tests on the present seeds may spend."""
        return share(len(self.seeds), self.seed_cap)

    def with_seeds(self, count: int) -> Study:
        """Return this study with the final seeds 1, ..., ``count``."""
        return dataclasses.replace(self, seeds=tuple(range(1, count + 1)))

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that name the study.

        The command that made it does not matter.
        """
        study = self.with_seeds(looks(self.seed_cap)[0]) if self.seed_cap else self
        fields = _fields(study) | {"command": ""}
        return hashlib.sha256(canonical(fields).encode()).hexdigest()[:8]

    def differences(self, other: Study) -> list[str]:
        """Name what differs between two studies, apart from the commands that made them."""
        equal = {"command", "seeds"} if self.seed_cap and self.seed_cap == other.seed_cap else {"command"}
        names = [field.name for field in dataclasses.fields(self) if field.name not in equal]
        return [_WORDS.get(name, name) for name in names if getattr(self, name) != getattr(other, name)]

    def contains(self, other: Study) -> bool:
        """Return whether ``other`` is this study or a part of it.

        A part has fewer optimizers or seeds.
        """
        apart = {"command", "contenders", "seeds", "reference"}
        names = {field.name for field in dataclasses.fields(self)} - apart
        return (
            all(getattr(self, name) == getattr(other, name) for name in names)
            and set(other.contenders) <= set(self.contenders)
            and set(other.seeds) <= set(self.seeds)
        )

    def run(self, contender: Contender, lr: float, decay: Schedule, *, seed: int, epochs: int) -> Run:
        """Return a run of ``contender`` with this learning rate and schedule."""
        return Run(
            dataset=self.dataset,
            model=self.model,
            optimizer=contender.optimizer,
            lr=lr,
            alpha=contender.alpha,
            beta=contender.beta,
            settings=contender.settings,
            batch_size=self.batch_size,
            epochs=epochs,
            seed=seed,
            device=self.device,
            precision=self.precision,
            source=self.source,
            optimizer_source=contender.source,
            loss_samples=self.loss_samples,
        ).with_decay(decay)

    def tuning_run(self, contender: Contender, lr: float, decay: Schedule) -> Run:
        """Return the tuning run of ``contender`` with this rate and schedule."""
        return self.run(contender, lr, decay, seed=self.tuning_seed, epochs=self.tuning_epochs)

    def final_runs(self, choice: Choice) -> list[Run]:
        """Return the final runs of ``choice``, one per seed."""
        return [dataclasses.replace(choice.run, seed=seed, epochs=self.epochs, horizon=0) for seed in self.seeds]

    def untuned_runs(self, contender: Contender) -> list[Run]:
        """Return the runs of ``contender`` at its library's defaults, one per seed.

        The settings that it has are kept, those that a search would tune are the library's, and the schedule is
        constant.
        """
        lr = contender.untuned_lr
        return [] if lr is None else [self.run(contender, lr, 0.0, seed=s, epochs=self.epochs) for s in self.seeds]

    def save(self, folder: Path) -> None:
        """Write the description into ``folder`` as study.json, atomically."""
        write_document(folder / MANIFEST, {"study": _fields(self)})

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Read the description from ``folder``.

        Raises:
            FileNotFoundError: there is no study.json.
            DamagedRowError: it is damaged.
        """
        try:
            fields = read_document(folder / MANIFEST).get("study")
        except FileNotFoundError:
            raise FileNotFoundError(f"{folder}: no {MANIFEST} here; `inna compare` writes one") from None
        try:
            fields = dict(fields)  # type: ignore[arg-type]
            fields["seeds"] = tuple(fields["seeds"])
            fields["metrics"] = tuple(Metric(*metric) for metric in fields["metrics"])
            fields["contenders"] = tuple(
                Contender(
                    **dict(
                        contender,
                        grid=tuple(contender["grid"]),
                        qs=tuple(contender["qs"]),
                        space=tuple(
                            Dimension(**dict(dimension, rest=tuple(dimension["rest"])))
                            for dimension in contender.get("space", ())
                        ),
                    )
                )
                for contender in fields["contenders"]
            )
            return cls(**fields)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise DamagedRowError(f"{folder / MANIFEST}: not a study ({error})") from None


def _fields(study: Study) -> dict[str, Any]:
    """Return the fields as plain data.

    Those younger than most studies are absent at their defaults.
    """
    fields = dataclasses.asdict(study)
    for name in ("trials", "seed_cap", "loss_samples", "refinement"):
        if not fields[name]:
            del fields[name]
    for contender in fields["contenders"]:
        if not contender["space"]:
            del contender["space"]
        if contender["untuned_lr"] is None:
            del contender["untuned_lr"]
    return fields
