"""Demonstrations of Figure 1, the flow, its energy and rates, and stability."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from inna.dynamics import step
from inna.theory import figure1
from inna.theory.demonstrations.registry import Outcome, demonstration
from inna.theory.energy import energy, energy_factors, energy_rate, partial_energy
from inna.theory.flow import momentum_field, solve
from inna.theory.objectives import BEALE, ROSENBROCK, ROSENBROCK_V, power
from inna.theory.rates import fit_decay, kl_exponent, largest_product, predicted_power
from inna.theory.stability import effective_momentum, flow_rates, is_stable, max_lr


def _listed(dips: Iterable[int]) -> str:
    return " ".join(map(str, dips))


def _by_panel(panels: Iterable[Iterable[int]]) -> str:
    return " | ".join(map(_listed, panels))


@demonstration(
    "figure-1",
    statement="Figure 1: on the V-shaped Rosenbrock the loss dips where the published curves do",
    expected=f"published dips, {_by_panel(figure1.PAPER_DIPS.values())}, each to {figure1.DIP_TOLERANCE}; "
    f"two further dips in panel (c), {_listed(figure1.FURTHER_DIPS['c'])}, whose published positions are unknown",
    source="paper, Figure 1 (with alpha = 0.3, 0.3, 1.3 and initial speed 0.1, recovered from the curves)",
)
def _figure_1() -> Outcome:
    return _judge_figure_1([figure1.dips(figure1.iterates()[:, n]) for n in range(len(figure1.RECOVERED))])


def _judge_figure_1(computed: Sequence[Sequence[int]]) -> Outcome:
    """Compare the dips of the panels (a), (b) and (c) with the published ones."""
    panels = [curve.panel for curve in figure1.RECOVERED]
    found = [
        figure1.compare_dips(dips, figure1.PAPER_DIPS[panel]) for panel, dips in zip(panels, computed, strict=True)
    ]
    further = {panel: each.further for panel, each in zip(panels, found, strict=True) if each.further}
    measured = (
        f"{_by_panel(each.nearest for each in found)}; largest distance {max(each.distance for each in found):g}; "
        f"further dips: {'; '.join(f'({panel}) {_listed(dips)}' for panel, dips in further.items()) or 'none'}"
    )
    same_further = further.keys() == figure1.FURTHER_DIPS.keys() and all(
        len(dips) == len(figure1.FURTHER_DIPS[panel]) and figure1.compare_dips(dips, figure1.FURTHER_DIPS[panel]).agrees
        for panel, dips in further.items()
    )
    return measured, all(each.agrees for each in found) and same_further


@demonstration(
    "first-order",
    statement="INNA with step lr is within O(lr) of the flow (Beale, time 4)",
    expected="slope of log error over log lr: 1 to 0.05",
    source="paper, section 2.3: INNA is an explicit Euler method",
)
def _first_order() -> Outcome:
    start, steps, errors = np.array([1.0, 0.3]), [1e-2, 5e-3, 2.5e-3], []
    path = solve(BEALE.gradient, start, 0.5, 0.1, 4.0, 1.0, rtol=1e-11)
    for lr in steps:
        theta, momentum, worst = start, path.momentum[0], 0.0
        every = round(0.1 / lr)
        for k in range(1, round(4 / lr) + 1):
            theta, momentum = step(theta, momentum, BEALE.gradient(theta), lr, 0.5, 0.1)
            if k % every == 0:
                worst = max(worst, float(np.max(np.abs(theta - path(k * lr)[0]))))
        errors.append(worst)
    slope = float(np.polyfit(np.log(steps), np.log(errors), 1)[0])
    return f"slope {slope:.3f}; error {errors[-1]:.1e} at lr {steps[-1]:g}", abs(slope - 1) < 0.05


@demonstration(
    "kink-crossing",
    statement="The flow crosses Figure 1's kink t1 = 1 when the iterates of panel (b) do",
    expected="times that differ by less than 20 steps of 1e-4",
    source="paper, eq. (7) and Figure 1",
)
def _kink_crossing() -> Outcome:
    curve, kinks = figure1.RECOVERED[1], ROSENBROCK_V.kinks
    path = solve(ROSENBROCK_V.gradient, figure1.START, curve.alpha, curve.beta, 5.0, curve.initial_speed, kinks=kinks)
    flow = path.kink_times[1][0]
    iterates = figure1.LR * int(np.argmax(figure1.iterates()[:, 1, 0] > 1))
    return f"flow {flow:.5f}, iterates {iterates:.5f}", abs(flow - iterates) < 20 * figure1.LR


@demonstration(
    "energy-falls",
    statement="dE/dt = -2 alpha |theta'|² - 2 beta |grad J|² on random smooth J, never positive",
    expected="largest relative difference < 1e-6, largest rate <= 0",
    source="paper, section 3.4",
)
def _energy_falls() -> Outcome:
    worst, highest = 0.0, -np.inf
    for value, gradient, theta, momentum, alpha, beta in _random_smooth(200):
        grad = gradient(theta)
        dtheta, dmomentum = momentum_field(momentum, grad, alpha, beta)
        rate = energy_rate(momentum, grad, alpha, beta)
        reach = 1e-5
        ends = [
            energy(value(theta + side * reach * dtheta), momentum + side * reach * dmomentum, alpha, beta)
            for side in (1, -1)
        ]
        worst = max(worst, abs((ends[0] - ends[1]) / (2 * reach) - rate) / max(1.0, abs(rate)))
        highest = max(highest, rate)
    return f"difference {worst:.1e}, largest rate {highest:.2g}", worst < 1e-6 and highest <= 0


@demonstration(
    "lemma-8-signs",
    statement="dE_min/dt = -|sqrt(alpha) theta' + sqrt(beta) grad J|², the sign opposite to the one printed in Lemma 8",
    expected="difference < 1e-6 with +, above 0.1 with -",
    source="paper, Lemma 8 and eq. (20), corrected",
)
def _lemma_8_signs() -> Outcome:
    differences = {1.0: 0.0, -1.0: 0.0}
    for value, gradient, theta, momentum, alpha, beta in _random_smooth(100):
        grad = gradient(theta)
        dtheta, dmomentum = momentum_field(momentum, grad, alpha, beta)
        low, _ = energy_factors(alpha, beta)
        reach = 1e-5
        ends = [
            partial_energy(value(theta + side * reach * dtheta), momentum + side * reach * dmomentum, low)
            for side in (1, -1)
        ]
        measured = (ends[0] - ends[1]) / (2 * reach)
        for sign in differences:
            square = float(np.sum((np.sqrt(alpha) * dtheta + sign * np.sqrt(beta) * grad) ** 2))
            differences[sign] = max(differences[sign], abs(measured + square) / max(1.0, square))
    return (
        f"with + {differences[1.0]:.1e}, with - {differences[-1.0]:.2g}",
        differences[1.0] < 1e-6 and differences[-1.0] > 0.1,
    )


def _random_smooth(count: int) -> Iterator[tuple[Any, Any, Any, Any, float, float]]:
    """Yield random (value, gradient, theta, momentum, alpha, beta).

    The objective is J = sum_i w_i sin(<a_i, t> + b_i) + |t|²/4.
    """
    rng = np.random.default_rng(0)
    for _ in range(count):
        a, b, w = rng.standard_normal((6, 3)), rng.uniform(0, 6, 6), rng.standard_normal(6)
        yield (
            lambda t, a=a, b=b, w=w: float(np.sin(a @ t + b) @ w + 0.25 * t @ t),
            lambda t, a=a, b=b, w=w: (np.cos(a @ t + b) * w) @ a + 0.5 * t,
            rng.standard_normal(3),
            rng.standard_normal(3),
            float(rng.uniform(0, 3)),
            float(rng.uniform(0, 3)),
        )


def _decay(exponent: float, last_time: float) -> tuple[str, float, float]:
    """Return (kind, fitted rate, predicted rate) of E on |t|^exponent."""
    alpha, beta, objective = 0.5, 0.1, power(exponent)
    slow = exponent > 2
    times = np.logspace(-1, np.log10(last_time), 300) if slow else np.linspace(0, last_time, 1500)
    path = solve(objective.gradient, [1.0], alpha, beta, last_time, 1.0, t_eval=times, atol=1e-16)
    fit = fit_decay(path.t, energy(objective.value(path.theta), path.momentum, alpha, beta))
    predicted = predicted_power(kl_exponent(exponent)) if slow else 2 * flow_rates(alpha, beta, 2.0)[0].real
    return fit.kind, fit.rate, float(predicted)


@demonstration(
    "rates",
    statement="E on |t|^c falls exponentially for c = 2 and like t^(1/(1-2a)), a = 1 - 1/c, for c = 3, 4, 6",
    expected="rate -0.7, powers -3, -2, -1.5, each to 3 %",
    source="paper, Theorem 11 and its proof",
)
def _rates() -> Outcome:
    found = [_decay(exponent, end) for exponent, end in ((2.0, 30.0), (3.0, 1e4), (4.0, 1e5), (6.0, 1e5))]
    kinds = [kind for kind, _, _ in found] == ["exponential", "power", "power", "power"]
    close = all(abs(rate / predicted - 1) < 0.03 for _, rate, predicted in found)
    return ", ".join(f"{kind} {rate:.3f}" for kind, rate, _ in found), kinds and close


@demonstration(
    "theorem-13",
    statement="J(theta(t)) - J* = O(1/t) on semi-algebraic J (Rosenbrock, |t|^4)",
    expected="t (J - J*) in the last decade below 1 % of its largest before",
    source="paper, Theorem 13",
)
def _theorem_13() -> Outcome:
    shares = []
    for objective, start, last_time in ((ROSENBROCK, [-1.0, 1.5], 300.0), (power(4.0), [1.0], 1e4)):
        times = np.logspace(-1, np.log10(last_time), 300)
        path = solve(objective.gradient, start, 0.5, 0.1, last_time, 1.0, t_eval=times)
        early, late = largest_product(path.t, objective.value(path.theta))
        shares.append(late / early)
    return ", ".join(f"{share:.1e}" for share in shares), max(shares) < 0.01


@demonstration(
    "stability",
    statement="Stable iff lambda > 0, lr lambda < a, 4 - 2 lr a + lr² lambda > 0, with a = alpha + beta lambda",
    expected="0 of 100,000 random cases against the spectral radius (|radius - 1| > 1e-7), negative curvature included",
    source="the linearised iteration",
)
def _stability() -> Outcome:
    rng = np.random.default_rng(0)
    count = 100_000
    lr, alpha, beta = (10 ** rng.uniform(low, high, count) for low, high in ((-3, 1), (-2, 1.5), (-3, 1)))
    curvature = 10 ** rng.uniform(-2, 4, count) * np.where(rng.random(count) < 0.2, -1.0, 1.0)
    columns = [
        np.stack(step(theta, momentum, curvature * theta, lr, alpha, beta), axis=-1)
        for theta, momentum in ((np.ones(count), np.zeros(count)), (np.zeros(count), np.ones(count)))
    ]
    radius = np.abs(np.linalg.eigvals(np.stack(columns, axis=-1))).max(axis=1)
    decided = np.abs(radius - 1) > 1e-7 * np.maximum(1, radius)
    wrong = int(np.count_nonzero(decided & (is_stable(lr, alpha, beta, curvature) != (radius < 1))))
    return f"{wrong} wrong, {np.count_nonzero(~decided)} within the band", wrong == 0


@demonstration(
    "stable-window",
    statement="The stable curvatures need not begin at 0: alpha = 3, beta = 0, lr = 1 is stable on 2 < lambda < 3 only",
    expected="stable at 2.5, not at 1 or 3.5; over (0, 2.5] lr < 2/alpha = 0.667",
    source="the linearised iteration",
)
def _stable_window() -> Outcome:
    answers = is_stable(1.0, 3.0, 0.0, [1.0, 2.5, 3.5]).tolist()
    bound = max_lr(3.0, 0.0, 2.5)
    return f"{answers}, lr < {bound:.3f}", answers == [False, True, False] and abs(bound - 2 / 3) < 1e-12


@demonstration(
    "effective-momentum",
    statement="On curvature lambda INNA is the heavy ball: step lr², momentum 1 - lr alpha - lr (beta - lr) lambda",
    expected="iterates that differ by < 1e-12",
    source="the linearised iteration",
)
def _effective_momentum() -> Outcome:
    worst = 0.0
    for lr, alpha, beta, curvature in ((0.1, 0.5, 0.1, 20.0), (0.1, 0.5, 0.3, 20.0), (0.3, 0.7, 0.0, 2.0)):
        mu = effective_momentum(lr, alpha, beta, curvature)
        theta, momentum, history = 1.0, 0.0, [1.0]
        for _ in range(50):
            theta, momentum = step(theta, momentum, curvature * theta, lr, alpha, beta)
            history.append(theta)
        before, now, after = (np.array(history[i : len(history) - 2 + i]) for i in range(3))
        heavy_ball = now + mu * (now - before) - lr**2 * curvature * now
        worst = max(worst, float(np.max(np.abs(after - heavy_ball))))
    return f"{worst:.1e}", worst < 1e-12
