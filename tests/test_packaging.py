"""`python -m build` gives a wheel with the kernels and an sdist; either installs, the sdist without a compiler too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inna.torch.kernels import cpu

ROOT = Path(__file__).parent.parent
KERNELS = "inna/torch/kernels"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="these are not the sources"),
]

# A step on whatever path there is, and what `fused=True` says.
STEP = """
import torch, inna
from inna.torch import INNA
print(inna.__file__)
param = torch.nn.Parameter(torch.ones(3))
param.grad = torch.ones(3)
INNA([param], lr=0.1, alpha=0.5, beta=0.1).step()
print(param.tolist())
try:
    INNA([param], fused=True)
    print("fused")
except RuntimeError as error:
    print(error)
"""


def run(command: list[Any], **kwargs: Any) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def environment(folder: Path) -> Path:
    """A new virtual environment's Python; it sees the packages of this one behind its own."""
    run([sys.executable, "-m", "venv", folder])
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    own = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    # A plain line of a .pth file: what lies there is seen, its own .pth files, an editable inna among them, are not.
    (own / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def install(python: Path, *what: Any, **kwargs: Any) -> None:
    """By pip, which needs an index: the test is skipped where none answers."""
    command = [python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", *what]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)
    if any(
        words in done.stderr for words in ("Could not find a version", "No matching distribution", "ConnectionError")
    ):
        pytest.skip(f"no package index answers: {done.stderr.strip().splitlines()[-1][:200]}")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The wheel and the sdist, built from a copy of the sources; by way of the sdist, as `python -m build` does."""
    folder = tmp_path_factory.mktemp("packaging")
    sources = folder / "sources"
    made = shutil.ignore_patterns("__pycache__", "*.egg-info", f"{cpu.LIBRARY.name}*", cpu.LOG.name)
    shutil.copytree(ROOT / "src", sources / "src", ignore=made)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources / name)
    python = environment(folder / "builder")
    install(python, "build", "pyproject_hooks", "packaging")
    done = subprocess.run(
        [str(python), "-m", "build", "--outdir", str(folder / "dist"), str(sources)], capture_output=True, text=True
    )
    if "No matching distribution" in done.stdout + done.stderr:
        pytest.skip("no package index answers the build")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    return SimpleNamespace(wheel=wheel, sdist=sdist, installed=environment(folder / "installed"), folder=folder)


def plain_environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "INNA_"))}
    return {**kept, **changes}


@pytest.mark.skipif(bool(cpu.unavailable()), reason="no kernels were compiled here, so none can be expected")
def test_the_wheel_brings_the_kernels_for_every_python(built):
    assert "-py3-none-" in built.wheel.name
    with zipfile.ZipFile(built.wheel) as archive:
        names = archive.namelist()
    assert f"{KERNELS}/{cpu.LIBRARY.name}" in names
    sources = {
        f"{KERNELS}/{name}" for name in ("cpu.py", "cpu_kernels.c", "cpu_codes.h", "cpu_rule.h", "cpu_kernels.log")
    }
    assert sources | {"inna/py.typed"} <= set(names)
    assert not [name for name in names if not name.startswith(("inna/", "inna-"))]
    install(built.installed, built.wheel)
    said = run([built.installed, "-c", STEP], cwd=built.folder, env=plain_environment()).splitlines()
    assert said[0].startswith(str(built.folder))
    assert said[2] == "fused"


def test_the_sdist_has_what_a_build_needs(built):
    with tarfile.open(built.sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE"} <= names
    assert {
        f"src/{KERNELS}/cpu_kernels.c",
        f"src/{KERNELS}/cpu_codes.h",
        f"src/{KERNELS}/cpu_rule.h",
        "src/inna/py.typed",
    } <= names
    assert f"src/{KERNELS}/{cpu.LIBRARY.name}" not in names


@pytest.mark.skipif(os.name == "nt", reason="CC says nothing to the compiler of Windows")
@pytest.mark.parametrize("without", ["a compiler that fails", "a compiler"])
def test_the_sdist_installs_without_a_compiler_and_keeps_what_went_wrong(built, without):
    if without == "a compiler":
        changes = {"PATH": os.fspath(built.installed.parent)}
    else:
        changes = {"CC": shutil.which("false") or "/bin/false"}
    install(built.installed, built.sdist, env=plain_environment(**changes))
    said = run([built.installed, "-c", STEP], cwd=built.folder, env=plain_environment()).splitlines()
    assert said[0].startswith(str(built.folder))
    assert said[1] == "[0.9900000095367432, 0.9900000095367432, 0.9900000095367432]"
    assert "fused=True: parameter 0" in said[2]
    assert "the CPU kernels were not compiled when inna was installed" in said[2]
    log = Path(said[0]).parent / "torch/kernels/cpu_kernels.log"
    assert str(log) in said[2]
    # The command that was tried, and why there is nothing.
    assert "cpu_kernels.c" in log.read_text(encoding="utf-8")
    told = run([built.installed, "-m", "inna", "info"], cwd=built.folder, env=plain_environment())
    assert "CPU kernels" in told
    assert "none" in told


@pytest.mark.skipif(os.name == "nt", reason="CC says nothing to the compiler of Windows")
def test_a_build_that_must_have_the_kernels_stops_without_them(built):
    done = subprocess.run(
        [str(built.installed), "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(built.folder), str(built.sdist)],
        capture_output=True,
        text=True,
        env=plain_environment(CC=shutil.which("false") or "/bin/false", INNA_REQUIRE_KERNELS="1"),
    )
    assert done.returncode != 0
    assert "the CPU kernels do not compile" in done.stdout + done.stderr
