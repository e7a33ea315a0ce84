"""The two ways of docs/install.md: from a clone, and from the address of the repository; without a package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from waiting import PATIENCE

ROOT = Path(__file__).parents[1]
STEP = """
import inna, torch
from inna.torch import INNA
param = torch.nn.Parameter(torch.ones(3))
param.grad = torch.ones(3)
INNA([param], lr=0.1, alpha=0.5, beta=0.1).step()
print(inna.__file__)
print(param.tolist())
"""


def run(*command: object, **changes: str) -> str:
    # The kernels have tests of their own; without a compiler the installation takes seconds.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "INNA_", "PIP_"))}
    environment = {**kept, "CC": shutil.which("false") or "/bin/false", **changes}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment, cwd="/", timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("these sources are no Git repository")
    folder = tmp_path_factory.mktemp("repository") / "inna"
    run("git", "clone", "--quiet", ROOT, folder)
    return folder


@pytest.mark.skipif(os.name == "nt", reason="CC says nothing to the compiler of Windows")
@pytest.mark.parametrize("way", ["a clone", "an address"])
def test_a_clone_and_an_address_both_install(repository: Path, tmp_path: Path, way: str) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path)
    python = tmp_path / "bin" / "python"
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # A plain line of a .pth file: the packages there are seen; its own .pth files, such as an editable inna's, are not.
    (own / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    what = ["--editable", repository] if way == "a clone" else [f"inna @ git+file://{repository}"]
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", *what)
    file, stepped = run(python, "-c", STEP).splitlines()
    assert file.startswith(str(repository if way == "a clone" else tmp_path))
    assert stepped == "[0.9900000095367432, 0.9900000095367432, 0.9900000095367432]"
    assert "Usage: inna" in run(tmp_path / "bin" / "inna", "--help")
