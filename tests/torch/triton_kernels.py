"""The Triton kernels for tests: on a GPU, or on the CPU by Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from inna.torch.kernels import plan, step, support

TRITON = importlib.util.find_spec("triton") is not None
# Triton decides at its import whether it interprets, and torch may have imported it: hence a process for these tests.
INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
needs_triton = pytest.mark.skipif(not TRITON, reason="Triton is not installed")
needs_gpu = pytest.mark.skipif(not (TRITON and torch.cuda.is_available()), reason="no CUDA device, or no Triton for it")
in_the_interpreter = pytest.mark.skipif(
    not (TRITON and INTERPRETING), reason="run by a test of its own in a process where Triton interprets"
)


def interpret(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let fused steps on the CPU take the Triton kernels; return their module."""
    from inna.torch.kernels import cuda

    for module in (plan, step):
        monkeypatch.setattr(module, "make_table", lambda device, lists, sums=None: cuda.Table(lists, sums))
    monkeypatch.setattr(support, "unavailable", lambda device: "")
    _round_to_bfloat16(monkeypatch)
    return cuda


def _round_to_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the interpreter round to bfloat16 as GPUs do.

    It cuts float32 off, towards zero in every store, and takes float64 for an integer.
    """
    from triton import language as tl
    from triton.runtime import interpreter

    cast = interpreter.InterpreterBuilder.cast_impl

    def rounded(self: Any, src: Any, dst_type: Any) -> Any:
        if dst_type.scalar == tl.bfloat16 and src.dtype.scalar in (tl.float32, tl.float64):
            bits = torch.from_numpy(src.data.copy()).bfloat16().view(torch.uint16).numpy()
            return interpreter.TensorHandle(bits, dst_type.scalar)
        return cast(self, src, dst_type)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "cast_impl", rounded)


def run_interpreted(names: str, *files: str) -> None:
    """Run the tests of these names in a process where Triton interprets."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", names, *files]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1"})
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@contextmanager
def compile_only(
    kernels: list[tuple[ModuleType, str]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Any]]:
    """Let kernels compile for a GPU that is not here instead of running; yield what was compiled.

    Warnings are errors: code may run under the interpreter and not compile.
    """
    import triton
    from triton.backends.compiler import GPUTarget

    class Driver:
        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", 80, 32)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int) -> int:
            return 0

    compiled: list[Any] = []

    class Compile:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: Any) -> Any:
            return lambda *args, **options: compiled.append(self.kernel.warmup(*args, grid=grid, **options))

    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    for module, name in kernels:
        kernel = getattr(module, name)
        monkeypatch.setattr(module, name, Compile(kernel))
        monkeypatch.setattr(kernel, "device_caches", defaultdict(kernel.create_binder))
    before = triton.runtime.driver._active
    triton.runtime.driver.set_active(Driver())
    try:
        yield compiled
    finally:
        triton.runtime.driver._active = before
