"""Races of learning rates, for any framework.

Who races whom, and which learning rate is taken.
`inna.torch.find_lr`, `inna.optax.find_lr` and `inna.keras.find_lr` say how a candidate takes a step.
"""

from __future__ import annotations

import abc
import itertools
import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inna.checks import check_range, check_whole

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ARGUMENTS", "CHANCE", "GRID", "WARNINGS", "LearningRateSearch", "Race", "run_races"]

# Of the docstrings of find_lr.
ARGUMENTS = """\
grid: learning rates > 0, at least two. None is the half-decades from 1e-5 to 10, as far up as the optimizer
    accepts them.
steps: steps of all candidates together, unless none trains; at least 8 for each candidate, and 8 more."""
CHANCE = """\
chance: the loss of the best constant output, such as log(classes) of a classification, if you know it. A
    candidate has trained if its loss gets below both that and the initial loss."""
WARNINGS = """\
UserWarning: the best learning rate is at the edge of the grid, none trains, or the optimizer refuses the
    largest of the default grid."""

# Half-decades from 1e-5 to 10.
GRID = tuple(float(f"{10 ** (i / 2):.3g}") for i in range(-10, 3))
# A learning rate trains if it lowers the loss by this share below chance.
MOVED = 0.02
# Races may take this many times the steps that were asked for, as long as no candidate trains.
PATIENCE = 8
# The share of the steps for the first round, in which all candidates race, and the least steps of each there.
FIRST, LEAST = 0.17, 8
# A race that lowers the loss by less than this share below chance has only just left a plateau. The learning rate must
# train with another order of the batches, too, or it gives way to one of the next of the grid below, at most so many.
DEEP, LOWER = 0.25, 2
# What the second race adds to the seed.
SECOND = 1_000_000_007
# Of two learning rates the larger is taken unless its projected loss is this many times as large.
TIE = 1.2


@dataclass(frozen=True)
class LearningRateSearch:
    """The result of `find_lr`.

    Attributes:
        lr: the learning rate found.
        losses: learning rate -> the training loss of each of its steps, before the step. An infinite one ends a
            candidate that diverged.
        status: learning rate -> "trained", "did not train", "diverged", or "trained once" if it did not train with
            another order of the batches.
        chance: the loss of the model as it was, or if that is lower the loss of the best constant output.
        second: learning rate -> its losses with another order of the batches; empty unless the training has only just
            begun at the end of the race.
    """

    lr: float
    losses: dict[float, list[float]]
    status: dict[float, str]
    chance: float
    second: dict[float, list[float]] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """The number of steps that all candidates took together."""
        return sum(map(len, (*self.losses.values(), *self.second.values())))

    @property
    def table(self) -> pd.DataFrame:
        """One row for each candidate.

        Its learning rate, steps, recent loss (the mean over the last quarter of its steps), projected loss (after twice
        the steps, if it goes on falling as in the second half), and whether it trained.
        """
        import pandas as pd

        rows = [
            {
                "lr": lr,
                "steps": len(losses) + len(self.second.get(lr, ())),
                "loss": _recent(losses),
                "projected": _projected(losses),
                "status": self.status[lr],
            }
            for lr, losses in sorted(self.losses.items())
        ]
        return pd.DataFrame(rows)

    def plot(self) -> Any:
        """Return an Altair chart of the recent loss against the learning rate."""
        import altair as alt
        import pandas as pd

        table = self.table.replace(math.inf, math.nan)
        x = alt.X("lr:Q", title="learning rate (γ)").scale(type="log")
        y = alt.Y("loss:Q", title="training loss at the end of its race").scale(zero=False)
        points = alt.Chart(table).mark_line(point=True).encode(x=x, y=y, tooltip=["lr", "loss", "steps", "status"])
        chosen = alt.Chart(pd.DataFrame({"lr": [self.lr]})).mark_rule(strokeDash=[4, 3]).encode(x="lr:Q")
        return points + chosen


@dataclass
class Candidate:
    """A learning rate, and the function that trains at it.

    ``step(number, batch)`` trains on a batch and returns the loss before that.
    """

    lr: float
    step: Callable[[int, Any], float]
    losses: list[float]

    @property
    def alive(self) -> bool:
        return not self.losses or math.isfinite(self.losses[-1])


