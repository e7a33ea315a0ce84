"""Each extra, installed from the built wheel into an empty environment, makes a step there, and brings no more.

A JAX user never installs torch, and the other way round. Versions are those of constraints.txt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
FRAMEWORKS = {"torch", "jax", "jaxlib", "optax", "keras", "tensorflow", "tensorflow-cpu"}

STEP = "theta, momentum, grad, lr, alpha, beta = 1.0, 0.0, 2.0, 0.1, 0.5, 0.1\n"
TORCH = """
import torch
from inna import INNA
p = torch.nn.Parameter(torch.tensor([theta], dtype=torch.float64))
p.grad = torch.full_like(p, grad)
INNA([p], lr, alpha, beta).step()
print(p.item())
"""
# extras -> (the frameworks that they may bring, a program that makes the step)
EXTRAS = {
    "": (set(), "from inna.dynamics import step\nprint(step(theta, momentum, grad, lr, alpha, beta)[0])"),
    "torch": ({"torch"}, TORCH),
    "jax": (
        {"jax", "jaxlib", "optax"},
        """
import jax
jax.config.update("jax_enable_x64", True)
from inna.optax import inna, innaprop
optimizer = inna(lr, alpha, beta)
p = jax.numpy.array(theta)
updates, _ = optimizer.update(jax.numpy.array(grad), optimizer.init(p))
print(p + updates)
""",
    ),
    "keras,jax": (
        {"keras", "jax", "jaxlib", "optax"},
        """
import os
os.environ["KERAS_BACKEND"] = "jax"
import jax, keras
jax.config.update("jax_enable_x64", True)
from inna.keras import INNA, INNAprop, PowerDecay
keras.config.set_floatx("float64")
p = keras.Variable(theta)
INNA(lr, alpha, beta).apply([keras.ops.convert_to_tensor(grad)], [p])
print(float(p.value))
""",
    ),
    "theory": (
        set(),
        """
import numpy
from inna.dynamics import step
from inna.theory import avoidance, criticality, curvature, energy, flow, objectives, rates, stability
flow.solve(lambda x: x, numpy.ones(2), alpha, beta, t_end=1.0)
print(step(theta, momentum, grad, lr, alpha, beta)[0])
""",
    ),
    "experiments": (
        {"torch"},
        TORCH
        + """
import subprocess, sys
from pathlib import Path
command = [Path(sys.executable).with_name("inna"), "info"]
assert "torch" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
""",
    ),
}


def run(*command: object) -> subprocess.CompletedProcess[str]:
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run([str(part) for part in command], env=alone, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    probe = run(sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder / "probe", "iniconfig")
    if probe.returncode:
        pytest.skip(f"no package index answers: {probe.stderr.strip().splitlines()[-1]}")
    source = folder / "source"
    built = shutil.ignore_patterns("__pycache__", "*.so*", "*.dll", "*.dylib", "*.egg-info", "cpu_kernels.log")
    shutil.copytree(ROOT / "src", source / "src", ignore=built)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    done = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, source)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("inna-*.whl")
    return made


@pytest.mark.parametrize("extras", EXTRAS, ids=lambda extras: extras or "none")
def test_an_extra_is_enough_and_no_more(wheel, extras, tmp_path):
    allowed, program = EXTRAS[extras]
    venv.create(tmp_path, with_pip=True)
    python = tmp_path / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    wanted = f"{wheel}[{extras}]" if extras else wheel
    done = run(python, "-m", "pip", "install", "--constraint", ROOT / "constraints.txt", wanted)
    assert done.returncode == 0, done.stdout + done.stderr

    listed = run(python, "-m", "pip", "list", "--format=freeze").stdout.splitlines()
    installed = {line.partition("==")[0].lower() for line in listed}
    assert "inna" in installed
    assert installed & FRAMEWORKS == allowed

    done = run(python, "-I", "-c", STEP + program)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(0.98, rel=1e-14)
