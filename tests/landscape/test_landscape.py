"""Landscapes: every method is its rule, what is thinned keeps its promise, what leaves or diverges is said."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guarded_reference import GuardedGroup
from inna.dynamics import from_sgd, guard_factor
from inna.experiments.charts.themes import LIGHT
from inna.landscape.optimizers import Optimizer, distinguish, make_optimizer, parse_optimizer
from inna.landscape.paths import Path, follow
from inna.landscape.picture import Picture, figure, path_summaries, still
from inna.landscape.scenes import SCENES, Frame, Scene, find_scene
from inna.landscape.thinning import clip, extremes, thin
from inna.landscape.write import write_picture
from inna.schedules import power_decay
from inna.torch import INNA

INNA_ITSELF = make_optimizer("inna", 1e-3, 0.5, {"beta": 0.1})


def run_in_torch(
    scene: Scene, steps: int, make: Callable[[list[torch.Tensor]], torch.optim.Optimizer], q: float
) -> np.ndarray:
    theta = torch.tensor(scene.start, dtype=torch.float64, requires_grad=True)
    optimizer = make([theta])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, power_decay(q))
    iterates = [theta.detach().numpy().copy()]
    for _ in range(steps):
        theta.grad = torch.as_tensor(scene.objective.gradient(theta.detach().numpy()))
        optimizer.step()
        scheduler.step()
        iterates.append(theta.detach().numpy().copy())
    return np.array(iterates)


@pytest.mark.parametrize("q", [0.0, 0.5])
def test_every_method_makes_the_iterates_of_its_optimizer_in_torch(q: float) -> None:
    scene = find_scene("rosenbrock")
    texts = ["gd", "heavy-ball:lr=1e-4,momentum=.9", "nesterov:lr=1e-4,momentum=.9", "adam:lr=.01", "adam:beta1=.5"]
    texts += ["inna:beta=.02", "inna:initial_speed=1"]
    optimizers = distinguish([parse_optimizer(text, INNA_ITSELF) for text in texts])
    theirs: list[Callable[[list[torch.Tensor]], torch.optim.Optimizer]] = [
        lambda p: torch.optim.SGD(p, lr=1e-3),
        lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, nesterov=True),
        lambda p: torch.optim.Adam(p, lr=0.01),
        lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.5, 0.999)),
        lambda p: INNA(p, lr=1e-3, alpha=0.5, beta=0.02),
        lambda p: INNA(p, lr=1e-3, alpha=0.5, beta=0.1, initial_speed=1.0),
    ]
    paths = follow(scene, optimizers, scene.start, 300, q=q)
    for path, make in zip(paths, theirs, strict=True):
        np.testing.assert_allclose(path.theta, run_in_torch(scene, 300, make, q), rtol=1e-10, atol=1e-10)


def test_figure_1_of_the_paper() -> None:
    """The dips of the loss in its panel (b), read off the paper's figure and simulated: 45368, 70598, 87202."""
    scene = find_scene("rosenbrock-v")
    ours = make_optimizer("inna", 1e-4, 0.3, {"beta": 0.1, "initial_speed": 0.1})
    (path,) = follow(scene, [ours], (-1.0, 1.5), 88_000)
    loss = path.value
    dips = [k for k in range(1, len(loss) - 1) if loss[k] < loss[k - 1] and loss[k] <= loss[k + 1] and loss[k] < 1e-3]
    found = [dip for position, dip in enumerate(dips) if position == 0 or dip - dips[position - 1] > 1000]
    assert found == pytest.approx([45368, 70598, 87202], abs=2)


def test_methods_without_a_step_size_take_the_same_step_of_time() -> None:
    given = {text: parse_optimizer(text, INNA_ITSELF) for text in ("gd", "heavy-ball", "nesterov", "adam")}
    assert [each.lr for each in given.values()] == [1e-3, 1e-6, 1e-6, 1e-3]
    # The heavy ball is INNA's ball whose Newtonian damping is no more than a step.
    assert given["heavy-ball"].at(1.0) == pytest.approx((1e-3, 0.5, 1e-3))
    assert given["gd"].at(1.0) == from_sgd(1e-3)
    assert make_optimizer("heavy-ball", 1.0, 3.0, {}).settings["momentum"] == 0.0


def test_the_energy_of_inna_falls_and_is_the_loss_where_there_is_no_momentum() -> None:
    scene = find_scene("quadratic")
    optimizers = [parse_optimizer(text, INNA_ITSELF) for text in ("inna", "gd", "adam")]
    inna, gd, adam = follow(scene, optimizers, scene.start, 2000)
    assert inna.energy is not None
    assert (np.diff(inna.energy) <= 0).all()
    np.testing.assert_array_equal(gd.energy, gd.value)
    assert adam.energy is None