class Race(abc.ABC):
    """Candidates that train on the same batches.

    Args:
        seed: of the order of the batches and of dropout.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.losses: dict[float, list[float]] = {}  # of the candidates
        self.control: list[float] = []
        self._chance = 0, math.nan

    @abc.abstractmethod
    def again(self, seed: int) -> Race:
        """Return a race of the same model on the same data, with another seed."""

    @abc.abstractmethod
    def start(self, lr: float) -> Callable[[int, Any], float]:
        """Return a function that trains a new copy of the model.

        Given the number of a batch and the batch, it takes a step and returns the loss before it, infinite if that is
        not finite.
        """

    @abc.abstractmethod
    def untrained(self, number: int, batch: Any) -> float:
        """Return the loss of the model as it was, on a batch."""

    @abc.abstractmethod
    def epoch(self, number: int) -> Iterable[Any]:
        """Return the batches of an epoch."""

    def best_constant(self) -> float | None:
        """Return the loss of the best constant output on the batches so far.

        None if that is unknown.
        """
        return None

    def enter(self, lr: float) -> Candidate:
        """Return a new candidate."""
        return Candidate(lr, self.start(lr), self.losses.setdefault(lr, []))

    def run(self, candidates: Sequence[Candidate], steps: int) -> None:
        """Take ``steps`` steps with each candidate that is alive.

        All of them have taken as many before.
        """
        done = len(next((each.losses for each in candidates if each.alive), []))
        for number, batch in itertools.islice(self._batches(), done, done + steps):
            for candidate in candidates:
                if candidate.alive:
                    candidate.losses.append(candidate.step(number, batch))
            if number == len(self.control):
                self.control.append(self.untrained(number, batch))

    @property
    def steps(self) -> int:
        """The number of steps that all candidates took together."""
        return sum(map(len, self.losses.values()))

    def chance(self) -> float:
        """Return the loss at chance.

        It is the initial model's, or the best constant output's if that is lower.
        """
        number, value = self._chance
        if number != len(self.control):
            value, constant = statistics.fmean(self.control), self.best_constant()
            value = value if constant is None else min(value, constant)
            self._chance = len(self.control), value
        return value

    def status(self, losses: Sequence[float]) -> str:
        """Return whether a candidate trained.

        That is, whether its recent loss is below chance on the same batches.
        """
        if not math.isfinite(_recent(losses)):
            return "diverged"
        return "trained" if self.moved(losses, MOVED) else "did not train"

    def moved(self, losses: Sequence[float], share: float) -> bool:
        """Return whether the recent loss is by ``share`` below chance on its batches."""
        easier = _recent(self.control[: len(losses)]) - statistics.fmean(self.control)
        chance = self.chance()
        return _recent(losses) < chance + easier - share * abs(chance)

    def trained(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates whose loss is below chance."""
        return [each for each in candidates if self.status(each.losses) == "trained"]

    def above(self, best: Candidate, lrs: Sequence[float]) -> float:
        """Return the best learning rate, or the one half-way to the next above it.

        The latter races as long as the best has. Of two that are as good it is taken, as the larger one: longer
        training gains more from it.
        """
        if best.lr == lrs[-1]:
            return best.lr
        rival = self.enter(float(f"{math.sqrt(best.lr * lrs[lrs.index(best.lr) + 1]):.3g}"))
        self.run([rival], len(best.losses))
        limit = _projected(best.losses)
        good = _projected(rival.losses) <= max(limit, TIE * limit)
        return rival.lr if good and self.trained([rival]) else best.lr

    def _batches(self) -> Iterator[tuple[int, Any]]:
        """Yield the batches with their numbers, epoch after epoch."""
        number = 0
        for epoch in itertools.count():
            began = number
            for batch in self.epoch(epoch):
                yield number, batch
                number += 1
            if number == began:
                raise ValueError(
                    "batches must yield batches each time it is iterated, as a list or a DataLoader does"
                    if epoch or self.control
                    else "batches is empty"
                )


def check_races(grid: Sequence[float] | None, steps: int, seed: int) -> list[float]:
    """Return the learning rates of the grid, sorted; refuse arguments out of range."""
    lrs = _check_grid(GRID if grid is None else grid)
    check_whole("steps", steps, LEAST * (len(lrs) + 1))
    check_whole("seed", seed, 0)
    return lrs


