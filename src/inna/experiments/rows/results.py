"""Results of runs: fields, history, divergence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from inna.experiments.formatting import plain, short
from inna.experiments.rows.run import Run

__all__ = [
    "Result",
    "divergence_sentence",
    "epochs_begun",
    "finished",
    "history",
    "number",
]


def divergence_sentence(result: Mapping[str, Any]) -> str:
    """What is known of the first bad step of a diverged run: where, in which parameter, its gamma, the loss before."""
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


Result = Mapping[str, Any]


def number(value: Any) -> float:
    """``value`` as a float; NaN where it is no number."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def finished(result: Result) -> bool:
    """Whether the run came to its end."""
    return result.get("status") == "done"


def history(result: Result) -> Sequence[Mapping[str, Any]]:
    """The measurements after each epoch, epoch 0 being before training."""
    return result.get("history") or ()


def epochs_begun(run: Run, result: Result) -> int:
    """The epochs a run took, the one in which it diverged included."""
    if finished(result):
        return run.epochs
    return min(run.epochs, max((int(epoch["epoch"]) for epoch in history(result)), default=0) + 1)
