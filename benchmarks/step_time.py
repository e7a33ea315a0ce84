"""Time and memory of one optimizer step.

    python benchmarks/step_time.py                                 a table per set of shapes, and the targets
    python benchmarks/step_time.py --shapes lenet many --rounds 50
    python benchmarks/step_time.py --json results/cpu/step_time.json --docs docs/performance.md
    python benchmarks/step_time.py --shapes gpt2 --json results/cpu/step_time.json    measure one set again
    PYTHONPATH=src python benchmarks/step_time.py --device cuda --json results/gpu/step_time.json
    python benchmarks/step_time.py --from results/cpu/step_time.json --docs docs/performance.md    tables only

All optimizers take turns in one process, on the same parameters and gradients, in a random order that changes each
round. Times are medians. Optimizers with the same kind of state share it; 124 million parameters then fit into memory.
The exit status is 1 if a target is missed. --json keeps existing rows of the same machine and other shapes: a long
measurement can be taken in parts.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import json
import os
import platform
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from inna.dynamics import INNA_DEFAULTS, field
from inna.torch import INNA, INNAprop

GPT2 = [
    (50257, 768),
    (1024, 768),
    *(
        shape
        for _ in range(12)
        for shape in (
            *((768,), (768,), (2304, 768), (2304,), (768, 768), (768,)),
            *((768,), (768,), (3072, 768), (3072,), (768, 3072), (768,)),
        )
    ),
    *((768,), (768,)),
]
LENET = [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,)]
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "one": [(40_000_000,)],
    "layers": [(156_250,)] * 160,
    "gpt2": GPT2,
    "lenet": LENET,
    "many": [(1000,)] * 1000,
}
TITLES = {
    "one": "40 M in one tensor",
    "layers": "160 tensors, 25 M",
    "gpt2": "GPT-2 small, 124 M",
    "lenet": "LeNet, 62 k",
    "many": "1,000 tensors of 1 k",
}
COMPILED_FOREACH = 200  # tensors; Inductor takes many minutes over 1,000
LARGE = ("one", "layers", "gpt2")
REFERENCE = "AdamW fused"
FLOOR = "floor (C loop)"
# Bytes for a float32 parameter: those that a step reads, those that it writes.
BYTES: dict[str, tuple[float, float]] = {
    "copy": (4, 4),
    FLOOR: (12, 8),
    "AdamW fused": (16, 12),
    "SGD momentum fused": (12, 8),
    "INNA fused": (12, 8),
    "INNA fused, bfloat16": (10, 6),
    "INNA fused, 8 bits": (9 + 4 / 256, 5 + 4 / 256),
    "INNAprop fused": (16, 12),
    "INNA guarded fused": (20, 8),
    "INNA lr_free fused": (28, 8),
    "INNAprop lr_free fused": (36, 16),
}
BOUND = 0.8
"""AdamW is bound by memory if it moves its bytes at this share of the rate of the floor, or of a copy, or more."""
EARLIER = "earlier runs"


class Target(NamedTuple):
    """An upper limit of a ratio of times; a lower limit if it is negative."""

    numerator: str
    denominator: str
    limit: float
    shapes: tuple[str, ...]
    source: str


def by_traffic(numerator: str, denominator: str, allowance: int, shapes: tuple[str, ...] = LARGE) -> Target:
    """The target whose limit is the ratio of the bytes moved, and an allowance in percent."""
    ours, theirs = sum(BYTES[numerator]), sum(BYTES[denominator])
    limit = round(ours / theirs * (1 + allowance / 100), 2)
    return Target(numerator, denominator, limit, shapes, f"{ours:.3g} of {theirs:.3g} bytes, {allowance} %")


def by_reads(numerator: str, denominator: str, shapes: tuple[str, ...] = LARGE) -> Target:
    """The target whose limit is the ratio of the bytes read, where a machine waits for these."""
    ours, theirs = BYTES[numerator][0], BYTES[denominator][0]
    return Target(numerator, denominator, ours / theirs, shapes, f"{ours:.3g} of {theirs:.3g} bytes read")


TARGETS: dict[str, list[Target]] = {
    "cpu": [
        by_traffic("INNA fused", REFERENCE, 5),
        by_traffic("INNA fused, bfloat16", REFERENCE, 8),
        by_traffic("INNA fused, 8 bits", REFERENCE, 11),
        by_traffic("INNA fused", FLOOR, 10),
        by_traffic("INNA fused", "SGD momentum fused", 0),
        Target("ψ form", "INNA fused", -8.0, ("one",), EARLIER),
        Target("ψ form", "INNA fused", -3.5, ("layers",), EARLIER),
        Target("INNA foreach", REFERENCE, 1.8, LARGE, EARLIER),
        Target("INNA fused", REFERENCE, 0.35, ("lenet",), EARLIER),
        by_traffic("INNAprop fused", REFERENCE, 5),
        by_reads("INNA guarded fused", REFERENCE),
        Target("INNA guarded foreach", REFERENCE, 2.2, LARGE, EARLIER),
        by_traffic("INNA lr_free fused", REFERENCE, 5),
        by_traffic("INNAprop lr_free fused", REFERENCE, 5),
    ],
    "cuda": [
        by_traffic("INNA fused", REFERENCE, 9, ("gpt2",)),
        Target("INNA fused", "copy", 5 / 2 / 0.9, ("gpt2",), "20 of 8 bytes, at 90 %"),
        Target("INNA fused", REFERENCE, 1.0, ("many",), EARLIER),
        by_reads("INNA guarded fused", REFERENCE),
        Target("INNA guarded foreach", REFERENCE, 2.2, LARGE, EARLIER),
    ],
}


class Psi(torch.optim.Optimizer):
    """The paper's form, written down directly: a phase variable per parameter, tensor by tensor."""

    def __init__(self, params: list[torch.Tensor]) -> None:
        super().__init__(params, {"differentiable": False})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        lr, alpha, beta = INNA_DEFAULTS
        for group in self.param_groups:
            for theta in group["params"]:
                state = self.state[theta]
                if not state:
                    state["psi"] = (1 - alpha * beta) * theta.detach()
                dtheta, dpsi = field(theta, state["psi"], theta.grad, alpha, beta)
                theta.add_(lr * dtheta)
                state["psi"].add_(lr * dpsi)


