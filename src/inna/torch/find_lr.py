"""Find a learning rate by short races of copies of the model."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import random
import statistics
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from inna.checks import check_range, check_whole
from inna.torch.measures.constant_loss import constant_loss
from inna.torch.steps.arguments import closure_needed, takes_loss

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LearningRateSearch", "find_lr"]

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
class _Candidate:
    lr: float
    model: nn.Module
    optimizer: torch.optim.Optimizer
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if callable(mode := getattr(self.optimizer, "train", None)):  # schedule-free optimizers have modes
            mode()
        self.closed, self.takes_loss = closure_needed(self.optimizer), takes_loss(self.optimizer)

    @property
    def alive(self) -> bool:
        return not self.losses or math.isfinite(self.losses[-1])


def find_lr(
    optimizer: Callable[..., torch.optim.Optimizer],
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    batches: Iterable[Any],
    *,
    grid: Sequence[float] | None = None,
    steps: int = 600,
    seed: int = 0,
) -> LearningRateSearch:
    """Find a learning rate by short races of copies of the model.

    A copy of the model trains at each learning rate of the grid, all on the same batches. After a few steps the best
    two continue. Of these, the one with the lower projected loss races against the geometric mean of itself and the
    next learning rate of the grid above. The projected loss is that after twice the steps if it goes on falling as in
    the second half. As long as no candidate gets below chance, as in networks that stay there for hundreds of steps,
    the race gets longer, up to 8 times the steps. If the loss at the learning rate found is less than a quarter below
    chance, the network has only just left a plateau, and chance may decide when. It then races once more with another
    order of the batches, and the two next ones of the grid below with it; the largest that trains is taken.

    The model, its gradients and its modes are not touched. The states of the random number generators of Python, NumPy
    and PyTorch, and of the generator of a DataLoader and its sampler, are restored. There is a copy of the model
    and of the optimizer's state for each candidate.

    Args:
        optimizer: a class of optimizers, or a function (params, lr) -> optimizer.
        model: the network, as it is before training.
        loss: (outputs, targets) -> the loss of a batch.
        batches: pairs (inputs, targets), such as a DataLoader; it is iterated as often as needed.
        grid: learning rates > 0, at least two. None is the half-decades from 1e-5 to 10.
        steps: steps of all candidates together, unless none trains; at least 8 for each candidate, and 8 more.
        seed: of the order of the batches and of dropout.

    Returns:
        The result, with ``lr``, ``table`` and ``plot()``.

    Warns:
        UserWarning: the best learning rate is at the edge of the grid, or none trains.

    Raises:
        ValueError: an argument is out of range, the model cannot be copied, or ``batches`` yields no pairs, or
            nothing on a second iteration.

    >>> data = [(torch.linspace(-1, 1, 8).unsqueeze(1), torch.linspace(-2, 2, 8).unsqueeze(1))]
    >>> found = find_lr(torch.optim.SGD, nn.Linear(1, 1), nn.functional.mse_loss, data, grid=[0.001, 0.1, 10], steps=60)
    >>> found.lr < 10, list(found.table.columns)
    (True, ['lr', 'steps', 'loss', 'projected', 'status'])
    """
    lrs = _check_grid(GRID if grid is None else grid)
    check_whole("steps", steps, LEAST * (len(lrs) + 1))
    check_whole("seed", seed, 0)
    with _untouched(batches):
        race = _Race(optimizer, model, loss, batches, seed)
        candidates = [race.enter(lr) for lr in lrs]
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
        pair: list[_Candidate] = []
        while candidates and not race.trained(pair):
            pair, candidates = candidates[:2], candidates[2:]
            race.run(pair, max(first, length - done))
        if not race.trained(pair):
            text = "no learning rate of the grid gets the loss below chance; give another grid or more steps"
            warnings.warn(text, stacklevel=2)
            chosen = min(lrs, key=lambda lr: (_recent(race.losses[lr]), lr))
        else:
            best = min(race.trained(pair), key=lambda each: _projected(each.losses))
            if best.lr in (lrs[0], lrs[-1]):
                warnings.warn(
                    f"the best learning rate, {best.lr:g}, is at the edge of the grid; extend it", stacklevel=2
                )
            chosen = race.above(best, lrs)
        status = {lr: race.status(losses) for lr, losses in race.losses.items()}
        if status[chosen] != "trained" or race.moved(race.losses[chosen], DEEP):
            return LearningRateSearch(chosen, race.losses, status, race.chance())
        second = race.again()
        again = [second.enter(lr) for lr in (chosen, *[lr for lr in reversed(lrs) if lr < chosen][:LOWER])]
        while True:
            second.run(again, len(race.losses[chosen]))
            if second.trained(again) or second.steps >= PATIENCE * steps or not any(each.alive for each in again):
                break
        if settled := second.trained(again):
            chosen = max(each.lr for each in settled)
        else:
            chosen = min(again, key=lambda each: _recent(each.losses)).lr
            warnings.warn("no learning rate trains with another order of the batches; take more steps", stacklevel=2)
        failed = {each.lr: "trained once" for each in again if each not in settled and status[each.lr] == "trained"}
        return LearningRateSearch(chosen, race.losses, status | failed, race.chance(), second.losses)


class _Race:
    """Candidates that train on the same batches."""

    def __init__(
        self,
        optimizer: Callable[..., torch.optim.Optimizer],
        model: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        batches: Iterable[Any],
        seed: int,
    ) -> None:
        self.make, self.model, self.loss, self.batches, self.seed = optimizer, model, loss, batches, seed
        self.losses: dict[float, list[float]] = {}  # of the candidates
        self.control: list[float] = []
        self._untrained = _Candidate(0.0, self._copy(), torch.optim.SGD([torch.zeros(1)], lr=0.0))
        self._output: Any = None
        self._targets: list[Tensor] = []
        self._chance = 0, math.nan

    def again(self) -> _Race:
        """Return a race with another order of the batches and other dropout."""
        return _Race(self.make, self.model, self.loss, self.batches, self.seed + 1_000_000_007)

    def enter(self, lr: float) -> _Candidate:
        """Return a new candidate."""
        twin = self._copy()
        made = self.make(twin.parameters(), lr=lr) if isinstance(self.make, type) else self.make(twin.parameters(), lr)
        return _Candidate(lr, twin, made, self.losses.setdefault(lr, []))

    def _copy(self) -> nn.Module:
        try:
            return copy.deepcopy(self.model).train()
        except Exception as error:
            raise ValueError(f"the model cannot be copied: {error}") from error

    def run(self, candidates: Sequence[_Candidate], steps: int) -> None:
        """Take ``steps`` steps with each candidate that is alive.

        All of them have taken as many before.
        """
        done = len(next((each.losses for each in candidates if each.alive), []))
        for number, batch in itertools.islice(self._batches(), done, done + steps):
            for candidate in candidates:
                if candidate.alive:
                    candidate.losses.append(self._step(candidate, number, batch))
            if number == len(self.control):
                self.control.append(self._step(self._untrained, number, batch, train=False))
                if isinstance(batch[1], Tensor):
                    self._targets.append(batch[1].cpu())

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
            value = statistics.fmean(self.control)
            if self._targets and isinstance(self._output, Tensor):
                with contextlib.suppress(Exception):  # a loss need not accept such an output
                    constant = constant_loss(self._output, torch.cat(self._targets), self.loss)
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

    def trained(self, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """Return the candidates whose loss is below chance."""
        return [each for each in candidates if self.status(each.losses) == "trained"]

    def above(self, best: _Candidate, lrs: Sequence[float]) -> float:
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

    def _batches(self) -> Iterator[tuple[int, tuple[Any, Any]]]:
        """Yield the batches with their numbers, epoch after epoch.

        The seed decides their order.
        """
        number = 0
        for epoch in itertools.count():
            began = number
            torch.manual_seed(self.seed + epoch)
            for batch in self.batches:
                if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                    raise ValueError(f"batches must yield pairs (inputs, targets), got {type(batch).__name__}")
                yield number, (batch[0], batch[1])
                number += 1
            if number == began:
                raise ValueError(
                    "batches must yield batches each time it is iterated, as a list or a DataLoader does"
                    if epoch
                    else "batches is empty"
                )

    def _step(self, candidate: _Candidate, number: int, batch: tuple[Any, Any], *, train: bool = True) -> float:
        """Take one step, or none; return the loss before it.

        Infinite if it is not finite.
        """
        device = next(candidate.model.parameters()).device
        inputs, targets = (each.to(device) if isinstance(each, Tensor) else each for each in batch)
        values: list[Tensor] = []

        def closure() -> Tensor:
            candidate.optimizer.zero_grad()
            outputs = candidate.model(inputs)
            if self._output is None and isinstance(outputs, Tensor):
                self._output = outputs.detach()[:1].cpu()
            value = self.loss(outputs, targets)
            if train:
                value.backward()
            values.append(value.detach())
            return value

        state = torch.get_rng_state()
        torch.manual_seed(self.seed + 1_000_003 * (number + 1))  # the same dropout for all
        with torch.set_grad_enabled(train):
            step: Any = candidate.optimizer.step
            if candidate.closed:
                step(closure)
            else:
                value = closure()
                if train and bool(torch.isfinite(value)):
                    step(**({"loss": value.detach()} if candidate.takes_loss else {}))
        torch.set_rng_state(state)
        first = float(values[0])
        return first if math.isfinite(first) else math.inf


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


@contextlib.contextmanager
def _untouched(batches: Any) -> Iterator[None]:
    """Restore the states of all random number generators."""
    generators = {
        id(each): each
        for holder in (batches, getattr(batches, "sampler", None), getattr(batches, "batch_sampler", None))
        if isinstance(each := getattr(holder, "generator", None), torch.Generator)
    }
    before = [(each, each.get_state()) for each in generators.values()]
    states = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            for generator, state in before:
                generator.set_state(state)
