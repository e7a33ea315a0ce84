"""Demonstrations of critical and spurious points and of those INNA avoids."""

from __future__ import annotations

import numpy as np

from inna.schedules import power_decay
from inna.theory.avoidance import escape_from, mini_batch_runs, reversible_lr
from inna.theory.criticality import criticality
from inna.theory.demonstrations.registry import Outcome, demonstration
from inna.theory.minnorm import min_norm_point
from inna.theory.objectives import CANCELLING_ABS, DOUBLE_WELL, SPLIT_LINE, SPURIOUS_CORNER
from inna.theory.stability import roots


@demonstration(
    "sum-rule",
    statement="|t| - |t| at 0: dJ = {0}, yet DJ = [-2, 2]; critical, so not spurious",
    expected="DJ from -2 to 2, distances 0 and 0",
    source="paper, section 2.3.3",
)
def _sum_rule() -> Outcome:
    assert CANCELLING_ABS.term_gradients is not None
    found = criticality(CANCELLING_ABS.term_gradients, [0.0])
    sides = [CANCELLING_ABS.term_gradients([t]) for t in (-1e-6, 1e-6)]
    hulls = list(np.stack(sides, axis=1))
    # The ends of an interval, found as the nearest points to far away on both sides.
    ends = [float(min_norm_point([*hulls, [[shift]]]).point[0]) - shift for shift in (10.0, -10.0)]
    holds = max(found.clarke, found.d) < 1e-12 and np.allclose(ends, [-2, 2], atol=1e-12) and not found.spurious(1e-6)
    return f"DJ from {ends[0]:g} to {ends[1]:g}, distances {found.clarke:.1g} and {found.d:.1g}", holds


@demonstration(
    "spurious-point",
    statement="relu(t) - relu(-t) = t is spurious at 0: dJ = {1}, DJ = [0, 2], and backpropagation returns 0",
    expected="distances 1 and 0, gradient 0, spurious",
    source="the simplest of its kind, after the paper's section 2.3.3",
)
def _spurious_point() -> Outcome:
    assert SPLIT_LINE.term_gradients is not None
    found = criticality(SPLIT_LINE.term_gradients, [0.0])
    answer = float(SPLIT_LINE.gradient([0.0])[0])
    holds = abs(found.clarke - 1) < 1e-12 and found.d < 1e-12 and answer == 0 and found.spurious(1e-6)
    return f"distances {found.clarke:g} and {found.d:g}, gradient {answer:g}", holds


@demonstration(
    "spurious-corner",
    statement="In the plane, where a crease of J meets the sum rule's failure: spurious at 0, critical at (-1/2, -1/2)",
    expected="distances sqrt(2) and 0 at 0; 0 and 0 at (-1/2, -1/2)",
    source="inna.theory.objectives.SPURIOUS_CORNER",
)
def _spurious_corner() -> Outcome:
    assert SPURIOUS_CORNER.term_gradients is not None
    at, away = (criticality(SPURIOUS_CORNER.term_gradients, point) for point in ([0.0, 0.0], [-0.5, -0.5]))
    holds = abs(at.clarke - np.sqrt(2)) < 1e-8 and max(at.d, away.clarke, away.d) < 1e-8
    verdicts = at.spurious(1e-6) and not away.spurious(1e-6)
    return f"{at.clarke:.6f} and {at.d:.1g}; {away.clarke:.1g} and {away.d:.1g}", holds and verdicts


@demonstration(
    "not-spurious",
    statement="J1 = 50 x² + x and J2 = -50 x² at 0 cancel their curvature; no kink, so not spurious, at any radius",
    expected="0 in D's hull at radius 0.02 alone, not at 0.0002; not spurious",
    source="agreement at r, r/10 and r/100",
)
def _not_spurious() -> Outcome:
    found = criticality(lambda x: np.array([100 * x + 1, -100 * x]), [0.0], radius=0.02)
    holds = found.d < 1e-8 and found.d_at_radii[2] > 0.9 and not found.spurious(1e-3)
    return "D's distances " + ", ".join(f"{d:.2g}" for d in found.d_at_radii), holds


@demonstration(
    "theorem-3",
    statement="Of 500 INNA runs with mini-batches from random starts none ends at a spurious point; of runs that "
    "start on it those at rest stay",
    expected="0 of 500 there, 500 at the minimiser; 50 of 50 at rest stay, 0 of 50 in motion",
    source="paper, Theorem 3 and section 3.3",
)
def _theorem_3() -> Outcome:
    rng = np.random.default_rng(0)
    decay = power_decay(0.5)
    starts, momenta = rng.uniform(-2, 2, (500, 2)), rng.standard_normal((500, 2))
    momenta = np.vstack([momenta, np.zeros((50, 2)), 0.1 * rng.standard_normal((50, 2))])
    starts = np.vstack([starts, np.zeros((100, 2))])
    runs = mini_batch_runs(SPURIOUS_CORNER, starts, momenta, 0.5, 0.1, lambda k: 0.2 * decay(k), 5000)
    spurious = runs.ended_at(SPURIOUS_CORNER.spurious_points, 0.05)
    minimal = int(runs.ended_at(SPURIOUS_CORNER.minimisers, 0.1)[:500].sum())
    at_random, at_rest, in_motion = (int(part.sum()) for part in np.split(spurious, [500, 550]))
    return (
        f"{at_random} there, {minimal} at the minimiser; {at_rest} at rest stay, {in_motion} in motion",
        (at_random, minimal, at_rest, in_motion) == (0, 500, 50, 0),
    )


@demonstration(
    "strict-saddle",
    statement="From 1,000 starts within about 1e-12 of a strict saddle INNA escapes, sooner than gradient descent",
    expected="0 of 1,000 stay; the median iteration to 3 % of log(distance ratio)/log(largest root)",
    source="arXiv 2111.04596, the escape experiment (theta1⁴ - 4 theta1² + theta2², L = 50)",
)
def _strict_saddle() -> Outcome:
    starts = 1e-12 * np.random.default_rng(0).standard_normal((1000, 2))
    (saddle,) = DOUBLE_WELL.saddles
    lowest, radius = -8.0, 0.5
    words, medians, holds = [], [], True
    for label, alpha, beta, speed in (
        ("(.5,1)", 0.5, 1.0, 1.0),
        ("(1,1.1)", 1.0, 1.1, 1.0),
        ("descent", 1.0, 1.0, None),
    ):
        lr = reversible_lr(alpha, beta, 50.0)
        escape = escape_from(saddle, DOUBLE_WELL, starts, lr, alpha, beta, 2000, initial_speed=speed, radius=radius)
        stayed = int(np.count_nonzero(escape.iterations < 0)) + int(escape.runs.ended_at(saddle, radius).sum())
        median = float(np.median(escape.iterations))
        typical = float(np.median(np.abs(starts[:, 0])))
        predicted = np.log(radius / typical) / np.log(np.abs(roots(lr, alpha, beta, lowest)).max())
        holds = holds and stayed == 0 and abs(median / predicted - 1) < 0.03
        medians.append(median)
        words.append(f"{label} {stayed} stay, {median:g} ({predicted:.0f})")
    return "; ".join(words), holds and max(medians[:2]) < medians[2]
