"""A model of step time and memory of INNA, INNAprop and AdamW on 1 to 10,000 GPUs, checked by measurements.

    python benchmarks/scaling_model.py                                               the tables
    python benchmarks/scaling_model.py --measure --json results/cpu/scaling.json     and a check on this machine
    python benchmarks/scaling_model.py --from results/cpu/scaling.json --docs docs/scaling.md --figures docs/images

The model counts bytes and divides by bandwidths. `Machine` and `Job` contain its assumptions and their sources.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inna.files import write_whole
from inna.torch import INNA, INNAprop

MARKS = ("<!-- scaling: begin -->", "<!-- scaling: end -->")
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "INNA": INNA,
    "INNAprop": INNAprop,
    "AdamW": torch.optim.AdamW,
}
STRATEGIES = ("DDP", "FSDP2", "offload")
SIZES = {"1 B": 1e9, "7 B": 7e9, "70 B": 70e9, "405 B": 405e9, "1 T": 1e12}
GPUS = (1, 8, 64, 512, 2048, 10_000)
NEGLIGIBLE = 0.01  # of a step


@dataclass(frozen=True)
class Machine:
    """A GPU, its links and its share of the host. Bytes, bytes per second, operations per second.

    The figures are those of an H100 SXM in a node of eight: NVIDIA, "H100 Tensor Core GPU", data sheet (dense bfloat16,
    HBM3, NVLink: half of 900 GB/s each way, PCIe 5: half of 128 GB/s each way); NVIDIA, "DGX H100 user guide"
    (eight 400 Gbit/s links, two sockets with eight channels of DDR5-4800, 2 TB). The fractions that
    a program reaches are assumptions.
    """

    operations: float = 989e12
    memory: float = 80e9
    memory_bandwidth: float = 3.35e12
    gpus_per_node: int = 8
    node_bandwidth: float = 450e9
    network_bandwidth: float = 50e9
    host_link: float = 64e9
    host_memory: float = 2e12 / 8
    host_bandwidth: float = 2 * 8 * 38.4e9 / 8
    reached_operations: float = 0.4  # of a training step; Llama 3 405 B reports 38 to 43 % (arXiv 2407.21783, table 4)
    reached_bandwidth: float = 0.8
    latency: float = 10e-6  # seconds for a message to one other GPU


@dataclass(frozen=True)
class Job:
    """Training of a dense transformer with ``parameters`` parameters on ``gpus`` GPUs by one of `STRATEGIES`.

    Attributes:
        parameter_bytes: bytes per parameter in the optimizer's step; 4 is float32 with bfloat16 copies to compute with.
        gradient_bytes: bytes per gradient entry that is reduced and read by the step.
        compute_bytes: bytes per weight that layers compute with and FSDP2 gathers.
        batch_tokens: tokens of one step on all GPUs.
        sequence: smallest number of tokens on a GPU.
    """

    parameters: float
    gpus: int
    strategy: str
    parameter_bytes: int = 4
    gradient_bytes: int = 4
    compute_bytes: int = 2
    batch_tokens: float = 4 * 2**20
    sequence: int = 2048

    @property
    def layers(self) -> int:
        """Number of layers, with 12 width^2 parameters per layer and width = 128 layers, as in GPT-3."""
        return max(1, round((self.parameters / (12 * 128**2)) ** (1 / 3)))

    @property
    def tokens(self) -> float:
        """Tokens of one step on one GPU."""
        return max(self.sequence, self.batch_tokens / self.gpus)

    @property
    def stepped(self) -> float:
        """Parameters stepped by one GPU or by its share of the host."""
        return self.parameters if self.strategy == "DDP" else self.parameters / self.gpus


@cache
def state_bytes(optimizer: str, parameter_bytes: int) -> float:
    """Bytes of optimizer state per parameter, measured after a step of the optimizer itself."""
    dtype = {4: torch.float32, 2: torch.bfloat16}[parameter_bytes]
    param = nn.Parameter(torch.zeros(2**12, dtype=dtype))
    param.grad = torch.zeros_like(param)
    stepped = OPTIMIZERS[optimizer]([param])
    stepped.step()
    tensors = [value for value in stepped.state[param].values() if isinstance(value, torch.Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors if t.shape == param.shape) / param.numel()


def step_bytes(optimizer: str, job: Job) -> float:
    """Bytes per parameter moved by a step: parameter and state read and written, gradient read."""
    return 2 * (job.parameter_bytes + state_bytes(optimizer, job.parameter_bytes)) + job.gradient_bytes


def memory(optimizer: str, job: Job) -> tuple[float, float]:
    """Bytes of weights, gradients and state on a GPU and in its share of the host, without activations."""
    whole = job.parameter_bytes + job.gradient_bytes + state_bytes(optimizer, job.parameter_bytes)
    layer = job.parameters / job.layers
    # The current layer and the next one are gathered; the gradient of one layer is waiting for its reduction.
    gathered = layer * (2 * job.compute_bytes + job.gradient_bytes)
    if job.strategy == "DDP":
        copies = job.compute_bytes if job.compute_bytes != job.parameter_bytes else 0
        return job.parameters * (whole + copies), 0.0
    if job.strategy == "FSDP2":
        return job.stepped * whole + gathered, 0.0
    return gathered, job.stepped * whole


def fits(optimizer: str, job: Job, machine: Machine) -> bool:
    """Whether it fits into 90 % of the memories; the rest is for activations and the framework."""
    on_gpu, on_host = memory(optimizer, job)
    return on_gpu <= 0.9 * machine.memory and on_host <= 0.9 * machine.host_memory


def collective_seconds(job: Job, machine: Machine) -> float:
    """Seconds of all collectives of a step: rings limited by the slowest link, and log2(GPUs) latencies."""
    if job.gpus == 1:
        return 0.0
    within = job.gpus <= machine.gpus_per_node
    bandwidth = machine.reached_bandwidth * (machine.node_bandwidth if within else machine.network_bandwidth)
    around = (job.gpus - 1) / job.gpus
    if job.strategy == "DDP":
        volume, count = 2 * job.gradient_bytes, job.layers  # one all-reduce
    else:
        volume, count = 2 * job.compute_bytes + job.gradient_bytes, 3 * job.layers  # two all-gathers, a reduce-scatter
    return job.parameters * volume * around / bandwidth + count * math.log2(job.gpus) * machine.latency


def step_seconds(optimizer: str, job: Job, machine: Machine) -> dict[str, float]:
    """The parts of a step in seconds, and ``total``; collectives and host traffic overlap with the computation."""
    compute = 6 * job.parameters * job.tokens / (machine.reached_operations * machine.operations)
    collectives = collective_seconds(job, machine)
    offloaded = job.strategy == "offload"
    # Shards are copied to the GPU for the forward and for the backward pass; gradients are copied back.
    copied = job.stepped * max(2 * job.parameter_bytes, job.gradient_bytes) if offloaded else 0.0
    host = copied / (machine.reached_bandwidth * machine.host_link)
    bandwidth = machine.host_bandwidth if offloaded else machine.memory_bandwidth
    stepping = job.stepped * step_bytes(optimizer, job) / (machine.reached_bandwidth * bandwidth)
    parts = {"compute": compute, "collectives": collectives, "host": host, "optimizer": stepping}
    return parts | {"total": max(compute, collectives, host) + stepping}


def share(optimizer: str, job: Job, machine: Machine) -> float:
    """The optimizer's share of a step."""
    parts = step_seconds(optimizer, job, machine)
    return parts["optimizer"] / parts["total"]


