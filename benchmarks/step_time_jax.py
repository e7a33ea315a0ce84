"""Time of one jitted optimizer step in JAX: INNA and INNAprop against optax.adamw and optax.sgd with momentum.

    python benchmarks/step_time_jax.py [--parameters 25000000] [--arrays 1] [--rounds 40]

A step is ``update`` and ``apply_updates`` with donated parameters and state. It is measured twice: with given
gradients, and with gradients computed in the same program (those of a dense layer on eight examples). The second case
is that of training: the program owns the memory of the gradients, and one more array needs no new memory.

Each round times one step of each optimizer in turn; other load on the machine then affects all alike. The figures are
medians over rounds of the time, and of the ratio to adamw in the same round. "Temporary" is the memory that XLA
allocates at every step. The exit status is 1 if, with given gradients, INNA took longer than adamw at a constant
learning rate or on a schedule.
"""

from __future__ import annotations

import argparse
import functools
import math
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
    "innaprop, schedule, bound": lambda: innaprop(schedule, max_learning_rate=0.1),
    "innaprop, schedule": lambda: innaprop(schedule),
    "innaprop, schedule, no decay": lambda: innaprop(schedule, weight_decay=0.0),
}
BASELINE = "optax.adamw"
NOT_SLOWER_THAN_BASELINE = ("inna", "inna, schedule, bound", "inna, schedule")


def schedule(k: Any) -> Any:
    """The paper's schedule from 0.1 down."""
    return 0.1 * power_decay(0.5)(k)


def compile_step(optimizer: Any, params: Any, inputs: Any) -> tuple[Any, Any]:
    """The compiled step and its initial state; ``inputs`` has an array per gradient, or a pair whose product it is."""

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        grads = [x[0].T @ x[1] if isinstance(x, tuple) else x for x in inputs]
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    return step.lower(params, state, inputs).compile(), state


def measure(parameters: int, arrays: int, rounds: int, computed: bool) -> dict[str, tuple[list[float], int]]:
    """Seconds of each round and bytes of temporary memory, by optimizer."""
    columns = math.isqrt(parameters // arrays)
    rows = parameters // arrays // columns
    inputs: list[Any] = [jnp.full((rows, columns), 1e-3)] * arrays
    if computed:
        inputs = [(jnp.full((8, rows), 1e-2), jnp.full((8, columns), 1e-2))] * arrays
    running, temporary = {}, {}
    for name, make in SIDES.items():
        params = [jnp.ones((rows, columns)) for _ in range(arrays)]
        step, state = compile_step(make(), params, inputs)
        temporary[name] = step.memory_analysis().temp_size_in_bytes
        running[name] = step, params, state
    seconds: dict[str, list[float]] = {name: [] for name in running}
    warm_up = 3
    for i in range(warm_up + rounds):
        for name, (step, params, state) in running.items():
            start = time.perf_counter()
            params, state = jax.block_until_ready(step(params, state, inputs))
            if i >= warm_up:
                seconds[name].append(time.perf_counter() - start)
            running[name] = step, params, state
    return {name: (seconds[name], temporary[name]) for name in running}


def ratios_to_the_baseline(results: dict[str, tuple[list[float], int]]) -> dict[str, float]:
    baseline, _ = results[BASELINE]
    return {
        name: statistics.median(ours / theirs for ours, theirs in zip(seconds, baseline, strict=True))
        for name, (seconds, _) in results.items()
    }


def print_table(title: str, results: dict[str, tuple[list[float], int]], ratios: dict[str, float]) -> None:
    table = Table(title=title)
    table.add_column("optimizer")
    for heading in ("median ms", "fastest ms", f"of {BASELINE}", "temporary MB"):
        table.add_column(heading, justify="right")
    for name, (seconds, temporary) in results.items():
        milliseconds = f"{1e3 * statistics.median(seconds):.1f}", f"{1e3 * min(seconds):.1f}"
        table.add_row(name, *milliseconds, f"{ratios[name]:.2f}", f"{temporary / 1e6:.0f}")
    Console(width=110).print(table)


def main() -> int:
    """Measure, print the tables and compare with the baseline."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=25_000_000, help="float32 numbers in total (%(default)s)")
    parser.add_argument("--arrays", type=int, default=1, help="number of arrays (%(default)s)")
    parser.add_argument("--rounds", type=int, default=40, help="timed steps per optimizer (%(default)s)")
    arguments = parser.parse_args()
    if not 1 <= arguments.arrays <= arguments.parameters or arguments.rounds < 1:
        parser.error("needs --rounds >= 1 and 1 <= --arrays <= --parameters")
    device = jax.devices()[0]
    print(f"{arguments.parameters:,} float32 parameters, JAX {jax.__version__} on {device.device_kind}")
    given, computed = (
        measure(arguments.parameters, arguments.arrays, arguments.rounds, computed) for computed in (False, True)
    )
    ratios = ratios_to_the_baseline(given)
    print_table("gradients given", given, ratios)
    print_table("gradients computed in the same program, product included", computed, ratios_to_the_baseline(computed))
    slower = [name for name in NOT_SLOWER_THAN_BASELINE if ratios[name] > 1.0]
    if slower:
        Console(stderr=True).print(f"slower than {BASELINE}: {'; '.join(slower)}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