class Sides:
    """Everything timed on one set of shapes; `steps` maps each name to a callable that takes a step."""

    def __init__(self, shapes: list[tuple[int, ...]], device: str, compiled: bool) -> None:
        torch.manual_seed(0)
        self.params = self._parameters(shapes, device)
        self.size = sum(param.numel() for param in self.params)
        self.state_bytes: dict[str, float] = {}
        self.steps: dict[str, Callable[[], Any]] = {}
        self._shared: dict[tuple[int, bool, torch.dtype], torch.Tensor] = {}
        self._add_inna(INNA, "INNA", compiled)
        self._add_inna(INNAprop, "INNAprop", compiled)
        self._add_guarded("INNA guarded foreach", {"foreach": True, "loss_bound": 0.0})
        self._add_guarded("INNA guarded fused", {"fused": True, "loss_bound": 0.0})
        for kind, flags in (
            ("single-tensor", {"fused": False, "foreach": False}),
            ("foreach", {"foreach": True}),
            ("fused", {"fused": True}),
        ):
            self._add_guarded(f"INNA lr_free {kind}", flags, INNA.lr_free)
            self._add_lr_free(f"INNAprop lr_free {kind}", flags)
        self._add_lr_free("INNAprop lr_free fused, an eleventh", {"fused": True, "slice_every": 11})
        self._add("ψ form", Psi(self._parameters(shapes, device)), share=False)
        for kind, flags in (("fused", {"fused": True}), ("default", {})):
            momentum = {"lr": 1e-3, "momentum": 0.95, **flags}
            self._add(f"SGD momentum {kind}", torch.optim.SGD(self.params, **momentum))
            self._add(f"SGD nesterov {kind}", torch.optim.SGD(self.params, nesterov=True, **momentum))
            self._add(f"AdamW {kind}", torch.optim.AdamW(self.params, lr=1e-6, **flags))
            if kind == "default" or device == "cpu":
                self._add(f"Adagrad {kind}", torch.optim.Adagrad(self.params, lr=1e-6, **flags))
        grads = [param.grad for param in self.params if param.grad is not None]
        plain = [param.detach() for param in self.params]
        self._references(plain, grads, device)

    @staticmethod
    def _parameters(shapes: list[tuple[int, ...]], device: str) -> list[torch.Tensor]:
        params: list[torch.Tensor] = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
        for param in params:
            param.grad = torch.randn_like(param).mul_(1e-3).detach()
        return params

    def _add_inna(self, cls: type[INNA] | type[INNAprop], name: str, compiled: bool) -> None:
        self._add(f"{name} single-tensor", cls(self.params, fused=False, foreach=False))
        self._add(f"{name} foreach", cls(self.params, foreach=True))
        try:
            self._add(f"{name} fused", cls(self.params, fused=True))
            self._add(f"{name} fused, bfloat16", cls(self.params, fused=True, momentum_dtype=torch.bfloat16))
            self._add(f"{name} fused, 8 bits", cls(self.params, fused=True, momentum_bits=8))
        except RuntimeError as error:
            warnings.warn(f"{name} fused is skipped: {error}", stacklevel=2)
        if compiled:
            # By default the graph calls the fused kernel, an operator; from foreach the compiler generates kernels.
            paths = ("", "foreach ") if len(self.params) <= COMPILED_FOREACH else ("",)
            for path in paths:
                optimizer = cls(self.params, foreach=True if path else None)
                self._add(f"{name} {path}compiled", optimizer, torch.compile(optimizer.step))

    def _add_guarded(self, name: str, flags: dict[str, Any], make: Callable[..., INNA] = INNA) -> None:
        try:
            optimizer = make(self.params, **flags)
        except RuntimeError as error:
            warnings.warn(f"{name} is skipped: {error}", stacklevel=2)
            return
        # On a GPU, where a training loop has it.
        loss = torch.ones((), device=self.params[0].device)
        self._add(name, optimizer, step=functools.partial(optimizer.step, loss=loss))

    def _add_lr_free(self, name: str, flags: dict[str, Any]) -> None:
        try:
            self._add(name, INNAprop.lr_free(self.params, **flags))
        except RuntimeError as error:
            warnings.warn(f"{name} is skipped: {error}", stacklevel=2)

    def _add(
        self, name: str, optimizer: torch.optim.Optimizer, step: Callable[[], Any] | None = None, share: bool = True
    ) -> None:
        step = step or optimizer.step
        try:
            step()
        except RuntimeError as error:
            warnings.warn(f"{name} is skipped: {error}", stacklevel=2)
            return
        states = optimizer.state.items()
        self.state_bytes[name] = sum(
            value.numel() * value.element_size()
            for _, state in states
            for value in state.values()
            if isinstance(value, torch.Tensor)
        ) / max(1, self.size)
        for param, state in states if share else []:
            for key, value in state.items():
                if isinstance(value, torch.Tensor) and value.shape == param.shape and param.ndim:
                    # Shared mean squares stay positive and shared momentums bounded.
                    positive = key in ("exp_avg_sq", "sum")
                    state[key] = self._shared.setdefault((id(param), positive, value.dtype), value)
        self.steps[name] = step

    def _references(self, params: list[torch.Tensor], grads: list[torch.Tensor], device: str) -> None:
        self.steps["p.add_(g), times 5/3"] = lambda: torch._foreach_add_(params, grads, alpha=1e-9)
        others = [torch.empty_like(param) for param in params]
        self.steps["copy"] = lambda: torch._foreach_copy_(others, params)
        library = floor_library() if device == "cpu" else None
        if library is not None:
            threads = torch.get_num_threads()
            # Own tensors: the loop combines bits, and its results read as numbers would be NaN.
            theta, momentum = ([torch.zeros_like(g) for g in grads] for _ in range(2))
            rows = [
                (*(ctypes.c_void_p(t.data_ptr()) for t in (x, g, m)), ctypes.c_int64(x.numel()), threads)
                for x, g, m in zip(theta, grads, momentum, strict=True)
            ]
            self._kept = theta, momentum

            def floor() -> None:
                for row in rows:
                    library.floor_step(*row)

            self.steps[FLOOR] = floor


