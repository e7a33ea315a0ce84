"""Results of runs: fields, history, divergence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from inna.experiments.formatting import plain, short
from inna.experiments.rows.run import Run

__all__ = [
    "GUARD_MEASURES",
    "Cost",
    "Result",
    "Rows",
    "cost",
    "divergence_sentence",
    "epochs_added",
    "epochs_begun",
    "final_loss",
    "finished",
    "history",
    "number",
    "trained",
]

# A run whose training loss ends above this share of the loss of the best constant output did not train.
CHANCE_SHARE = 0.99

# Measures in the history of a guarded INNA.
GUARD_MEASURES = ("guarded_share", "last_lr")


Result = Mapping[str, Any]
"""The result of a run, as its row stores it."""

Rows = Mapping[Run, Result]
"""The results of many runs."""


class Cost(NamedTuple):
    """The cost of runs: number, epochs begun, and seconds with evaluation."""

    runs: int
    epochs: int
    seconds: float


def number(value: Any) -> float:
    """Return ``value`` as a float.

    NaN if it is no number, or a whole number too large for a float.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def finished(result: Result) -> bool:
    """Return whether the run completed all its epochs."""
    return result.get("status") == "done"


def final_loss(result: Result) -> float:
    """Return the training loss; infinity if the run did not finish with a finite one."""
    loss = number(result.get("train_loss"))
    return loss if finished(result) and math.isfinite(loss) else math.inf


def trained(result: Result) -> bool:
    """Return whether the run finished and its network learnt from its inputs.

    Its training loss must end at least 1 % below the loss of the best constant output, which is chance. Rows from
    before this was recorded are judged by the loss of their initial weights.
    """
    loss, chance = number(result.get("train_loss")), number(result.get("constant_loss"))
    if math.isnan(chance):
        chance = number(history(result)[0].get("train_loss")) if history(result) else math.nan
    return finished(result) and not loss > chance - (1 - CHANCE_SHARE) * abs(chance)


def history(result: Result) -> Sequence[Mapping[str, Any]]:
    """Return the measurements after each epoch; epoch 0 is before training.

    Those by iteration are none.
    """
    entries: Sequence[Mapping[str, Any]] = result.get("history") or ()
    return entries if entries and "epoch" in entries[0] else ()


def epochs_begun(run: Run, result: Result) -> int:
    """Return the epochs that a run began, including the one in which it diverged."""
    if finished(result):
        return run.epochs
    return min(run.epochs, max((int(epoch["epoch"]) for epoch in history(result)), default=0) + 1)


def epochs_added(runs: Iterable[Run]) -> list[int]:
    """Return the epochs that each of ``runs`` adds to the longest before it.

    Only to one of its own trajectory.
    """
    longest: dict[Run, int] = {}
    added = []
    for run in runs:
        trajectory = run.trajectory
        before = longest.get(trajectory, 0)
        added.append(run.epochs - before if before < run.epochs else run.epochs)
        longest[trajectory] = max(before, run.epochs)
    return added


def cost(runs: Iterable[tuple[Run, Result]]) -> Cost:
    """Return the cost of ``runs`` together.

    Seconds that were not recorded count as zero.

    A run that continues a shorter one counts its epochs and seconds too, so only the longest of each trajectory counts.
    """
    found = list(runs)
    longest: dict[Run, tuple[Run, Result]] = {}
    for run, result in found:
        before = longest.get(run.trajectory)
        if before is None or before[0].epochs < run.epochs:
            longest[run.trajectory] = run, result
    each = [(epochs_begun(run, result), number(result.get("seconds"))) for run, result in longest.values()]
    seconds = math.fsum(seconds for _, seconds in each if math.isfinite(seconds))
    return Cost(len(found), sum(epochs for epochs, _ in each), seconds)


def divergence_sentence(result: Result) -> str:
    """Describe the first bad step of a diverged run.

    Iteration, parameter, learning rate, loss before.
    """
    facts = result.get("divergence") or {}
    iteration, epoch, parameter = facts.get("iteration"), facts.get("epoch"), facts.get("parameter")
    parts = []
    if iteration is not None:
        parts.append(f"at iteration {iteration:,}" + (f" (epoch {epoch})" if epoch is not None else ""))
    if parameter:
        parts.append(f"in parameter {plain(str(parameter))}")
    sentence = f"First bad step {', '.join(parts)}" if parts else "The first bad step was not recorded"
    rate, loss = number(facts.get("lr")), number(facts.get("last_finite_loss"))
    if math.isfinite(rate):
        sentence += f"; γ was {short(rate)}"
    sentence += f", the last finite loss {short(loss)}" if math.isfinite(loss) else "; no loss was finite before"
    reason = plain(str(facts.get("reason") or ""))
    return f"{sentence}. {reason[:1].upper()}{reason[1:]}".strip().rstrip(".") + "."