def run_races(race: Race, lrs: Sequence[float], steps: int, *, default: bool = False) -> LearningRateSearch:
    """Find the learning rate.

    Args:
        race: a race without candidates.
        lrs: the sorted grid.
        steps: of all candidates together.
        default: leave out the learning rates that the optimizer refuses, since nobody asked for them.

    Raises:
        ValueError: the optimizer refuses a learning rate of the grid, or all of the default grid.
    """
    candidates = _enter(race, lrs, default)
    lrs = [each.lr for each in candidates]
    first = max(LEAST, round(FIRST * steps / len(lrs)))
    while True:
        race.run(candidates, first)
        candidates = [each for each in candidates if each.alive]
        if race.trained(candidates) or not candidates or race.steps >= PATIENCE * steps:
            break
    # The best two and one more share the steps that are left, or get those after a short first round.
    done = max(len(losses) for losses in race.losses.values())
    length = (steps - race.steps + 2 * done) // 3 if race.steps <= steps else (steps - first * (len(lrs) - 2)) // 3
    candidates.sort(key=lambda each: _recent(each.losses))
    pair: list[Candidate] = []
    while candidates and not race.trained(pair):
        pair, candidates = candidates[:2], candidates[2:]
        race.run(pair, max(first, length - done))
    if not race.trained(pair):
        text = "no learning rate of the grid gets the loss below chance; give another grid or more steps"
        warnings.warn(text, stacklevel=3)
        chosen = min(lrs, key=lambda lr: (_recent(race.losses[lr]), lr))
    else:
        best = min(race.trained(pair), key=lambda each: _projected(each.losses))
        if best.lr in (lrs[0], lrs[-1]):
            warnings.warn(f"the best learning rate, {best.lr:g}, is at the edge of the grid; extend it", stacklevel=3)
        chosen = race.above(best, lrs)
    status = {lr: race.status(losses) for lr, losses in race.losses.items()}
    if status[chosen] != "trained" or race.moved(race.losses[chosen], DEEP):
        return LearningRateSearch(chosen, race.losses, status, race.chance())
    second = race.again(race.seed + SECOND)
    again = [second.enter(lr) for lr in (chosen, *[lr for lr in reversed(lrs) if lr < chosen][:LOWER])]
    while True:
        second.run(again, len(race.losses[chosen]))
        if second.trained(again) or second.steps >= PATIENCE * steps or not any(each.alive for each in again):
            break
    if settled := second.trained(again):
        chosen = max(each.lr for each in settled)
    else:
        chosen = min(again, key=lambda each: _recent(each.losses)).lr
        warnings.warn("no learning rate trains with another order of the batches; take more steps", stacklevel=3)
    failed = {each.lr: "trained once" for each in again if each not in settled and status[each.lr] == "trained"}
    return LearningRateSearch(chosen, race.losses, status | failed, race.chance(), second.losses)


def _enter(race: Race, lrs: Sequence[float], default: bool) -> list[Candidate]:
    candidates: list[Candidate] = []
    for lr in lrs:
        try:
            candidates.append(race.enter(lr))
        except ValueError as error:
            # Others, such as a model that cannot be copied, come at the first one, and larger rates are refused last.
            if not default or len(candidates) < 2:
                raise
            race.losses.pop(lr, None)
            warnings.warn(
                f"{lr:g} and above are left out of the grid, since the optimizer refuses: {error}", stacklevel=4
            )
            break
    return candidates


def _recent(losses: Sequence[float]) -> float:
    """Return the mean over the last quarter; infinite for a candidate that diverged."""
    return statistics.fmean(losses[-max(1, len(losses) // 4) :]) if losses else math.inf


def _projected(losses: Sequence[float]) -> float:
    """Return the loss after twice the steps, if it keeps falling as it does.

    That is, by the factor of the second half. Of losses that are not positive it is the recent loss.
    """
    recent, before = _recent(losses), _recent(losses[: len(losses) // 2])
    if not (math.isfinite(recent) and recent > 0 and 0 < before < math.inf):
        return recent
    return recent * min(1.0, recent / before)


def _check_grid(grid: Sequence[float]) -> list[float]:
    lrs = sorted({check_range("grid", lr, minimum=0.0, exclusive=True) for lr in grid})
    if len(lrs) < 2:
        raise ValueError(f"grid must have at least two learning rates, got {list(grid)}")
    return lrs