def floor_library() -> ctypes.CDLL | None:
    """Compile the C loop for this machine; None without a compiler."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    folder = Path(tempfile.mkdtemp(prefix="inna-floor-"))
    source, library = Path(__file__).with_name("floor.c"), folder / "floor.so"
    command = [*compiler, "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", str(source), "-o", str(library)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        warnings.warn(f"no floor: {error}", stacklevel=2)
        return None
    return ctypes.CDLL(str(library))


def timed(step: Callable[[], Any], repeats: int, device: str) -> float:
    """Milliseconds per step."""
    if device == "cpu":
        begin = time.perf_counter()
        for _ in range(repeats):
            step()
        return (time.perf_counter() - begin) / repeats * 1e3
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / repeats


def extra_memory(step: Callable[[], Any], device: str) -> float | None:
    """Peak memory of a step in bytes, beyond what was allocated before; None if it cannot be read."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return None
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident("VmRSS")
    step()
    return max(0, _resident("VmHWM") - before)


def _resident(field_name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field_name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field_name}")


def measure(name: str, device: str, rounds: int, compiled: bool) -> list[dict[str, Any]]:
    """Measure one set of shapes; return its rows."""
    torch.compiler.reset()  # all shapes together exceed the limit of recompilations
    sides = Sides(SHAPES[name], device, compiled)
    # On a GPU the host prepares the next step while the device works, as in training.
    repeats = max(1 if device == "cpu" else 10, min(20, 2_000_000 // sides.size))
    times: dict[str, list[float]] = {side: [] for side in sides.steps}
    gc.disable()
    for side, step in sides.steps.items():
        print(f"\r{TITLES[name]}: {side:30}", end="", file=sys.stderr, flush=True)
        step()
        step()
    # A step also pays for the previous one: the cache contains numbers that still have to be written to memory.
    order, draw = list(sides.steps), random.Random(0)
    for turn in range(rounds):
        print(f"\r{TITLES[name]}: round {turn + 1} of {rounds}{'':20}", end="", file=sys.stderr, flush=True)
        draw.shuffle(order)
        for side in order:
            step = sides.steps[side]
            if repeats > 1:
                step()
            times[side].append(timed(step, repeats, device))
    print(file=sys.stderr)
    gc.enable()
    if device == "cpu" and sys.platform == "linux":
        # Return freed memory at once: otherwise the peak of a step would not be visible.
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(-3, 65536)
            libc.malloc_trim(0)
    medians = {side: statistics.median(values) for side, values in times.items()}
    medians["p.add_(g), times 5/3"] *= 5 / 3
    rows = []
    for side, value in medians.items():
        for _ in range(2):
            extra = extra_memory(sides.steps[side], device)
        rows.append(
            {
                "shapes": name,
                "side": side,
                "ms": value,
                "to_adamw_fused": value / medians[REFERENCE],
                "to_floor": value / medians[FLOOR] if FLOOR in medians else None,
                "of_copy_bandwidth": 5 / 2 * medians["copy"] / value
                if side.startswith("INNA ") and not side.endswith(("bfloat16", "8 bits"))
                else None,
                "state_bytes_per_parameter": sides.state_bytes.get(side),
                "extra_bytes": extra,
                "parameters": sides.size,
                "rounds": rounds,
                "date": time.strftime("%Y-%m-%d"),
            }
        )
    return rows


def machine(device: str) -> dict[str, Any]:
    """Describe the machine and the versions."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        name = platform.processor() or platform.machine()
        if Path("/proc/cpuinfo").exists():
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), name)
    return {
        "device": device,
        "name": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def earlier_rows(path: Path | None, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a file if it is of the same machine; otherwise none, with a message."""
    if path is None or not path.exists():
        return []
    result = json.loads(path.read_text(encoding="utf-8"))
    if result["machine"] != about:
        print(f"{path} is of another machine or another version of torch and is replaced", file=sys.stderr)
        return []
    rows: list[dict[str, Any]] = result["rows"]
    return rows


def check_targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare the rows with the targets; targets without rows are skipped."""
    ms = {(row["shapes"], row["side"]): row["ms"] for row in result["rows"]}
    verdicts = []
    for numerator, denominator, limit, shapes, source in TARGETS[result["machine"]["device"]]:
        for name in shapes:
            if (name, numerator) in ms and (name, denominator) in ms:
                ratio = ms[name, numerator] / ms[name, denominator]
                met = ratio <= limit if limit > 0 else ratio >= -limit
                verdicts.append(
                    {
                        "target": f"{numerator} / {denominator}, {TITLES[name]}",
                        "measured": ratio,
                        "limit": f"{'at most' if limit > 0 else 'at least'} {abs(limit):.3g}",
                        "source": source,
                        "met": met,
                    }
                )
    return verdicts


def bound_by(result: dict[str, Any]) -> list[str]:
    """For each set of shapes, whether AdamW fused is bound by memory: its bytes a second over those of the floor.

    Or over those of a copy where there is no floor. Where it is not, its time follows from calls and arithmetic, and
    the traffic gives no limit.
    """
    ms = {(row["shapes"], row["side"]): row["ms"] for row in result["rows"]}
    least = FLOOR if any(side == FLOOR for _, side in ms) else "copy"
    shares = {
        name: sum(BYTES[REFERENCE]) / ms[name, REFERENCE] / (sum(BYTES[least]) / ms[name, least])
        for name in SHAPES
        if (name, REFERENCE) in ms and (name, least) in ms
    }
    return [
        f"- {TITLES[name]}: {REFERENCE} moves its bytes at {share:.2f} of the rate of the {least}, so it is "
        f"{'' if share >= BOUND else 'not '}bound by memory."
        for name, share in shares.items()
    ]


def tables(result: dict[str, Any]) -> str:
    """The targets and the rows as Markdown tables."""
    about = result["machine"]
    rounds, dates = (sorted({row[name] for row in result["rows"]}) for name in ("rounds", "date"))
    lines = [
        (
            f"Measured on {about['name']} ({about['device']}, {about['threads']} threads), torch {about['torch']}, "
            f"Python {about['python']}, {', '.join(dates)}; medians of {', '.join(map(str, rounds))} rounds, float32."
        ),
        "",
        "| target | measured | limit | that of | met |",
        "|---|---:|---|---|---|",
    ]
    for verdict in check_targets(result):
        met = "yes" if verdict["met"] else "**no**"
        lines.append(
            f"| {verdict['target']} | {verdict['measured']:.2f} | {verdict['limit']} | {verdict['source']} | {met} |"
        )
    lines += ["", *bound_by(result)]
    for name in SHAPES:
        rows = [row for row in result["rows"] if row["shapes"] == name]
        if not rows:
            continue
        lines += [
            "",
            f"### {TITLES[name]}",
            "",
            "| | ms | / AdamW fused | / floor | state, bytes per parameter | peak extra memory, MB |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for row in sorted(rows, key=lambda row: row["ms"]):
            cells = [
                f"{row['ms']:.3g}" if row["ms"] < 100 else f"{row['ms']:.0f}",
                f"{row['to_adamw_fused']:.2f}",
                "" if row["to_floor"] is None else f"{row['to_floor']:.2f}",
                "" if row["state_bytes_per_parameter"] is None else f"{row['state_bytes_per_parameter']:.3g}",
                "" if row["extra_bytes"] is None else f"{row['extra_bytes'] / 1e6:.1f}",
            ]
            lines.append(f"| {row['side']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_docs(path: Path, result: dict[str, Any]) -> None:
    """Write the tables between the marks of the device in ``path``."""
    text = path.read_text(encoding="utf-8")
    begin, end = (f"<!-- step_time {result['machine']['device']}: {mark} -->" for mark in ("begin", "end"))
    if begin not in text or end not in text:
        raise SystemExit(f"{path} lacks the marks {begin} and {end}")
    head, rest = text.split(begin, 1)
    replace(path, head + begin + "\n" + tables(result) + "\n" + end + rest.split(end, 1)[1])


def replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="which sets of shapes")
    parser.add_argument("--rounds", type=int, default=15, help="steps timed per optimizer (default 15)")
    parser.add_argument("--device", choices=TARGETS, default="cpu")
    parser.add_argument("--threads", type=int, help="threads on the CPU (default: torch's)")
    parser.add_argument("--no-compiled", action="store_true", help="skip torch.compile, which takes minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the tables between the marks of this page")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="use the rows of an earlier run")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {arguments.rounds}")
    if arguments.source:
        result = json.loads(arguments.source.read_text(encoding="utf-8"))
    else:
        if arguments.device == "cuda" and not torch.cuda.is_available():
            parser.error("--device cuda: torch sees no CUDA device")
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        about = machine(arguments.device)
        result = {"machine": about, "rows": earlier_rows(arguments.json, about)}
        for name in arguments.shapes:
            rows = measure(name, arguments.device, arguments.rounds, not arguments.no_compiled)
            result["rows"] = [row for row in result["rows"] if row["shapes"] != name] + rows
            if arguments.json:
                # Write after each set of shapes: an interrupted run keeps its finished sets.
                replace(arguments.json, json.dumps(result, indent=1) + "\n")
    if arguments.docs:
        write_docs(arguments.docs, result)
    print(tables(result))
    return 0 if all(verdict["met"] for verdict in check_targets(result)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