# Measurements on this machine.


def timed(work: Callable[[], object], rounds: int = 9) -> float:
    """The median of ``rounds`` durations in seconds, after one warm-up."""
    work()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def measure_steps(count: int = 25_000_000) -> list[dict[str, Any]]:
    """Measure steps of one process; predict them from the bandwidth of ``p.add_(g)``, three streams of float32."""
    param = nn.Parameter(torch.zeros(count))
    param.grad = torch.full_like(param, 1e-3)
    plain, grad = param.detach(), param.grad
    bandwidth = 12 * count / timed(lambda: plain.add_(grad, alpha=1e-9))
    rows = []
    for name, make in OPTIMIZERS.items():
        optimizer = make([param], fused=True)
        predicted = count * step_bytes(name, Job(count, 1, "DDP")) / bandwidth
        measured = timed(optimizer.step)
        rows.append({"what": f"step of {name}, {count / 1e6:g} M", "predicted": predicted, "measured": measured})
        del optimizer
    return rows


WIDTH, DEPTH, BATCH = 1024, 6, 32


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH)))


def passes(model: nn.Module) -> None:
    """Run the forward and backward pass."""
    model(torch.ones(BATCH, WIDTH)).square().mean().backward()


def _rank(rank: int, port: int, out: str) -> None:
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    rows = []
    try:
        # Calibrated at 16 MiB, predicted at other sizes.
        def collectives(size: int) -> dict[str, float]:
            whole, shard = torch.zeros(size // 4), torch.zeros(size // 8)
            return {
                "all-reduce": timed(lambda: dist.all_reduce(whole)),
                "all-gather": timed(lambda: dist.all_gather_into_tensor(whole, shard)),
                "reduce-scatter": timed(lambda: dist.reduce_scatter_tensor(shard, whole)),
            }

        calibrated = {name: 2**24 / taken for name, taken in collectives(2**24).items()}
        for size in (2**22, 2**26):
            for name, taken in collectives(size).items():
                what = f"{name} of {size // 2**20} MiB, 2 ranks, gloo"
                rows.append({"what": what, "predicted": size / calibrated[name], "measured": taken})
        model = network()
        alone = timed(lambda: passes(model))
        count = sum(param.numel() for param in model.parameters())
        plain, grad = torch.zeros(count // 2), torch.zeros(count // 2)
        bandwidth = 12 * (count // 2) / timed(lambda: plain.add_(grad))
        for layer in model:
            fully_shard(layer)
        fully_shard(model)
        optimizer = INNA(model.parameters(), lr=1e-6)

        def step() -> None:
            passes(model)
            optimizer.step()
            optimizer.zero_grad()

        job = Job(count, 2, "FSDP2", compute_bytes=4)
        here = Machine(memory_bandwidth=bandwidth, reached_bandwidth=1.0)
        # Gloo uses the same cores as the network: nothing overlaps.
        predicted = (
            alone
            + 4 * count * (2 / calibrated["all-gather"] + 1 / calibrated["reduce-scatter"])
            + step_seconds("INNA", job, here)["optimizer"]
        )
        what = f"FSDP2 step with INNA, {count / 1e6:.1f} M, 2 ranks, gloo"
        rows.append({"what": what, "predicted": predicted, "measured": timed(step)})
        if rank == 0:
            Path(out).write_text(json.dumps(rows), encoding="utf-8")
    finally:
        dist.destroy_process_group()


def measure_ranks() -> list[dict[str, Any]]:
    """Measure collectives and an FSDP2 step on two processes; predict them from collectives of 16 MiB."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="inna-scaling-") as place:
        out = Path(place) / "rows.json"
        torch.multiprocessing.spawn(_rank, (port, str(out)), nprocs=2)
        rows: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    return rows


def measure() -> dict[str, Any]:
    rows = measure_steps() + measure_ranks()
    return {"cores": os.cpu_count(), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d"), "rows": rows}


# Tables and figures.


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    aligned = "|".join(["---", *["---:"] * (len(head) - 1)])
    return [f"| {' | '.join(head)} |", f"|{aligned}|", *(f"| {' | '.join(line)} |" for line in lines)]


def percent(value: float) -> str:
    return "< 0.01 %" if value < 1e-4 else f"{100 * value:.2g} %"


def gigabytes(count: float) -> str:
    """Three digits, without an exponent."""
    value = count / 1e9
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def _each(shown: Callable[[str], str]) -> str:
    """A cell with the value of each optimizer, or one value if they are equal."""
    cells = [shown(name) for name in OPTIMIZERS]
    return cells[0] if len(set(cells)) == 1 else " / ".join(cells)


def tables(measured: dict[str, Any] | None, machine: Machine | None = None) -> str:
    machine = machine or Machine()
    variants = {
        "float32 parameters and gradients, bfloat16 computation": Job(1, 1, "DDP"),
        "the same, gradients reduced in bfloat16": Job(1, 1, "DDP", gradient_bytes=2),
        "bfloat16 parameters and gradients": Job(1, 1, "DDP", parameter_bytes=2, gradient_bytes=2),
    }
    lines = ["### Bytes per parameter", "", "State as measured of the optimizer itself, and what a step moves.", ""]
    cells = [
        [name, *(f"{state_bytes(each, job.parameter_bytes):g}, {step_bytes(each, job):g}" for each in OPTIMIZERS)]
        for name, job in variants.items()
    ]
    lines += table(["precision", *(f"{name}: state, step" for name in OPTIMIZERS)], cells)
    for strategy in STRATEGIES:
        jobs = {name: [Job(size, gpus, strategy) for gpus in GPUS] for name, size in SIZES.items()}
        on_gpu = int(strategy == "offload")
        where = "in a GPU's share of the host" if on_gpu else "on a GPU"
        shown = {
            f"GB {where}; a star where it does not fit": lambda job, place=on_gpu: _each(
                lambda each: f"{gigabytes(memory(each, job)[place])}{'' if fits(each, job, machine) else '*'}"
            ),
            "a step": lambda job: _each(
                lambda each: seconds(step_seconds(each, job, machine)["total"]) if fits(each, job, machine) else "–"
            ),
            "the optimizer's share of a step": lambda job: _each(
                lambda each: percent(share(each, job, machine)) if fits(each, job, machine) else "–"
            ),
        }
        for title, cell in shown.items():
            lines += [
                "",
                f"### {strategy}: {title}",
                "",
                "INNA / INNAprop / AdamW, one number where they are alike.",
                "",
            ]
            head = ["parameters", *(f"{gpus:,} GPU{'s' * (gpus > 1)}" for gpus in GPUS)]
            lines += table(head, [[name, *map(cell, row)] for name, row in jobs.items()])
    lines += ["", "### On how many GPUs the step of AdamW is less than 1 % of the whole, of those on which it fits", ""]
    lines += table(
        ["parameters", *STRATEGIES],
        [[name, *(_small(size, strategy, machine) for strategy in STRATEGIES)] for name, size in SIZES.items()],
    )
    if measured:
        lines += ["", "### Predicted and measured here", ""]
        lines += [f"{measured['cores']} cores, torch {measured['torch']}, {measured['date']}; medians of 9.", ""]
        lines += table(
            ["what", "predicted", "measured", "predicted / measured"],
            [
                [
                    row["what"],
                    seconds(row["predicted"]),
                    seconds(row["measured"]),
                    f"{row['predicted'] / row['measured']:.2f}",
                ]
                for row in measured["rows"]
            ],
        )
    return "\n".join(lines)


def _small(size: float, strategy: str, machine: Machine) -> str:
    """The numbers of GPUs on which AdamW fits and its step is negligible."""
    counts = [*(2**k for k in range(14)), 10_000]
    fitting = [gpus for gpus in counts if fits("AdamW", Job(size, gpus, strategy), machine)]
    if not fitting:
        return "does not fit"
    small = [gpus for gpus in fitting if share("AdamW", Job(size, gpus, strategy), machine) < NEGLIGIBLE]
    if len(small) == len(fitting):
        return f"all from {fitting[0]:,} on"
    return f"{small[0]:,} to {small[-1]:,}, of {fitting[0]:,} to {fitting[-1]:,}" if small else "none"


def _percent_of_step(machine: Machine) -> Callable[[str, Job], float]:
    return lambda optimizer, job: 100 * share(optimizer, job, machine)


def _gigabytes(optimizer: str, job: Job) -> float:
    return memory(optimizer, job)[job.strategy == "offload"] / 1e9


def draw(folder: Path, machine: Machine | None = None) -> list[Path]:
    """Draw the optimizer's share of a step and the memory over the number of GPUs."""
    import altair as alt
    import vl_convert

    from inna.experiments.charts.drawing import configuration, log_axis, vega_lite_version
    from inna.experiments.charts.themes import LIGHT

    machine = machine or Machine()
    counts = [2**k for k in range(14)]
    colors = alt.Scale(domain=list(OPTIMIZERS), range=["#0072b2", "#0a2f7a", "#d55e00"])
    across = alt.Scale(type="log", domain=[1, 8192])
    dashes = alt.Scale(domain=list(OPTIMIZERS), range=[[1, 0], [7, 3], [2, 2]])
    paths = []
    for name, size, strategies, title, value in (
        ("scaling-share", "1 B", STRATEGIES, "the optimizer's share of a step, % (log)", _percent_of_step(machine)),
        ("scaling-memory", "70 B", STRATEGIES[1:], "GB on a GPU, or at its host (log)", _gigabytes),
    ):
        rows = [
            {"GPUs": gpus, "optimizer": optimizer, "value": value(optimizer, job), "strategy": strategy}
            for strategy in strategies
            for gpus in counts
            for optimizer in OPTIMIZERS
            if fits(optimizer, job := Job(SIZES[size], gpus, strategy), machine)
        ]
        up = alt.Scale(type="log", domain=[min(row["value"] for row in rows), max(row["value"] for row in rows)])
        chart = alt.hconcat(
            *(
                alt.Chart(alt.Data(values=[row for row in rows if row["strategy"] == strategy]))
                .mark_line(strokeWidth=2.5)
                .encode(
                    x=alt.X("GPUs:Q", scale=across, axis=log_axis(), title="GPUs (log)"),
                    y=alt.Y("value:Q", scale=up, axis=log_axis(), title=title if strategy == strategies[0] else None),
                    color=alt.Color("optimizer:N", scale=colors, title=None, legend=alt.Legend(symbolType="stroke")),
                    strokeDash=alt.StrokeDash("optimizer:N", scale=dashes, title=None),
                )
                .properties(title=f"{strategy}, {size} parameters", width=290, height=260)
                for strategy in strategies
            ),
            spacing=28,
        ).configure(**configuration(LIGHT), background=LIGHT.background)
        path = folder / f"{name}.png"
        write_whole(path, vl_convert.vegalite_to_png(chart.to_dict(), vl_version=vega_lite_version(), scale=2))
        paths.append(path)
    return paths


def write_docs(path: Path, text: str) -> None:
    head, rest = path.read_text(encoding="utf-8").split(MARKS[0], 1)
    write_whole(path, f"{head}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1], 1)[1]}".encode())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="check the model on this machine (about a minute)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="use measurements of an earlier run")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the tables between the marks of this page")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="draw the figures into this folder")
    arguments = parser.parse_args()
    if arguments.json and not arguments.measure:
        parser.error("--json needs --measure")
    measured = None
    if arguments.source:
        measured = json.loads(arguments.source.read_text(encoding="utf-8"))
    elif arguments.measure:
        measured = measure()
    if arguments.json:
        write_whole(arguments.json, (json.dumps(measured, indent=1) + "\n").encode())
    text = tables(measured)
    if arguments.docs:
        write_docs(arguments.docs, text)
    if arguments.figures:
        draw(arguments.figures)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
