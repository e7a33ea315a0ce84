"""The page to play with, in a real browser: its functions are Python's, its controls work, it asks for nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browsing import (
    SCHEMES,
    SIZES,
    Visit,
    accessibility_faults,
    check_policy,
    check_quiet_and_fitting,
    drawn,
    each_look,
    scrolls_sideways,
    settle,
    until,
    visits,
)
from inna import dynamics
from inna.landscape.optimizers import adam_step, distinguish, make_optimizer, parse_optimizer
from inna.landscape.paths import follow
from inna.landscape.picture import Picture
from inna.landscape.playground.page import LESSONS, Lesson, Opening, write_playground
from inna.landscape.scenes import SCENES, find_scene
from inna.landscape.write import write_picture
from inna.schedules import power_decay
from inna.theory import stability
from inna.theory.energy import energy
from waiting import PATIENCE, happens

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("playground") / "playground.html"
    return write_playground(path, Opening(find_scene("double-well"), steps=500)).as_uri()


@pytest.fixture(scope="module")
def shared(browser: Any, playground: str) -> Iterator[Visit]:
    """One page for the tests of its functions, which change nothing."""
    with visits(browser) as go:
        seen: Visit = go(playground)
        finished(seen)
        yield seen


@pytest.fixture
def go(browser: Any) -> Iterator[Any]:
    with visits(browser) as opened:
        yield opened


def finished(seen: Visit) -> None:
    """Wait until the race is over and drawn."""
    seen.page.wait_for_selector("html[data-done]", timeout=1000 * PATIENCE)


def evaluate(seen: Visit, function: str, cases: np.ndarray) -> np.ndarray:
    """``function`` of the page, called with each row of ``cases``."""
    script = f"cases => cases.map(each => {{ const found = {function}(...each); return [found].flat(); }})"
    return np.array(seen.page.evaluate(script, cases.tolist()), dtype=float)


def positive(size: int, low: float = -3.0, high: float = 1.0) -> np.ndarray:
    return 10 ** RANDOM.uniform(low, high, size)


def test_step_is_the_rule(shared: Visit) -> None:
    cases = np.column_stack([*RANDOM.standard_normal((3, 2000)) * 10, positive(2000), positive(2000), positive(2000)])
    cases[:20, 4] = cases[10:30, 5] = 0.0
    theirs = np.array([dynamics.step(*case) for case in cases])
    np.testing.assert_allclose(evaluate(shared, "inna.step", cases), theirs, rtol=1e-12, atol=1e-12)


def test_the_rule_iterated_stays_the_rule(shared: Visit) -> None:
    """A thousand steps on a quadratic, of settings with an oscillation: nothing adds up."""
    ours = shared.page.evaluate(
        """() => { let [t, m] = [1, 0]; const all = [];
        for (let k = 0; k < 1000; k++) {
          [t, m] = inna.step(t, m, 4 * t, 0.1 / Math.sqrt(k + 1), 0.5, 0.1);
          all.push(t);
        }
        return all; }"""
    )
    theta, momentum, theirs = 1.0, 0.0, []
    for k in range(1000):
        theta, momentum = dynamics.step(theta, momentum, 4 * theta, 0.1 / math.sqrt(k + 1), 0.5, 0.1)
        theirs.append(theta)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_what_the_rule_rests_on_is_python_s(shared: Visit) -> None:
    n = 500
    lr, momentum = positive(n), RANDOM.uniform(0.01, 1, n)
    found = shared.page.evaluate(
        "cases => cases.map(([lr, mu]) => [0, 1].map(n => Object.values(inna.fromSgd(lr, mu, n === 1))))",
        np.column_stack([lr, momentum]).tolist(),
    )
    theirs = [
        [dynamics.from_sgd(a, b, nesterov=nesterov) for nesterov in (False, True)]
        for a, b in zip(lr, momentum, strict=True)
    ]
    np.testing.assert_allclose(found, theirs, rtol=1e-12)

    cases = RANDOM.standard_normal((n, 3))
    np.testing.assert_allclose(
        evaluate(shared, "inna.initialMomentum", cases)[:, 0], [dynamics.initial_momentum(*each) for each in cases]
    )
    assert shared.page.evaluate("inna.initialMomentum(3, 0.1, null)") == dynamics.initial_momentum(3.0, 0.1)

    cases = np.column_stack(
        [
            *RANDOM.standard_normal((2, n)),
            positive(n),
            RANDOM.standard_normal(n),
            RANDOM.integers(1, 5000, n),
            positive(n),
            RANDOM.uniform(0, 0.99, n),
            RANDOM.uniform(0, 0.9999, n),
            positive(n, -10, -4),
        ]
    )
    np.testing.assert_allclose(
        evaluate(shared, "inna.adamStep", cases), [adam_step(*each) for each in cases], rtol=1e-12
    )

    cases = np.column_stack([RANDOM.uniform(0, 2, n), RANDOM.integers(0, 10_000, n)])
    np.testing.assert_allclose(
        evaluate(shared, "inna.powerDecay", cases)[:, 0], [power_decay(q)(k) for q, k in cases], rtol=1e-12
    )

    cases = np.array([*RANDOM.standard_normal((3, n)), positive(n), positive(n)])
    theirs_energy = [energy(v, [a, b], c, d) for v, a, b, c, d in cases.T]
    np.testing.assert_allclose(evaluate(shared, "inna.energy", cases.T)[:, 0], theirs_energy, rtol=1e-12)


def test_the_guard_is_the_rule_s(shared: Visit) -> None:
    n = 500
    memories = np.column_stack([positive(n), *RANDOM.standard_normal((2, n))])
    memories[:5, 0] = 0.0
    loss, inner, square, lr, alpha, beta = (*RANDOM.standard_normal((2, n)), *positive(4 * n).reshape(4, n))
    beta[:5], square[-5:] = 0.0, 0.0
    rows = zip(memories.tolist(), *(each.tolist() for each in (loss, inner, square, lr, alpha, beta)), strict=True)
    cases = [[memory, *rest] for memory, *rest in rows]

    def page(function: str, cases: list[Any]) -> np.ndarray:
        script = f"cases => cases.map(each => [{function}(...each)].flat())"
        return np.array(shared.page.evaluate(script, cases), dtype=float)

    terms = [
        dynamics.guard_terms(dynamics.GuardMemory(*memory), f, inner, square, lr, beta)
        for memory, f, inner, square, lr, _, beta in cases
    ]
    found = page("inna.guardTerms", [[m, f, inner, square, lr, beta] for m, f, inner, square, lr, _, beta in cases])
    np.testing.assert_allclose(found, terms, rtol=1e-12, atol=1e-12)
    factors = [dynamics.guard_factor([each], -0.5) for each in terms]
    np.testing.assert_allclose(page("inna.guardFactor", [[list(each), -0.5] for each in terms])[:, 0], factors)
    assert {0.0, 1.0} < set(factors)
    updated = [
        dynamics.update_memory(dynamics.GuardMemory(*memory), f, inner, lr, alpha, beta)
        for memory, f, inner, _, lr, alpha, beta in cases
    ]
    found = page("inna.updateMemory", [[m, f, inner, lr, alpha, beta] for m, f, inner, _, lr, alpha, beta in cases])
    np.testing.assert_allclose(found, updated, rtol=1e-12, atol=1e-12)
    moved = [dynamics.move_memory(dynamics.GuardMemory(*memory), f) for memory, f, *_ in cases]
    np.testing.assert_allclose(page("inna.moveMemory", [[m, f] for m, f, *_ in cases]), moved, rtol=1e-12)
    started = [dynamics.initial_memory(f, 0.0, beta, s) for _, f, s, *_, beta in cases]
    found = page("inna.initialMemory", [[f, beta, s] for _, f, s, *_, beta in cases])
    np.testing.assert_allclose(found, started, rtol=1e-12, atol=1e-12)


def test_stability_is_the_theory_s(shared: Visit) -> None:
    n = 3000
    lr, alpha, beta = positive(n), positive(n), positive(n)
    curvature = positive(n, -3, 4) * np.where(RANDOM.random(n) < 0.1, -1, 1)
    np.testing.assert_allclose(
        evaluate(shared, "inna.maxLr", np.column_stack([alpha, beta, curvature]))[:, 0],
        stability.max_lr(alpha, beta, curvature, alone=True),
        rtol=1e-12,
    )
    cases = np.column_stack([lr, alpha, beta, curvature])
    stable = evaluate(shared, "inna.isStable", cases)[:, 0]
    np.testing.assert_array_equal(stable, stability.is_stable(lr, alpha, beta, curvature))
    assert 0.2 < stable.mean() < 0.8
    radius = np.abs(stability.roots(lr, alpha, beta, curvature)).max(axis=-1)
    np.testing.assert_allclose(evaluate(shared, "inna.factor", cases)[:, 0], radius, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in SCENES if name != "quadratic"])
def test_landscapes_and_gradients_are_the_objectives(shared: Visit, name: str) -> None:
    objective = SCENES[name].objective
    points = np.concatenate([RANDOM.uniform(-3, 3, (300, 2)), [[0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [-0.5, -0.5]]])
    entry = f"inna.objectives['{name}']"
    np.testing.assert_allclose(
        evaluate(shared, f"{entry}.value", points)[:, 0], objective.value(points), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(
        evaluate(shared, f"{entry}.gradient", points), objective.gradient(points), rtol=1e-12, atol=1e-11
    )


def test_quadratics_and_curvatures(shared: Visit) -> None:
    scene = find_scene("quadratic:3,-7")
    points = RANDOM.uniform(-3, 3, (50, 2))
    np.testing.assert_allclose(
        evaluate(shared, "inna.quadratic(3, -7).gradient", points), scene.objective.gradient(points), rtol=1e-12
    )
    np.testing.assert_allclose(
        evaluate(shared, "inna.quadratic(3, -7).value", points)[:, 0], scene.objective.value(points), rtol=1e-12
    )
    # At (1, 1) Rosenbrock's Hessian is ((802, -400), (-400, 200)).
    found = shared.page.evaluate("inna.curvatures(inna.objectives.rosenbrock.gradient, 1, 1, 1e-5)")
    assert found == pytest.approx(
        sorted(np.linalg.eigvalsh([[802.0, -400.0], [-400.0, 200.0]]), reverse=True), rel=1e-5
    )


@pytest.mark.parametrize("q", [0.0, 0.5])
def test_a_race_is_what_python_follows(shared: Visit, q: float) -> None:
    scene = find_scene("rosenbrock")
    inna = make_optimizer("inna", 1e-3, 0.5, {"beta": 0.1, "initial_speed": 1.0})
    texts = ("inna", "gd", "heavy-ball:lr=1e-5,momentum=.9", "nesterov:lr=1e-5,momentum=.9", "adam:lr=.01")
    optimizers = distinguish([parse_optimizer(text, inna) for text in texts])
    paths = follow(scene, optimizers, scene.start, 400, q=q)
    found = shared.page.evaluate(
        """([start, q]) => {
        const sgd = (kind, lr, mu) => ({ kind, at: (f) => inna.fromSgd(lr * f, mu, kind === "nesterov") });
        const race = new Race([
          { kind: "inna", at: (f) => ({ lr: 1e-3 * f, alpha: 0.5, beta: 0.1 }), speed: 1 },
          sgd("gd", 1e-3, 0), sgd("heavy-ball", 1e-5, 0.9), sgd("nesterov", 1e-5, 0.9),
          { kind: "adam", lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        ], inna.objectives.rosenbrock, start, 400, q);
        while (!race.finished) race.run(5);
        return race.runners.map(({ points, loss, energy }) => [points, loss, energy].map((each) => [...each]));
        }""",
        [list(scene.start), q],
    )
    for path, (points, loss, height) in zip(paths, found, strict=True):
        np.testing.assert_allclose(np.reshape(points, (-1, 2)), path.theta, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(loss, path.value, rtol=1e-8, atol=1e-12)
        if path.energy is not None:
            np.testing.assert_allclose(height, path.energy, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("q", "speed"), [(0.0, None), (0.3, 1.5)])
def test_a_guarded_race_is_what_python_follows(shared: Visit, q: float, speed: float | None) -> None:
    scene = find_scene("rosenbrock")
    guarded = make_optimizer("inna", 0.5, 0.5, {"beta": 0.4, "initial_speed": speed, "loss_bound": 0.0})
    (path,) = follow(scene, [guarded], scene.start, 60, q=q)
    points, loss, cuts = shared.page.evaluate(
        """([start, q, speed]) => {
        const at = (f) => ({ lr: 0.5 * f, alpha: 0.5, beta: 0.4 });
        const race = new Race([{ kind: "inna", at, speed, bound: 0 }], inna.objectives.rosenbrock, start, 60, q);
        while (!race.finished) race.run(5);
        const [{ points, loss, cuts }] = race.runners;
        return [[...points], [...loss], [...cuts]];
        }""",
        [list(scene.start), q, speed],
    )
    assert path.diverged_at is None
    assert cuts[-1] > 30
    np.testing.assert_allclose(np.reshape(points, (-1, 2)), path.theta, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(loss, path.value, rtol=1e-6, atol=1e-10)


def followed(lesson: Lesson, **changed: Any) -> np.ndarray:
    """The iterates of a lesson's INNA by Python."""
    opening = replace(lesson.opening, **changed)
    settings = {"beta": opening.beta, "initial_speed": opening.initial_speed, "loss_bound": opening.loss_bound}
    made = make_optimizer("inna", opening.lr or opening.scene.lr, opening.alpha, settings)
    assert opening.start is not None
    assert opening.steps is not None
    (path,) = follow(opening.scene, [made], opening.start, opening.steps)
    return path.theta


def crossings(theta: np.ndarray) -> list[int]:
    """How often each coordinate changes its sign while it is not tiny."""
    signs = [np.sign(column[np.abs(column) > 1e-3]) for column in theta.T]
    return [int(np.count_nonzero(np.diff(each))) for each in signs]


def test_the_lessons_teach_what_is_true() -> None:
    friction, damping, ball, descent, guard = LESSONS
    across = {lesson.name: lesson.opening.alpha + 25 * lesson.opening.beta for lesson in LESSONS}
    along = {lesson.name: lesson.opening.alpha + lesson.opening.beta for lesson in LESSONS}
    assert across["Friction"] == pytest.approx(0.6)
    assert along["Friction"] == pytest.approx(0.12)
    assert min(crossings(followed(friction))) >= 3
    assert across["Damping β"] == pytest.approx(10)
    assert across["Heavy ball"] == pytest.approx(1.5)
    assert crossings(followed(damping))[1] <= 1 < 5 < crossings(followed(ball))[1]
    hyper = dynamics.from_sgd(0.0004, 0.98)
    assert (ball.opening.lr, ball.opening.alpha, ball.opening.beta) == pytest.approx(hyper)
    assert descent.opening.alpha * descent.opening.beta == 1
    plain = [np.array(descent.opening.start)]
    for _ in range(100):
        plain.append(plain[-1] - 0.008 * descent.opening.scene.objective.gradient(plain[-1]))
    np.testing.assert_allclose(followed(descent)[:101], plain, rtol=1e-9)
    assert stability.max_lr(guard.opening.alpha, guard.opening.beta, 25.0) == pytest.approx(0.12)
    distances = np.linalg.norm(followed(guard), axis=1)
    assert np.all(np.diff(distances) <= 1e-12)
    assert distances[-1] < 0.01
    assert np.abs(followed(guard, loss_bound=None)).max() > 1e6


def test_lessons_set_the_page_up_and_say_so(go: Any, tmp_path: Path) -> None:
    page = write_playground(tmp_path / "playground.html", LESSONS[0].opening).as_uri()
    seen = go(page, reduced_motion="reduce")
    finished(seen)
    for position, lesson in enumerate(LESSONS):
        if position:
            assert seen.page.locator(f'[data-lesson="{position}"]').get_attribute("aria-pressed") == "false"
            seen.page.locator(f'[data-lesson="{position}"]').click()
        shown = standing(seen)
        pressed = seen.page.eval_on_selector_all("[data-lesson]", "all => all.map(each => each.ariaPressed)")
        assert pressed == ["true" if each == position else "false" for each in range(len(LESSONS))]
        assert seen.page.locator("#lesson").inner_text() == f"{lesson.title}. {lesson.text}"
        names = {"inna": "INNA", "gd": "gradient descent", "heavy-ball": "heavy ball"}
        assert list(shown) == [names[kind] for kind in ("inna", *lesson.opening.beside)]
        theta = followed(lesson)[-1]
        found = [float(each) for each in shown["INNA"][1].replace("−", "-").strip("()").split(", ")]
        assert found == pytest.approx(theta, rel=2e-3, abs=1e-9)
        if lesson.name in ("Heavy ball", "Gradient descent"):
            assert shown["INNA"][:2] == shown[names[lesson.opening.beside[0]]][:2]
    assert seen.page.locator("#guard-says").inner_text() == "100 of 100 steps cut."
    assert "--loss-bound 0 " in seen.page.locator("#command").inner_text()
    seen.page.locator("#guard").uncheck()
    assert standing(seen)["INNA"][3].startswith("left the frame")
    assert "--loss-bound" not in seen.page.locator("#command").inner_text()
    assert seen.page.locator("#lesson").inner_text().startswith("Five steps")
    assert seen.said == []


def test_a_guard_that_the_settings_forbid_is_off_and_says_why(go: Any, playground: str) -> None:
    seen = go(playground)
    finished(seen)
    seen.page.locator("#guard").check()
    assert "guard at −4" in standing(seen)["INNA"][2]
    seen.page.locator("#value-beta").fill("3")
    seen.page.keyboard.press("Enter")
    assert "guard" not in standing(seen)["INNA"][2]
    assert seen.page.locator("#guard-says").inner_text().startswith("Needs αβ ≤ 1, here 1.5")
    seen.page.locator("#guard").uncheck()
    assert seen.page.locator("#guard").is_disabled()
    seen.page.select_option("#scene", "monkey-saddle")
    finished(seen)
    assert seen.page.locator("#guard").is_disabled()
    assert seen.page.locator("#guard-says").inner_text() == "Here J has no lower bound."
    assert seen.said == []


def test_the_link_is_copied_and_leads_to_the_same_page(go: Any, tmp_path: Path) -> None:
    page = write_playground(tmp_path / "playground.html", LESSONS[4].opening).as_uri()
    seen = go(page, permissions=["clipboard-read", "clipboard-write"])
    shown = standing(seen)
    seen.page.locator("#copy").click()
    until(seen, "document.getElementById('copy').textContent === 'Copied'")
    link = seen.page.evaluate("navigator.clipboard.readText()")
    assert "bound=0" in link
    assert standing(go(link)) == shown
    refused = go(page)
    finished(refused)
    refused.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')); }")
    refused.page.locator("#copy").click()
    until(refused, "!document.getElementById('link').hidden")
    assert refused.page.locator("#link").input_value() == link
    assert seen.said == refused.said == []


def test_no_path_is_hidden_where_two_coincide(go: Any, tmp_path: Path) -> None:
    page = write_playground(tmp_path / "playground.html", LESSONS[2].opening).as_uri()
    seen = go(page)
    finished(seen)
    below, above = seen.page.evaluate(
        """() => { const drawn = (id) => { const canvas = document.getElementById(id);
        return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data; };
        const [own, others] = [drawn("own"), drawn("others")]; let [below, above] = [0, 0];
        for (let i = 3; i < own.length; i += 4) { if (others[i] > 127) above++; else if (own[i] > 127) below++; }
        return [below, above]; }"""
    )
    assert above > 300
    assert 0.2 < below / (below + above) < 0.9


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_picture_stays_in_view_beside_the_sliders(go: Any, playground: str, size: tuple[int, int]) -> None:
    seen = go(playground, size)
    finished(seen)
    for name in ("alpha", "lr", "steps", "q"):
        seen.page.evaluate(f"document.getElementById('range-{name}').scrollIntoView({{ block: 'nearest' }})")
        plane, slider = (seen.page.locator(each).bounding_box() for each in ("#plane", f"#range-{name}"))
        assert plane["y"] > -10
        assert plane["y"] + plane["height"] <= size[1] + 10
        assert 0 < slider["y"] < size[1]
        beside = slider["x"] >= plane["x"] + plane["width"]
        assert beside or slider["y"] >= plane["y"] + plane["height"]


@each_look
@pytest.mark.parametrize("name", ["Friction", "Guard"])
def test_the_page_has_no_serious_accessibility_fault(
    go: Any, tmp_path: Path, name: str, size: tuple[int, int], scheme: str
) -> None:
    (lesson,) = (each for each in LESSONS if each.name == name)
    seen = go(write_playground(tmp_path / "playground.html", lesson.opening).as_uri(), size, scheme)
    drawn(seen, scheme)
    assert accessibility_faults(seen) == []


@each_look
def test_the_page_has_no_errors_fits_and_loads_nothing(
    go: Any, playground: str, size: tuple[int, int], scheme: str
) -> None:
    seen = go(playground, size, scheme)
    drawn(seen, scheme)
    assert not scrolls_sideways(seen)
    for name in SCENES:
        seen.page.select_option("#scene", name)
        finished(seen)
        assert not scrolls_sideways(seen)
        canvases = seen.page.eval_on_selector_all(
            "canvas", "all => all.map(each => each.getBoundingClientRect().width)"
        )
        assert all(100 < width <= size[0] for width in canvases)
    assert seen.said == []
    assert seen.asked == [playground]
    # Nothing that is to be touched is smaller than WCAG 2.2 asks for (criterion 2.5.8).
    small = seen.page.eval_on_selector_all(
        "button, select, input, label.check",
        "all => all.map(each => each.getBoundingClientRect()).filter(({ height }) => height > 0 && height < 17).length",
    )
    assert small == 0


def test_the_policy_is_in_force(go: Any, playground: str) -> None:
    seen = go(playground)
    finished(seen)
    check_policy(seen)


def standing(seen: Visit) -> dict[str, list[str]]:
    """Name -> what its line of the table says, once the race is over."""
    finished(seen)
    lines = seen.page.eval_on_selector_all(
        "#standing tr", "all => all.map(line => [...line.cells].map(cell => cell.textContent))"
    )
    return {name: cells for name, *cells in lines}


def number(seen: Visit, key: str) -> float:
    return float(seen.page.locator(f"#value-{key}").input_value())


def test_sliders_and_numbers_change_the_run(go: Any, playground: str) -> None:
    seen = go(playground)
    before = standing(seen)
    seen.page.locator("#range-alpha").focus()
    seen.page.keyboard.press("ArrowRight")
    assert number(seen, "alpha") > 0.5
    assert standing(seen)["INNA"] != before["INNA"]
    assert standing(seen)["Adam"] == before["Adam"]
    seen.page.locator("#value-alpha").fill("0.5")
    seen.page.keyboard.press("Enter")
    assert standing(seen) == before
    for wrong in ("-1", "much", ""):
        seen.page.locator("#value-alpha").fill(wrong)
        seen.page.keyboard.press("Enter")
        assert seen.page.locator("#value-alpha").get_attribute("aria-invalid") == "true"
        assert standing(seen) == before
    seen.page.locator("#value-steps").fill("20")
    seen.page.keyboard.press("Enter")
    assert standing(seen)["INNA"][1] != before["INNA"][1]
    assert seen.page.locator("#count").inner_text() == "20"
    seen.page.locator("#reset").click()
    assert standing(seen) == before
    assert seen.said == []


def test_the_numbers_on_the_page_are_python_s(go: Any, playground: str) -> None:
    scene = find_scene("double-well")
    inna = make_optimizer("inna", scene.lr, 0.5, {"beta": 0.1})
    paths = follow(
        scene, [parse_optimizer(text, inna) for text in ("inna", "gd", "heavy-ball", "adam")], scene.start, 500
    )
    shown = standing(go(playground))
    for path in paths:
        value = float(shown[path.optimizer.label.split(" (")[0]][0].replace("−", "-"))
        assert value == pytest.approx(path.value[-1], rel=1e-3)


def test_locked_to_an_sgd_inna_makes_its_iterates(go: Any, playground: str) -> None:
    seen = go(playground)
    finished(seen)
    seen.page.locator("#lock").check()
    for kind, name in (("heavy-ball", "heavy ball"), ("nesterov", "Nesterov"), ("gd", "gradient descent")):
        seen.page.select_option("#lock-to", kind)
        shown = standing(seen)
        assert shown["INNA"][:2] == shown[name][:2]
        assert seen.page.locator("#value-alpha").is_disabled()
    seen.page.select_option("#lock-to", "heavy-ball")
    for key, value in (("sgdLr", "0.0025"), ("momentum", "0.9")):
        seen.page.locator(f"#value-{key}").fill(value)
        seen.page.keyboard.press("Enter")
    shown = standing(seen)
    assert shown["INNA"][:2] == shown["heavy ball"][:2]
    lr, alpha, beta = dynamics.from_sgd(0.0025, 0.9)
    assert [number(seen, key) for key in ("lr", "alpha", "beta")] == pytest.approx([lr, alpha, beta], rel=1e-5)
    seen.page.locator("#lock").uncheck()
    assert not seen.page.locator("#value-alpha").is_disabled()
    assert standing(seen)["INNA"][:2] != shown["INNA"][:2]
    assert seen.said == []


def start_of(seen: Visit) -> tuple[float, float]:
    words = seen.page.locator("#start").get_attribute("aria-label").replace("−", "-")
    x, y = words.removeprefix("Start at ").split(":")[0].split(", ")
    return float(x), float(y)


def test_the_start_is_dragged_clicked_and_moved_by_keys(go: Any, playground: str) -> None:
    seen = go(playground)
    before = standing(seen)
    x, y = start_of(seen)
    handle = seen.page.locator("#start").bounding_box()
    middle = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    seen.page.mouse.move(*middle)
    seen.page.mouse.down()
    seen.page.mouse.move(middle[0] - 60, middle[1] + 30, steps=4)
    seen.page.mouse.up()
    dragged = start_of(seen)
    assert dragged[0] < x
    assert dragged[1] < y
    assert standing(seen) != before
    seen.page.keyboard.press("ArrowUp")
    assert start_of(seen)[1] > dragged[1]
    seen.page.keyboard.press("Shift+ArrowRight")
    assert start_of(seen)[0] - dragged[0] > 0.1
    plane = seen.page.locator("#plane").bounding_box()
    seen.page.mouse.click(plane["x"] + 40, plane["y"] + plane["height"] - 40)
    assert start_of(seen)[0] < -1.5
    assert start_of(seen)[1] < -1
    # Beyond the edge the start stays on it.
    for _ in range(40):
        seen.page.locator("#start").press("Shift+ArrowDown")
    lowest = start_of(seen)[1]
    seen.page.locator("#start").press("ArrowDown")
    assert start_of(seen)[1] == lowest
    assert seen.said == []


def by_touch(gesture: Callable[[], object], shows: Callable[[], bool]) -> None:
    """Repeat a gesture until its effect shows. A busy browser has lost one, and waiting does not bring it back."""
    for _ in range(3):
        gesture()
        if happens(shows, seconds=40):
            return
    raise AssertionError("three touches had no effect within 40 s each")


def test_touch_drags_the_start_and_ticks_boxes(go: Any, playground: str) -> None:
    seen = go(playground, SIZES[1], has_touch=True, is_mobile=True)
    finished(seen)
    x, y = start_of(seen)
    touch = seen.page.context.new_cdp_session(seen.page)

    def drag() -> None:
        box = seen.page.locator("#start").bounding_box()
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
        for far in (20, 40):
            moved = {"x": at["x"] + far, "y": at["y"] + far}
            touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [moved]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    by_touch(drag, lambda: start_of(seen)[0] > x and start_of(seen)[1] < y)
    nesterov = seen.page.locator("#beside-nesterov")
    by_touch(lambda: nesterov.is_checked() or nesterov.tap(), nesterov.is_checked)
    assert "Nesterov" in standing(seen)
    assert not scrolls_sideways(seen)
    assert seen.said == []


def test_presets_are_figure_1_and_the_address_remembers(go: Any, playground: str) -> None:
    seen = go(playground)
    finished(seen)
    seen.page.locator('[data-preset="c"]').click()
    shown = standing(seen)
    assert [number(seen, key) for key in ("alpha", "beta", "lr", "speed", "steps")] == [1.3, 0.1, 1e-4, 0.1, 88_000]
    assert seen.page.locator("#scene").input_value() == "rosenbrock-v"
    until(seen, "location.hash.includes('alpha=1.3')")
    command = seen.page.locator("#command").inner_text()
    assert "--objective rosenbrock-v --alpha 1.3 --beta 0.1 --lr 0.0001 --initial-speed 0.1 " in command
    again = go(seen.page.url)
    assert standing(again) == shown
    hostile = go(f"{playground}#scene=double-well&alpha=-3&steps=1e99&lr=fast&start=1&lock=all&beside=inna%20adam")
    assert list(standing(hostile)) == ["INNA", "Adam"]
    assert [number(hostile, key) for key in ("alpha", "lr", "steps")] == [0.5, 0.01, 500]
    assert seen.said == again.said == hostile.said == []


def test_play_rolls_and_stops(go: Any, playground: str) -> None:
    seen = go(playground)
    end = standing(seen)
    seen.page.locator("#play").click()
    until(seen, "document.getElementById('play').textContent === 'Stop'")
    rolling = "Number(document.getElementById('count').textContent)"
    until(seen, f"3 < {rolling} && {rolling} < 500")
    seen.page.locator("#play").click()
    assert standing(seen) == end
    assert seen.page.locator("#play").inner_text() == "Play"


def test_a_long_run_is_computed_in_slices_and_divergence_is_told(go: Any, playground: str) -> None:
    seen = go(playground)
    finished(seen)
    seen.page.select_option("#scene", "monkey-saddle")
    shown = standing(seen)
    assert shown["INNA"][3].startswith("diverged at iteration 269, left the frame at ")
    seen.page.select_option("#scene", "beale")
    finished(seen)
    seen.page.locator("#value-steps").fill("200000")
    seen.page.keyboard.press("Enter")
    # Between the frames the page answers: counts that are neither nothing nor all have been shown.
    counts = seen.page.evaluate(
        """new Promise((done) => { const all = []; const look = () => {
        all.push(Number(document.getElementById("count").textContent.replaceAll(",", "")));
        if (document.documentElement.dataset.done) done(all); else requestAnimationFrame(look); };
        requestAnimationFrame(look); })"""
    )
    assert counts == sorted(counts)
    assert len(set(counts) - {200_000}) > 1
    assert seen.said == []


def test_the_landscape_s_own_page_is_quiet_and_its_legend_works(go: Any, tmp_path: Path) -> None:
    scene = find_scene("spurious-corner")
    inna = make_optimizer("inna", scene.lr, 0.5, {"beta": 0.1})
    optimizers = [parse_optimizer(text, inna) for text in ("inna", "gd", "adam")]
    picture = Picture(scene, scene.frame, follow(scene, optimizers, scene.start, 300), 300)
    (page,) = write_picture(picture, tmp_path, ["html"], ["inna", "landscape"])
    for size in SIZES:
        for scheme in SCHEMES:
            seen = go(page.as_uri(), size, scheme)
            drawn(seen, scheme)
            check_quiet_and_fitting(seen, page.as_uri(), size, scheme)
            assert seen.count(".chart") == 3
    lines = "#chart-landscape-1 .mark-line path"
    assert seen.count(lines) == 3
    seen.page.locator('.legend button[data-contender="Adam"]').click()
    settle(seen)
    assert seen.count(lines) == 2