@pytest.mark.parametrize(("q", "speed"), [(0.0, None), (0.5, 1.5)])
def test_a_guarded_inna_takes_the_rule_s_steps_beside_the_others(q: float, speed: float | None) -> None:
    scene = find_scene("rosenbrock")
    given = {"beta": 0.4, "initial_speed": speed}
    guarded = [make_optimizer("inna", 0.5, 0.5, {**given, "loss_bound": bound}) for bound in (0.0, -1.0)]
    plain = make_optimizer("inna", 1e-3, 0.5, given)
    optimizers = [plain, guarded[0], parse_optimizer("adam", INNA_ITSELF), guarded[1]]
    paths = follow(scene, optimizers, scene.start, 25, q=q)
    alone = follow(scene, [plain], scene.start, 25, q=q)[0]
    np.testing.assert_array_equal(paths[0].theta, alone.theta)
    for path, bound in ((paths[1], 0.0), (paths[3], -1.0)):
        group = GuardedGroup(np.array(scene.start), 0.5, 0.5, 0.4, initial_speed=speed)
        factors = []
        for k in range(25):
            group.lr = 0.5 * (k + 1) ** -q
            loss, grad = float(scene.objective.value(group.theta)), scene.objective.gradient(group.theta)
            if k == 0:
                group.start(loss, grad)
            factors.append(guard_factor([group.terms(loss, grad)], bound))
            group.step(loss, grad, factors[-1])
            np.testing.assert_allclose(path.theta[k + 1], group.theta, rtol=1e-6, atol=1e-8)
        assert min(factors) < 0.5


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({"loss_bound": float("nan")}, "loss_bound must be"),
        ({"loss_bound": 0.0, "beta": 3.0}, r"alpha \* beta must be <= 1"),
        ({"loss_bound": 0.0, "lr": 3.0}, r"alpha \* lr must be <= 1"),
        ({"loss_bound": 0.0, "initial_speed": 0.05}, "initial_speed must be at least beta with a loss_bound, got 0.05"),
    ],
)
def test_a_guard_that_is_not_possible_is_refused(given: dict[str, float | None], allowed: str) -> None:
    with pytest.raises(ValueError, match=allowed):
        make_optimizer("inna", 1e-3, 0.5, {"beta": 0.1, **given})


def test_divergence_and_leaving_the_frame_are_told_and_the_rest_is_kept() -> None:
    scene = find_scene("quadratic:1,25")
    optimizers = [parse_optimizer(text, INNA_ITSELF) for text in ("inna", "gd:lr=.1", "gd:lr=100")]
    optimizers = distinguish(optimizers)
    ours, leaving, diverging = paths = follow(scene, optimizers, (-1.7, 0.9), 400)
    picture = Picture(scene, scene.frame, paths, 400)
    assert ours.diverged_at is None
    assert ours.left_at(scene.frame) is None
    # |θ2| grows by 1.5 a step; 1.3 is the frame's top.
    assert leaving.left_at(scene.frame) == 1
    assert diverging.diverged_at == len(diverging.theta) == len(diverging.value) < 400
    assert np.isfinite(diverging.value).all()
    said = [end for _, _, end in path_summaries(picture)]
    assert said[0].startswith("J = ")
    assert "left" not in said[0]
    assert "left the frame at iteration 1" in said[1]
    assert said[2].startswith(f"diverged: no finite loss from iteration {diverging.diverged_at} on; left the frame")


def distances(points: np.ndarray, pieces: list[np.ndarray]) -> np.ndarray:
    """Of each point to the nearest segment of the pieces."""
    nearest = np.full(len(points), np.inf)
    for piece in pieces:
        for begin, end in itertools.pairwise(piece):
            chord = end - begin
            length = chord @ chord
            along = ((points - begin) @ chord / length).clip(0, 1) if length else np.zeros(len(points))
            nearest = np.minimum(nearest, np.hypot(*(points - begin - along[:, None] * chord).T))
    return nearest


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 400), rough=st.floats(0.0, 1.0), limit=st.integers(20, 200))
@example(seed=0, steps=300, rough=1.0, limit=20)
def test_no_iterate_is_farther_from_its_line_than_is_said(seed: int, steps: int, rough: float, limit: int) -> None:
    random = np.random.default_rng(seed)
    path = 0.3 * np.cumsum(random.standard_normal((steps + 1, 2)) * (rough * random.random((steps + 1, 1))), axis=0)
    frame = Frame(-1.0, 1.0, -1.0, 1.0)
    thinned = thin(path, frame, 1e-3, limit)
    assert thinned.vertices <= max(limit, 2 * len(thinned.pieces))
    if thinned.skipped:
        return
    inside = (np.abs(path) <= 1).all(axis=1)
    pieces = [piece if len(piece) > 1 else np.repeat(piece, 2, axis=0) for piece in thinned.pieces]
    if inside.any():
        # The tolerance is a fraction of the frame, which is two wide.
        assert distances(path[inside], pieces).max() <= 2 * thinned.tolerance * (1 + 1e-9) + 1e-12
    assert all((np.abs(piece) <= 1 + 1e-12).all() for piece in thinned.pieces)


