"""Time of one jitted optimizer step in JAX: INNA and INNAprop against optax.adamw and optax.sgd with momentum.

    python benchmarks/step_time_jax.py [--parameters 25000000] [--arrays 1] [--rounds 40]

A step is ``update`` and ``apply_updates`` with donated parameters and state, the gradients given. Every round times one
step of each side in turn, so that whatever else the machine does meets all alike; the figures are medians over rounds,
and medians over rounds of the ratio to adamw in the same round. "Temporary" is what XLA allocates anew at every step.
Exit status 1: INNA at a constant rate, or on a schedule with a bound, took longer than adamw.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

from inna.optax import inna, innaprop
from inna.schedules import power_decay

SIDES = {
    "optax.adamw": lambda: optax.adamw(1e-3),
    "optax.sgd, momentum": lambda: optax.sgd(0.01, momentum=0.95),
    "inna": lambda: inna(0.1, 0.5, 0.1),
    "inna, schedule, bound": lambda: inna(schedule, 0.5, 0.1, max_learning_rate=0.1),
    "inna, schedule": lambda: inna(schedule, 0.5, 0.1),
    "innaprop": innaprop,
}
BASELINE = "optax.adamw"
HELD_TO_THE_BASELINE = ("inna", "inna, schedule, bound")


def schedule(k: Any) -> Any:
    """The paper's step sizes from 0.1 down."""
    return 0.1 * power_decay(0.5)(k)


def compile_step(optimizer: Any, params: Any, grads: Any) -> tuple[Any, Any]:
    """(the compiled step, its first state)."""

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    return step.lower(params, state, grads).compile(), state


def measure(parameters: int, arrays: int, rounds: int) -> dict[str, tuple[list[float], int]]:
    """Per side: seconds of each round, and bytes of temporary memory."""
    size = parameters // arrays
    grads = [jnp.full(size, 1e-3) for _ in range(arrays)]
    running, seconds, temporary = {}, {name: [] for name in SIDES}, {}
    for name, make in SIDES.items():
        params = [jnp.ones(size) for _ in range(arrays)]
        step, state = compile_step(make(), params, grads)
        temporary[name] = step.memory_analysis().temp_size_in_bytes
        running[name] = step, params, state
    warm_up = 3
    for i in range(warm_up + rounds):
        for name, (step, params, state) in running.items():
            start = time.perf_counter()
            params, state = jax.block_until_ready(step(params, state, grads))
            if i >= warm_up:
                seconds[name].append(time.perf_counter() - start)
            running[name] = step, params, state
    return {name: (seconds[name], temporary[name]) for name in SIDES}


def main() -> int:
    """Measure, print the table, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=25_000_000, help="float32 numbers in all (%(default)s)")
    parser.add_argument("--arrays", type=int, default=1, help="arrays they are spread over (%(default)s)")
    parser.add_argument("--rounds", type=int, default=40, help="timed steps of each side (%(default)s)")
    arguments = parser.parse_args()
    if not 1 <= arguments.arrays <= arguments.parameters or arguments.rounds < 1:
        parser.error("needs --rounds >= 1 and 1 <= --arrays <= --parameters")
    results = measure(arguments.parameters, arguments.arrays, arguments.rounds)
    baseline, _ = results[BASELINE]
    ratios = {
        name: statistics.median(ours / theirs for ours, theirs in zip(seconds, baseline, strict=True))
        for name, (seconds, _) in results.items()
    }
    device = jax.devices()[0]
    table = Table(title=f"{arguments.parameters:,} float32 parameters, JAX {jax.__version__} on {device.device_kind}")
    table.add_column("optimizer")
    for heading in ("median ms", "fastest ms", f"of {BASELINE}", "temporary MB"):
        table.add_column(heading, justify="right")
    for name, (seconds, temporary) in results.items():
        milliseconds = f"{1e3 * statistics.median(seconds):.1f}", f"{1e3 * min(seconds):.1f}"
        table.add_row(name, *milliseconds, f"{ratios[name]:.2f}", f"{temporary / 1e6:.0f}")
    Console().print(table)
    slower = [name for name in HELD_TO_THE_BASELINE if ratios[name] > 1.0]
    if slower:
        Console(stderr=True).print(f"slower than {BASELINE}: {'; '.join(slower)}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
