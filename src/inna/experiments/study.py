"""A study: which optimizers meet on which task, how each is tuned, which seeds decide. No framework is imported.

Every run of a study follows from its description, so a second start knows what is missing, and the report knows what
each row is for. The description lies beside the rows, in ``study.json``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from inna.experiments.rows import DamagedRowError, Run, read_document, write_document

__all__ = ["HALF_DECADES", "Choice", "Contender", "Metric", "Study", "choose"]

MANIFEST = "study.json"
# Nine half-decades, 1e-4 to 1: the default grid of gamma_0.
HALF_DECADES = tuple(float(f"{10 ** (k / 2):.3g}") for k in range(-8, 1))


class Metric(NamedTuple):
    """A figure of merit on the test set, stored in rows as ``test_<name>``, and which direction is good."""

    name: str
    goal: Literal["max", "min"]


@dataclass(frozen=True)
class Contender:
    """An optimizer that takes part, with what is fixed (its settings) and what is tuned (gamma_0 and schedule).

    Attributes:
        label: its name in tables and legends, unique within the study.
        optimizer, alpha, beta, settings: as in `Run`.
        grid: the values of gamma_0, ascending.
        qs: the powers of the step-size decay that are tried.
    """

    label: str
    optimizer: str
    alpha: float | None = None
    beta: float | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    grid: tuple[float, ...] = HALF_DECADES
    qs: tuple[float, ...] = (0.0, 0.5)


class Choice(NamedTuple):
    """The outcome of tuning: the chosen step size, its training loss, and where in the grid it lies.

    ``edge`` is -1 or +1 where the best is the smallest or the largest gamma_0 tried with its schedule, else 0.
    """

    lr: float
    q: float
    train_loss: float
    edge: int


@dataclass(frozen=True)
class Study:
    """A comparison of contenders on one task, tuned on ``tuning_seed`` and decided on ``seeds``.

    Attributes:
        dataset, model, batch_size, device, precision, source: as in `Run`.
        contenders: who takes part.
        reference: label of the contender that others are compared with.
        tuning_epochs, tuning_seed: the length of the tuning runs, and their seed, which is none of ``seeds``.
        epochs, seeds: of the final runs.
        metrics: what is measured on the test set, the main one first.
        command: the command line that made the study, for the report.
    """

    dataset: str
    model: str
    contenders: tuple[Contender, ...]
    reference: str
    tuning_epochs: int
    epochs: int
    seeds: tuple[int, ...]
    tuning_seed: int = 0
    batch_size: int = 32
    device: str = "cpu"
    precision: str = "float32"
    source: str = ""
    metrics: tuple[Metric, ...] = (Metric("accuracy", "max"),)
    command: str = ""

    def __post_init__(self) -> None:
        labels = [contender.label for contender in self.contenders]
        if len(set(labels)) < len(labels):
            raise ValueError(f"two contenders have the same label: {labels}")
        if self.reference not in labels:
            raise ValueError(f"reference must be one of {labels}, got {self.reference!r}")
        if self.tuning_seed in self.seeds:
            raise ValueError(f"seed {self.tuning_seed} tunes, so it cannot decide: seeds are {self.seeds}")

    def run(self, contender: Contender, lr: float, q: float, *, seed: int, epochs: int) -> Run:
        """The run of ``contender`` at step size ``lr`` and decay ``q``."""
        return Run(
            dataset=self.dataset,
            model=self.model,
            optimizer=contender.optimizer,
            lr=lr,
            alpha=contender.alpha,
            beta=contender.beta,
            q=q,
            settings=contender.settings,
            batch_size=self.batch_size,
            epochs=epochs,
            seed=seed,
            device=self.device,
            precision=self.precision,
            source=self.source,
        )

    def tuning_run(self, contender: Contender, lr: float, q: float) -> Run:
        """The tuning run of ``contender`` at step size ``lr`` and decay ``q``."""
        return self.run(contender, lr, q, seed=self.tuning_seed, epochs=self.tuning_epochs)

    def final_runs(self, contender: Contender, choice: Choice) -> list[Run]:
        """The runs that decide, one a seed."""
        return [self.run(contender, choice.lr, choice.q, seed=seed, epochs=self.epochs) for seed in self.seeds]

    def tuning_results(
        self, contender: Contender, rows: Mapping[Run, Mapping[str, Any]]
    ) -> Iterator[tuple[Run, Mapping[str, Any]]]:
        """The tuning runs of ``contender`` among ``rows``, those beyond the first grid included, by q and gamma_0."""
        for run in sorted(rows, key=lambda run: (run.q, run.lr)):
            if run.q in contender.qs and run == self.tuning_run(contender, run.lr, run.q):
                yield run, rows[run]

    def save(self, folder: Path) -> None:
        """Write the description into ``folder`` as study.json, atomically."""
        write_document(folder / MANIFEST, {"study": dataclasses.asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Read the description from ``folder``.

        Raises:
            FileNotFoundError: no study.json lies there.
            DamagedRowError: it is damaged.
        """
        fields = read_document(folder / MANIFEST).get("study")
        try:
            fields = dict(fields)  # type: ignore[arg-type]
            fields["seeds"] = tuple(fields["seeds"])
            fields["metrics"] = tuple(Metric(*metric) for metric in fields["metrics"])
            fields["contenders"] = tuple(
                Contender(
                    **dict(
                        contender,
                        settings=tuple((name, value) for name, value in contender["settings"]),
                        grid=tuple(contender["grid"]),
                        qs=tuple(contender["qs"]),
                    )
                )
                for contender in fields["contenders"]
            )
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedRowError(f"{folder / MANIFEST}: not a study ({error})") from None


def choose(study: Study, contender: Contender, rows: Mapping[Run, Mapping[str, Any]]) -> Choice | None:
    """The step size with the least training loss after the tuning epochs; test data takes no part.

    Diverged runs and losses that are not finite lose. Equal losses go to the smaller q, then the smaller gamma_0.
    None if no tuning run of ``contender`` is among ``rows`` or all diverged.
    """
    best: Choice | None = None
    tried: dict[float, list[float]] = {}
    for run, result in study.tuning_results(contender, rows):
        tried.setdefault(run.q, []).append(run.lr)
        loss = result.get("train_loss", math.nan)
        if result.get("status") == "done" and math.isfinite(loss) and (best is None or loss < best.train_loss):
            best = Choice(run.lr, run.q, loss, 0)
    if best is None:
        return None
    lrs = tried[best.q]
    return best._replace(edge=-1 if best.lr == min(lrs) else 1 if best.lr == max(lrs) else 0)