def test_a_path_is_cut_at_the_edge_and_where_it_comes_back() -> None:
    frame = Frame(0.0, 1.0, 0.0, 1.0)
    path = np.array([[0.5, 0.5], [2.5, 0.5], [2.5, 0.25], [0.5, 0.25], [0.5, 0.75], [-0.5, 1.25], [0.5, -3.0]])
    pieces = clip(path, frame)
    assert [piece.tolist() for piece in pieces] == [
        [[0.5, 0.5], [1.0, 0.5]],
        [[1.0, 0.25], [0.5, 0.25], [0.5, 0.75], [0.0, 1.0]],
    ]
    # A segment that crosses the frame without a point in it, and one that passes beside it.
    assert len(clip(np.array([[-1.0, 0.5], [2.0, 0.5]]), frame)) == 1
    assert clip(np.array([[-1.0, 1.5], [2.0, 1.5]]), frame) == []
    assert clip(np.array([[5.0, 5.0]]), frame) == []


def test_of_a_path_that_crosses_the_edge_too_often_the_beginning_is_drawn_and_the_caption_says_so() -> None:
    path = np.array([[0.5, 0.5], [9.0, 0.5]] * 50)
    thinned = thin(path, Frame(0.0, 1.0, 0.0, 1.0), 1e-3, 20)
    assert thinned.skipped == 50 - 10
    scene = find_scene("quadratic:1,25")
    gd = parse_optimizer("gd", INNA_ITSELF)
    swinging = Path(gd, 4 * np.tile([[0.1, 0.0], [9.0, 0.0]], (4000, 1)), np.ones(8000), np.ones(8000), None)
    picture = Picture(scene, scene.frame, [swinging], 7999)
    assert "Only the beginning of gradient descent is drawn" in figure(picture).caption


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), size=st.integers(1, 500), stretches=st.integers(1, 50))
def test_a_thinned_series_keeps_ends_and_extremes(seed: int, size: int, stretches: int) -> None:
    values = np.random.default_rng(seed).standard_normal(size)
    chosen = extremes(values, stretches)
    assert {0, size - 1, int(np.argmin(values)), int(np.argmax(values))} <= set(chosen.tolist())
    assert len(chosen) <= 4 * stretches
    assert (np.diff(chosen) > 0).all()


@pytest.fixture(scope="module")
def picture() -> Picture:
    scene = find_scene("spurious-corner")
    optimizers = [parse_optimizer(text, make_optimizer("inna", scene.lr, 0.5, {"beta": 0.1})) for text in TEXTS]
    return Picture(scene, scene.frame, follow(scene, optimizers, scene.start, 500), 500)


TEXTS = ("inna", "gd", "heavy-ball", "nesterov", "adam")


def test_the_figure_is_valid_and_shows_every_contender_in_every_panel(picture: Picture) -> None:
    drawn = figure(picture)
    assert [panel.title for panel in drawn.panels] == ["", "loss", "energy"]
    specification = still(picture, drawn, LIGHT)  # Altair validates it
    held = [{row.get("contender") for row in rows} - {None} for rows in specification["datasets"].values()]
    labels = {path.optimizer.label for path in picture.paths}
    assert labels in held
    assert labels - {"Adam"} in held
    marks = next(rows for rows in specification["datasets"].values() if "kind" in rows[0])
    assert {row["kind"] for row in marks} == {"start", "minimiser", "spurious point"}


@pytest.mark.parametrize("name", SCENES)
def test_every_scene_is_drawn_and_its_start_is_in_the_frame(name: str) -> None:
    scene = find_scene(name)
    optimizers: list[Optimizer] = [make_optimizer("inna", scene.lr, 0.5, {"beta": 0.1})]
    paths = follow(scene, optimizers, scene.start, 50)
    assert paths[0].left_at(scene.frame) is None
    assert (
        len(scene.objective.minimisers) == 0
        or Path(
            optimizers[0], scene.objective.minimisers, np.zeros(len(scene.objective.minimisers)), None, None
        ).left_at(scene.frame)
        is None
    )
    specification = still(Picture(scene, scene.frame, paths, 50), figure(Picture(scene, scene.frame, paths, 50)), LIGHT)
    assert json.dumps(specification, allow_nan=False)


def test_the_files(picture: Picture, tmp_path: FilePath) -> None:
    page, svg, png = write_picture(picture, tmp_path / "new", ["html", "svg", "png"], ["inna", "landscape", "<&>"])
    text = page.read_text(encoding="utf-8")
    assert "inna landscape &#39;&lt;&amp;&gt;&#39;" in text
    policy = re.search(r'Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert "unsafe" not in policy[1]
    assert policy[1].startswith("default-src &#39;none&#39;")
    assert "http://" not in re.sub(r"<script>.*?</script>|data:[^\"']*", "", text, flags=re.DOTALL)
    figures: dict[str, Any] = json.loads(re.search(r'id="figures">(.*?)</script>', text)[1])  # type: ignore[index]
    assert set(figures["panels"]) == {"chart-landscape-0", "chart-landscape-1", "chart-landscape-2"}
    assert svg.read_text(encoding="utf-8").count("<path") > 20
    assert png.stat().st_size > 10_000
    assert [each.suffix for each in sorted((tmp_path / "new").iterdir())] == [".html", ".png", ".svg"]
