"""The compiled CPU kernels.

Load the library of cpu_kernels.c and pass it a group's tensors.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
from array import array
from collections.abc import Callable
from ctypes import Structure, c_char_p, c_double, c_int32, c_int64, c_uint32, c_void_p
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inna.torch.steps.rounding import ROUNDED

if TYPE_CHECKING:
    from inna.torch.tensor_lists import Settings, SumLists, TensorLists

__all__ = ["KINDS", "LIBRARY", "LOG", "PRODUCTS", "Table", "compiler_log", "instruction_sets", "library", "unavailable"]

LIBRARY = Path(__file__).with_name("cpu_kernels" + {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so.2"))
LOG = LIBRARY.with_name("cpu_kernels.log")

# The names that cpu_kernels.c has for the precisions; complex numbers are pairs of reals.
KINDS = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
# Its name for codes of one byte.
_CODES = 4
# In `Settings`: lr, alpha, beta, time_step, decay_lr.
_MAY_BE_TENSORS = (0, 1, 2, 9, 10)
PRODUCTS = 7
"""The number of inner products that `Table.measure` returns."""
SUMS = 2
"""The number of sums that `Table.measure_distance` returns."""
_PROP, _MAXIMIZE, _DECOUPLED, _SPEED, _SCALED, _APART = 1, 2, 4, 8, 16, 32


class _Row(Structure):
    _fields_ = [
        ("theta", c_void_p),
        ("momentum", c_void_p),
        ("mean_square", c_void_p),
        ("compensation", c_void_p),
        ("step", c_void_p),
        ("size", c_int64),
        ("kind", c_int32),
        ("momentum_kind", c_int32),
        ("start", c_void_p),
        ("grad_sum", c_void_p),
        ("stochastic", c_int32),
        ("stream", c_uint32),
        ("momentum_scale", c_void_p),
        ("square_scale", c_void_p),
    ]


class _Settings(Structure):
    _fields_ = [
        *((name, c_double) for name in ("lr", "alpha", "beta", "weight_decay", "initial_speed", "sigma", "eps")),
        *((name, c_double) for name in ("grad_scale", "time_step", "decay_lr")),
        ("flags", c_int64),
        *((name, c_double) for name in ("weight", "root")),
        ("every", c_int64),
    ]


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """Load the library once; return it, or None and the reason."""
    if not LIBRARY.exists():
        log = f"; the compiler's output is in {LOG}" if LOG.exists() else ""
        return None, f"the CPU kernels were not compiled when inna was installed{log}"
    try:
        # torch is imported first, so that the library shares its OpenMP threads.
        loaded = ctypes.CDLL(os.fspath(LIBRARY))
    except OSError as error:
        return None, f"the CPU kernels do not load: {error}"
    if not _is_of_these_sources(loaded):
        return None, "the CPU kernels were compiled from other sources; install inna again, as with pip install -e ."
    loaded.inna_step.argtypes = [c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_int64]
    loaded.inna_step.restype = None
    loaded.inna_measure.argtypes = [
        c_void_p,
        c_void_p,
        c_int64,
        c_void_p,
        c_void_p,
        c_int64,
        c_void_p,
        c_int64,
        c_int64,
    ]
    loaded.inna_measure.restype = None
    loaded.inna_chunks.argtypes = [c_void_p, c_int64]
    loaded.inna_convert.argtypes = [c_void_p, c_int64, c_void_p, c_int64, c_int64]
    loaded.inna_convert.restype = None
    loaded.inna_seam.argtypes = [c_int64, c_int64, c_int64]
    loaded.inna_level_name.argtypes = [c_int64]
    loaded.inna_level_name.restype = c_char_p
    for function in (loaded.inna_seam, loaded.inna_chunks, loaded.inna_best_level, loaded.inna_uses_openmp):
        function.restype = c_int64
    return loaded, ""


def _is_of_these_sources(loaded: ctypes.CDLL) -> bool:
    # A library of an earlier version would read this version's structs wrongly, and compute wrong numbers.
    if not hasattr(loaded, "inna_sources"):
        return False
    loaded.inna_sources.restype = c_char_p
    digest = hashlib.sha256()
    for path in sorted(LIBRARY.parent.glob("*.[ch]")):
        digest.update(path.read_bytes())
    return bool(loaded.inna_sources() == digest.hexdigest().encode())


def library() -> ctypes.CDLL:
    """The loaded library.

    Raises:
        RuntimeError: the library was not compiled, or does not load.
    """
    loaded, why = _load()
    if loaded is None:
        raise RuntimeError(why)
    return loaded


def unavailable() -> str:
    """The reason why there are no CPU kernels; empty if there are."""
    return _load()[1]


def instruction_sets() -> list[str]:
    """The instruction sets of the kernels that this machine can run.

    The last one is in use.
    """
    kernels = library()
    return [kernels.inna_level_name(level).decode() for level in range(kernels.inna_best_level() + 1)]


def compiler_log() -> str:
    """The compiler's output when inna was installed; empty if there is none."""
    return LOG.read_text(encoding="utf-8") if LOG.exists() else ""


