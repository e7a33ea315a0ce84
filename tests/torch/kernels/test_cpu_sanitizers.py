"""The C kernels under the address and undefined-behaviour sanitizers, and beyond 2^31 numbers."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import inna.torch.kernels

COMPILER = shlex.split(os.environ.get("CC", "cc"))
FLAGS = "-std=c11 -O1 -g -ffp-contract=off -fsanitize=address,undefined -fno-sanitize-recover=all"


@pytest.mark.skipif(sys.platform != "linux", reason="the driver maps memory as Linux does")
@pytest.mark.skipif(shutil.which(COMPILER[0]) is None, reason=f"no C compiler {COMPILER[0]!r}")
@pytest.mark.parametrize("levels", ["one", pytest.param("all", marks=pytest.mark.slow)])
def test_the_sanitizers_find_nothing_and_positions_beyond_2_to_the_31_are_right(levels, tmp_path):
    program = tmp_path / "driver"
    source = Path(__file__).with_name("cpu_kernels_driver.c")
    include = Path(inna.torch.kernels.__file__).parent
    for threading in (["-fopenmp"], ["-fopenmp-simd"]):
        chosen = [*threading, *(["-DBASELINE_ONLY"] if levels == "one" else [])]
        command = [*COMPILER, *FLAGS.split(), *chosen, f"-I{include}", str(source), "-o", str(program), "-lm"]
        built = subprocess.run(command, capture_output=True, text=True)
        if built.returncode == 0:
            break
    else:
        empty = subprocess.run(
            [*COMPILER, "-fsanitize=address,undefined", "-x", "c", "-", "-o", str(program)],
            input="int main(void) { return 0; }",
            capture_output=True,
            text=True,
        )
        if empty.returncode:
            pytest.skip(f"{COMPILER[0]} has no sanitizers: {empty.stderr.strip()[:200]}")
        pytest.fail(built.stderr)
    # Leaks are looked for by ptrace, which containers forbid; the driver is not what is tested for them.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "3"}
    done = subprocess.run([str(program)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr[:4000]
    assert "beyond 2^31: ok" in done.stdout or "skipped: no address space" in done.stdout
