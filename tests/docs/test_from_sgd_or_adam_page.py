"""The examples of docs/from-sgd-or-adam.md run as they stand."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from inna import dynamics
from keras_backends import BACKENDS, in_a_process

PAGE = (Path(__file__).parents[2] / "docs" / "from-sgd-or-adam.md").read_text(encoding="utf-8")


def example(heading):
    """The code under a heading."""
    section = PAGE.split(f"\n## {heading}", 1)[1].split("\n## ", 1)[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


@pytest.mark.parametrize(("heading", "needs"), [("`from_sgd`", "inna"), ("PyTorch", "torch"), ("Optax", "optax")])
def test_the_example_runs(heading, needs):
    pytest.importorskip(needs)
    exec(compile(example(heading), heading, "exec"), {})


@pytest.mark.parametrize("backend", BACKENDS[:1])
def test_the_keras_example_runs(backend):
    done = in_a_process(backend, "-c", example("Keras 3"))
    assert done.returncode == 0, done.stderr


def test_sgd_on_a_schedule_as_the_page_says():
    """lr, alpha and beta from from_sgd at every step, and the momentum scaled by gamma_{k+1}/gamma_k."""
    rates = [0.01 / (k + 1) for k in range(21)]
    theta = theirs = 1.0
    momentum = buffer = 0.0
    for rate, following in pairwise(rates):
        lr, alpha, beta = dynamics.from_sgd(rate, 0.9)
        theta, momentum = dynamics.step(theta, momentum, 3 * theta - 1, lr, alpha, beta)
        momentum *= dynamics.from_sgd(following, 0.9).lr / lr
        buffer = 0.9 * buffer + 3 * theirs - 1
        theirs -= rate * buffer
    assert theta == pytest.approx(theirs, rel=1e-14)