class Table:
    """The addresses of one group's tensors, as the library reads them.

    Valid until a tensor moves.

    Args:
        lists: plain tensors on the CPU, each with a kernel: `inna.torch.kernels.support.refusal` is empty.
        sums: what finds the distance, without a learning rate.
    """

    decides = False
    """Whether the device can decide on a guarded step. Here the host does."""
    measures_distance = True
    """Whether the kernels add up what finds the distance, if the sums are given."""

    def __init__(self, lists: TensorLists, sums: SumLists | None = None) -> None:
        self._library = library()
        self._level = self._library.inna_best_level()
        self._count = len(lists.params)
        self._rows = (_Row * self._count)()
        for i, (row, param, momentum) in enumerate(zip(self._rows, lists.params, lists.momentums, strict=True)):
            row.theta, row.momentum = param.data_ptr(), momentum.data_ptr()
            if lists.exp_avg_sqs:
                row.mean_square = lists.exp_avg_sqs[i].data_ptr()
            if lists.compensations and (compensation := lists.compensations[i]) is not None:
                row.compensation = compensation.data_ptr()
            if lists.steps:
                row.step = lists.steps[i].data_ptr()
            row.size = param.numel() * (2 if param.is_complex() else 1)
            if lists.streams and momentum.dtype is ROUNDED:
                row.stochastic, row.stream = 1, lists.streams[i]
            row.kind = KINDS[param.dtype.to_real()]
            if lists.momentum_scales and (scale := lists.momentum_scales[i]) is not None:
                row.momentum_kind, row.stochastic, row.stream = _CODES, 1, lists.streams[i]
                row.momentum_scale = scale.data_ptr()
                if lists.exp_avg_sqs:
                    square_scale = lists.exp_avg_sq_scales[i]
                    assert square_scale is not None
                    row.square_scale = square_scale.data_ptr()
            else:
                row.momentum_kind = KINDS[momentum.dtype.to_real()]
            if sums is not None:
                row.start = sums.starts[i].data_ptr()
                row.grad_sum = sums.grad_sums[i].data_ptr() if sums.grad_sums else None
        self._settings = _Settings()
        self._settings.every = sums.slice_every if sums is not None and sums.grad_sums else 0
        self._known: Settings | None = None
        self._partial: tuple[Any, int] | None = None  # room for the sums of chunks, and their number
        # Every step passes these.
        self._arguments = (self._rows, ctypes.byref(self._settings))

    def launch(self, *step: Any) -> None:
        """Step all tensors in place, as `prepare` describes."""
        self.prepare(*step)()

    def prepare(
        self,
        grads: list[int],
        settings: Settings,
        grad_scale: Tensor | None = None,  # ()
        found_inf: Tensor | None = None,  # ()
    ) -> Callable[[], Any]:
        """Return the call that steps all tensors in place.

        It does nothing if lr is 0, unless a time step is given, or ``found_inf`` is not 0.

        Nothing changes before that call, and Python handles no signal during it. It is valid until the next `prepare`.

        Args:
            grads: the addresses of the gradients.
            settings: hyper-parameters.
            grad_scale: GradScaler's scale. Gradients are divided by it and stay so.
            found_inf: GradScaler's verdict.
        """
        settings = _as_numbers(settings)
        if (settings.lr == 0 and not settings.time_step) or (found_inf is not None and found_inf.item() != 0):
            return _nothing
        if settings != self._known or grad_scale is not None:
            self._set(settings, None if grad_scale is None else grad_scale.item())
        self._addresses = array("Q", grads)
        rows, passed = self._arguments
        at = self._addresses.buffer_info()[0]
        return partial(self._library.inna_step, rows, at, self._count, passed, torch.get_num_threads(), self._level)

    def measure(self, grads: list[int], settings: Settings) -> list[float]:
        """The inner products of `inna.torch.measures.guard.Products`.

        Those with theta are 0 without weight decay, those of the distance without theta_0.

        They do not depend on the number of threads or the instruction set.

        Args:
            grads: the addresses of the gradients.
            settings: hyper-parameters.
        """
        settings = _as_numbers(settings)
        if settings != self._known:
            self._set(settings, None)
        return self._measured(grads)

    def measure_distance(self, grads: list[int], weight: Any, sigma: Any) -> list[float]:
        """The sums that find the distance: <g, theta_0 - theta> and the norm of s'.

        The next step updates s with the same weight. The sums do not depend on the number of threads or the instruction
        set.

        Args:
            grads: the addresses of the gradients.
            weight: w of this step, a number or a tensor.
            sigma: decay rate of the mean square, likewise.
        """
        self._settings.weight, self._settings.root = float(weight), float(sigma) ** 0.5
        return self._measured(grads)[:SUMS]

    def _measured(self, grads: list[int]) -> list[float]:
        if self._partial is None:
            chunks = self._library.inna_chunks(self._rows, self._count)
            self._partial = (c_double * (PRODUCTS * max(chunks, 1)))(), chunks
        partial, chunks = self._partial
        addresses, out = array("Q", grads), (c_double * PRODUCTS)()
        at = addresses.buffer_info()[0]
        rows, passed = self._arguments
        self._library.inna_measure(
            rows, at, self._count, passed, partial, chunks, out, torch.get_num_threads(), self._level
        )
        return list(out)

    def _set(self, settings: Settings, grad_scale: float | None) -> None:
        # An interrupt on the way must not leave settings that seem to be in place.
        self._known = None
        to = self._settings
        to.lr, to.alpha, to.beta = settings.lr, settings.alpha, settings.beta
        to.time_step = settings.lr if settings.time_step is None else settings.time_step
        to.decay_lr = settings.lr if settings.decay_lr is None else settings.decay_lr
        to.weight_decay, to.eps = settings.weight_decay, settings.eps
        to.flags = (_MAXIMIZE if settings.maximize else 0) | (_DECOUPLED if settings.decoupled_weight_decay else 0)
        if settings.decay_lr is not None:
            to.flags |= _APART
        if settings.initial_speed is not None:
            to.initial_speed = settings.initial_speed
            to.flags |= _SPEED
        if settings.sigma is not None:
            to.sigma = settings.sigma
            to.flags |= _PROP
        if grad_scale is not None:
            to.grad_scale = 1 / grad_scale
            to.flags |= _SCALED
        self._known = settings if grad_scale is None else None


def _as_numbers(settings: Settings) -> Settings:
    if not any(isinstance(settings[i], Tensor) for i in _MAY_BE_TENSORS):
        return settings
    numbers: Any = (float(value) if isinstance(value, Tensor) else value for value in settings)
    return type(settings)(*numbers)


def _nothing() -> None:
    """Step with lr = 0, or one to be skipped."""


def convert(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert ``tensor`` to another precision as the kernels do.

    Tests compare this with torch.

    Args:
        tensor: contiguous, on the CPU, of a dtype in `KINDS`.
        dtype: one of `KINDS`.
    """
    result = torch.empty_like(tensor, dtype=dtype)
    library().inna_convert(result.data_ptr(), KINDS[dtype], tensor.data_ptr(), KINDS[tensor.dtype], tensor.numel())
    return result
