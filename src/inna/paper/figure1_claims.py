"""The claims about Figure 1, each a function from its descents to a verdict.

The figure shows three descents in a valley: (a) with small β, (b) with larger β, (c) with larger β and larger α. An
oscillation across the valley is measured by |θ₂ − |θ₁||, one along it by how far θ₁ passes the minimum at 1, if it
turns back. The descents are deterministic: there are no seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from inna.experiments.formatting import fixed
from inna.paper.descents import Descent
from inna.paper.verdicts import Number, Outcome, Verdict

__all__ = ["judge_figure1"]

# The first turns into the valley belong to the start; from this iteration on, what goes across it is an oscillation,
# if it is at least this wide.
SETTLED = 5_000
ACROSS = 0.1
# How far θ₁ must pass the minimum at 1 for an oscillation along the valley. The figure: 0.49 (a), 0.39 (b), 0.05 (c).
ALONG = 0.1
PAPER_ALONG = (0.488, 0.394, 0.051)
# Iterations between which (c) is said to be slower; and the last share of a descent, which is its long run.
MIDDLE = (20_000, 60_000)
LONG_RUN = 0.1

STATEMENTS = {
    "small-beta-oscillates": "Small β: the descent oscillates across the valley and along it.",
    "beta-damps-across": "Larger β removes the oscillation across the valley.",
    "alpha-damps-along": "Larger α removes the oscillation along the valley.",
    "slower-then-best": "(1.3, 0.1) is slower between 20,000 and 60,000 iterations, and best in the long run.",
}


class Three(NamedTuple):
    """The panels (a), (b) and (c)."""

    small_beta: Descent
    large_beta: Descent
    large_alpha: Descent


def judge_figure1(descents: Iterable[Descent]) -> list[Verdict]:
    """Four verdicts for each label of ``descents``, in the order of their appearance."""
    groups: dict[str, list[Descent]] = {}
    for descent in descents:
        groups.setdefault(descent.label, []).append(descent)
    return [verdict for label, members in groups.items() for verdict in _verdicts(label, members)]


def across(descent: Descent) -> float:
    """The largest |θ₂ − |θ₁|| once the start is over; NaN where nothing is kept after it."""
    kept = zip(descent.iteration, descent.theta1, descent.theta2, strict=True)
    return max((abs(y - abs(x)) for k, x, y in kept if k >= SETTLED), default=math.nan)


def along(descent: Descent) -> float:
    """How far θ₁ passes 1, if it then comes at least half-way back; else 0."""
    farthest = max(descent.theta1)
    later = descent.theta1[descent.theta1.index(farthest) :]
    return farthest - 1 if farthest > 1 and min(later) <= 1 + (farthest - 1) / 2 else 0.0


def _verdicts(label: str, members: Sequence[Descent]) -> Iterable[Verdict]:
    three = _three(members)
    speeds = " / ".join(dict.fromkeys(f"{each.initial_speed:g}" for each in members))
    when = f"{label} settings, initial speed {speeds}"
    for name, statement in STATEMENTS.items():
        outcome: Outcome = "not enough runs"
        numbers: tuple[Number, ...] = ()
        sentence = "Needs one descent with small β, and two with a larger one at different α."
        if three is not None:
            holds, numbers, sentence = _RULES[name](three)
            outcome = "holds" if holds else "does not hold"
        yield Verdict(name, statement, "section 5.1, Figure 1", outcome, when, numbers, None, None, sentence)


def _three(members: Sequence[Descent]) -> Three | None:
    large = max((each.beta for each in members), default=0.0)
    small = [each for each in members if each.beta < large]
    rest = sorted((each for each in members if each.beta == large), key=lambda each: each.alpha)
    if len(small) != 1 or len(rest) != 2 or rest[0].alpha == rest[1].alpha:
        return None
    return Three(small[0], *rest)


Found = tuple[bool, tuple[Number, ...], str]


def _small_beta_oscillates(three: Three) -> Found:
    descent = three.small_beta
    wide, far = across(descent), along(descent)
    return (
        wide >= ACROSS and far >= ALONG,
        (_across(descent), _along(descent, 0)),
        (
            f"{descent.name} swings {fixed(wide, 3)} across the valley after iteration {SETTLED:,} and {fixed(far, 3)} "
            f"beyond the minimum and back ({ACROSS:g} and {ALONG:g} count as oscillations){_gone(descent)}."
        ),
    )


def _beta_damps_across(three: Three) -> Found:
    before, after = three.small_beta, three.large_beta
    return (
        across(before) >= ACROSS > across(after),
        (_across(before), _across(after)),
        (
            f"From {before.name} to {after.name} the swing across the valley falls from {fixed(across(before), 3)} to "
            f"{fixed(across(after), 3)}."
        ),
    )


def _alpha_damps_along(three: Three) -> Found:
    before, after = three.large_beta, three.large_alpha
    return (
        along(before) >= ALONG > along(after),
        (_along(before, 1), _along(after, 2)),
        (
            f"From {before.name} to {after.name} the swing beyond the minimum falls from {fixed(along(before), 3)} to "
            f"{fixed(along(after), 3)}."
        ),
    )


def _slower_then_best(three: Three) -> Found:
    middle = [_mean_log(each, *MIDDLE) for each in three]
    ends = [_mean_log(each, (1 - LONG_RUN) * each.iteration[-1], each.iteration[-1]) for each in three]
    numbers = tuple(
        Number(f"{each.name}, mean log₁₀ J in the middle; at the end", f"{fixed(a, 2)}; {fixed(b, 2)}", "–")
        for each, a, b in zip(three, middle, ends, strict=True)
    )
    last = three.large_alpha
    return (
        middle[2] > max(middle[:2]) and ends[2] < min(ends[:2]),
        numbers,
        (
            f"{last.name} has mean log₁₀ J {fixed(middle[2], 2)} between {MIDDLE[0]:,} and {MIDDLE[1]:,} iterations, "
            f"the others {fixed(middle[0], 2)} and {fixed(middle[1], 2)}; over the last tenth {fixed(ends[2], 2)} "
            f"against {fixed(ends[0], 2)} and {fixed(ends[1], 2)}."
        ),
    )


_RULES = dict(
    zip(STATEMENTS, (_small_beta_oscillates, _beta_damps_across, _alpha_damps_along, _slower_then_best), strict=True)
)


def _mean_log(descent: Descent, start: float, end: float) -> float:
    kept = [value for k, value in zip(descent.iteration, descent.log10_loss, strict=True) if start <= k <= end]
    return math.fsum(kept) / len(kept) if kept else math.nan


def _across(descent: Descent) -> Number:
    return Number(f"{descent.name}, swing across the valley", fixed(across(descent), 3), "–")


def _along(descent: Descent, panel: int) -> Number:
    return Number(
        f"{descent.name}, swing beyond the minimum", fixed(along(descent), 3), f"{fixed(PAPER_ALONG[panel], 3)}"
    )


def _gone(descent: Descent) -> str:
    end = descent.theta1[-1], descent.theta2[-1]
    return f"; it ends at ({end[0]:.3g}, {end[1]:.3g})" if math.dist(end, (1, 1)) > 2 else ""
