"""Images per second of a run of `inna`, compared with a plain DataLoader loop and with that loop compiled.

    python benchmarks/training_throughput.py
    python benchmarks/training_throughput.py --json results/cpu/training_throughput.json --docs docs/performance.md
    python benchmarks/training_throughput.py --problems nin --device cuda --precision bfloat16
    python benchmarks/training_throughput.py --from results/cpu/training_throughput.json --docs docs/performance.md

The loop: `DataLoader(TensorDataset(...), batch_size=32, shuffle=True, num_workers=0)`, zero_grad, forward, backward,
step. The compiled loop has forward and loss under `torch.compile`. All have the same network, optimizer, batch size,
precision and number of threads, and take turns: the loops in one process, the run in another, which keeps its freed
memory as the commands do. The results are medians over rounds. Evaluation is compared likewise, the loop's over a
DataLoader with batches as large as the run's. On two or more cores there is a further comparison: the loop with one
thread per core, and as many parallel runs as `inna compare` starts, each in a process with one thread.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, TensorDataset

from inna.experiments import Run, Task
from inna.experiments.tasks.catalogue import CATALOGUE, split_width
from inna.experiments.tasks.load import BUILTIN_TASKS, CHANNELS_LAST
from inna.experiments.tasks.local_files import file_states
from inna.experiments.tasks.seeds import threads
from inna.experiments.training.allocation import keep_freed_memory
from inna.experiments.training.batches import EVALUATION_BATCH
from inna.experiments.training.devices import PRECISIONS
from inna.experiments.training.hardware import cores, hardware
from inna.experiments.training.optimizers import build
from inna.experiments.training.train import measure, pace

BATCH = 32
LOOP, COMPILED, RUN = "DataLoader loop", "compiled loop", "inna"
# name -> data set, network, title, images per round on a CPU and on a GPU, target ratio on each
PROBLEMS = {
    "lenet": ("mnist", "lenet5", "LeNet-5, MNIST", 6_400, 51_200, 1.3, None),
    "nin": ("cifar10", "nin", "Network in Network, CIFAR-10", 192, 25_600, None, 8.0),
    "nin-w0.333": ("cifar10", "nin-w0.333", "Network in Network at a third, CIFAR-10", 640, 25_600, None, None),
}
BEGIN, END = "<!-- training_throughput {}: begin -->", "<!-- training_throughput {}: end -->"


def images_of(dataset: str, count: int) -> tuple[Tensor, Tensor, bool]:
    """``count`` images and labels; random ones of the same shape if the data are not present."""
    described = CATALOGUE[dataset]
    if all(state.place for state in file_states(described)):
        (images, labels), _ = BUILTIN_TASKS[dataset].data()
        repeats = -(-count // len(images))
        return images.repeat(repeats, 1, 1, 1)[:count], labels.repeat(repeats)[:count], True
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, *described.shape, generator=generator)
    return images, torch.randint(described.classes, (count,), generator=generator), False


class Problem:
    """A network, its data, the loop and the run."""

    def __init__(self, name: str, device: str, precision: str) -> None:
        dataset, self.model, self.title, on_cpu, on_gpu, *targets = PROBLEMS[name]
        self.count = on_cpu if device == "cpu" else on_gpu
        self.target = targets[device != "cpu"]
        self.device, self.layers = torch.device(device), PRECISIONS[precision].layers
        network, width = split_width(self.model)
        make = BUILTIN_TASKS[dataset].models[network]
        images, labels, self.real = images_of(dataset, self.count)
        dtype = PRECISIONS[precision].weights
        self.data = (images.to(dtype), labels)
        self.task = Task(
            dataset,
            make if width == 1 else partial(make, width=width),
            self.data,
            (self.data[0][:EVALUATION_BATCH], labels[:EVALUATION_BATCH]),
            nn.functional.cross_entropy,
            model_name=self.model,
            channels_last=network in CHANNELS_LAST,
        )
        self.run = Run(dataset, self.model, "inna", 0.01, 0.5, 0.1, epochs=1, device=device, precision=precision)
        self.loader = DataLoader(TensorDataset(*self.data), batch_size=BATCH, shuffle=True, num_workers=0)
        self.network = self.task.model().to(self.device, dtype)
        self.optimizer = build(self.run, self.network)

    def seconds(self, side: str) -> tuple[float, float]:
        """Train one epoch and evaluate it; return the seconds of an epoch and of an evaluation of its images."""
        if side == RUN:
            # A run evaluates its test set, too.
            evaluated = self.count + min(self.count, EVALUATION_BATCH)
            return self.own(), pace(self.run, self.task, 0.0).evaluation * self.count / evaluated
        loss_of = _compiled if side == COMPILED else _loss
        return self.loop(loss_of), self.evaluate(loss_of)

    def loop(self, loss_of: Callable[..., Tensor]) -> float:
        """Train one epoch in the loop; return its seconds."""
        self.network.train()
        self._wait()
        started = time.perf_counter()
        for inputs, targets in self.loader:
            inputs, targets = inputs.to(self.device), targets.to(self.device)
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, self.layers, enabled=self.layers is not None):
                loss = loss_of(self.network, inputs, targets)
            loss.backward()
            self.optimizer.step()
        self._wait()
        return time.perf_counter() - started

    @torch.no_grad()
    def evaluate(self, loss_of: Callable[..., Tensor]) -> float:
        """Take the mean loss over the images in a loop; return the seconds."""
        self.network.eval()
        self._wait()
        started, total = time.perf_counter(), 0.0
        for inputs, targets in DataLoader(self.loader.dataset, batch_size=EVALUATION_BATCH):
            inputs, targets = inputs.to(self.device), targets.to(self.device)
            with torch.autocast(self.device.type, self.layers, enabled=self.layers is not None):
                total += loss_of(self.network, inputs, targets).item() * len(targets)
        self._wait()
        return time.perf_counter() - started

    def own(self) -> float:
        """Train one epoch in a run; return the seconds of training in its row."""
        return float(measure(self.run, self.task)["history"][1]["seconds"])

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def _loss(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(network(inputs), targets)


_compiled = torch.compile(_loss)


def serve(pipe: Connection, name: str, device: str, precision: str, kept: bool) -> None:
    """Do what is asked, "loop", "compiled loop" or "inna", and send its seconds; or the optimizer's share of a run."""
    if kept:
        keep_freed_memory()
    problem = Problem(name, device, precision)
    with threads(1):
        while side := pipe.recv():
            pipe.send(share_of_steps(problem) if side == "share" else problem.seconds(side))


@cache
def _kept(name: str, precision: str) -> Problem:
    return Problem(name, "cpu", precision)


def own_elsewhere(name: str, precision: str, epochs: int) -> float:
    """Median seconds of ``epochs`` epochs of a run in a worker process."""
    problem = _kept(name, precision)
    return statistics.median(problem.own() for _ in range(epochs))


def share_of_steps(problem: Problem) -> float:
    """The share of a run's epoch spent in optimizer steps."""
    begun, inside = [0.0], [0.0]

    def before(*arguments: Any) -> None:
        begun[0] = time.perf_counter()

    def after(*arguments: Any) -> None:
        inside[0] += time.perf_counter() - begun[0]

    hooks = register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)
    try:
        whole = problem.own()
    finally:
        for hook in hooks:
            hook.remove()
    return inside[0] / whole


def measured(name: str, device: str, precision: str, rounds: int, one_thread: bool) -> dict[str, Any]:
    """One problem's row: images per second of loop and run, and the optimizer's share of the time."""
    problem = Problem(name, device, precision)
    context = multiprocessing.get_context("spawn")
    ends = {}
    for kept in (False, True):
        ends[kept], there = context.Pipe()
        context.Process(target=serve, args=(there, name, device, precision, kept), daemon=True).start()

    def ask(side: str) -> Any:
        end = ends[side in (RUN, "share")]
        end.send(side)
        return end.recv()

    taken: dict[str, list[tuple[float, float]]] = {LOOP: [], COMPILED: [], RUN: []}
    for number in range(rounds + 1):  # the first one warms up
        for side, pairs in taken.items():
            seconds = ask(side)
            if number:
                pairs.append(seconds)
    share = ask("share") if device == "cpu" else None
    for end in ends.values():
        end.send("")
    row = {
        "name": name,
        "title": problem.title,
        "data": "real images" if problem.real else "random images of the same shape",
        "images": problem.count,
        "target": problem.target,
        "one_thread": {
            side: problem.count / statistics.median(epoch for epoch, _ in pairs) for side, pairs in taken.items()
        },
        "evaluation": {
            side: problem.count / statistics.median(each for _, each in pairs) for side, pairs in taken.items()
        },
        "optimizer_share": share,
    }
    if device == "cpu" and cores() > 1 and not one_thread:
        row["all_cores"] = side_by_side(name, problem, precision, rounds)
    return row


def side_by_side(name: str, problem: Problem, precision: str, rounds: int) -> dict[str, float]:
    """Images per second on all cores: the loop with one thread per core, and as many parallel runs in total."""
    # In the workers this module is not __main__.
    from training_throughput import own_elsewhere as elsewhere

    count = cores()
    at_once = Parallel(n_jobs=count, backend="loky")
    loop, together = [], []
    for number in range(-(-rounds // 3) + 1):
        with threads(count):
            taken = statistics.median(problem.loop(_loss) for _ in range(3))
        runs = at_once(delayed(elsewhere)(name, precision, 3) for _ in range(count))
        if number:
            loop.append(problem.count / taken)
            together.append(sum(problem.count / seconds for seconds in runs))
    return {LOOP: statistics.median(loop), RUN: statistics.median(together)}


def table(result: dict[str, Any]) -> list[str]:
    """The result as a Markdown table."""
    count = result["cores"]
    heading = (
        f"Measured on {result['hardware']}, torch {result['torch']}, Python {result['python']}, {result['date']}; "
        f"batch {BATCH}, {result['precision']}, INNA, medians of {result['rounds']} rounds; load average at "
        f"start {result['load']:.1f} (idle machine: below 1)."
    )
    lines = [
        heading,
        "",
        "| | loop, images/s | compiled loop | inna | inna / loop | inna / compiled | target |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in result["rows"]:
        title = f"{row['title']} ({row['data']})"
        lines.append(_line(f"{title}: one run, one thread", row["one_thread"], None))
        if "evaluation" in row:  # results of before have none
            lines.append(_line(f"{title}: evaluation, one thread", row["evaluation"], None))
        if "all_cores" in row:
            what = f"{title}: {count} cores, loop with {count} threads, inna with {count} parallel runs"
            lines.append(_line(what, row["all_cores"], row["target"]))
    shares = [f"{row['title']} {row['optimizer_share']:.1%}" for row in result["rows"] if row["optimizer_share"]]
    return [*lines, "", f"Share of a run's time spent in optimizer steps: {', '.join(shares)}."] if shares else lines


def _line(title: str, pair: dict[str, float], target: float | None) -> str:
    ratio = pair[RUN] / pair[LOOP]
    compiled = [f"{pair[COMPILED]:,.0f}", f"{pair[RUN] / pair[COMPILED]:.2f}"] if COMPILED in pair else ["", ""]
    verdict = "" if target is None else f"{target:g}: {'met' if ratio >= target else '**missed**'}"
    return (
        f"| {title} | {pair[LOOP]:,.0f} | {compiled[0]} | {pair[RUN]:,.0f} | {ratio:.2f} | {compiled[1]} | {verdict} |"
    )


def write_docs(path: Path, device: str, lines: list[str]) -> None:
    """Write ``lines`` between the marks of ``device`` in ``path``."""
    text = path.read_text(encoding="utf-8")
    begin, end = BEGIN.format(device), END.format(device)
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        sys.exit(f"{path} has no marks {begin} ... {end}")
    path.write_text("\n".join([before + begin, *lines, end]) + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--one-thread", action="store_true", help="skip the comparison on all cores")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--from", dest="source", type=Path, help="show an existing result without running")
    parser.add_argument("--docs", type=Path, help="write the table into this page")
    given = parser.parse_args()
    if given.source:
        result = json.loads(given.source.read_text(encoding="utf-8"))
    else:
        device = torch.device(given.device)
        described = hardware(device)
        result = {
            "device": device.type,
            "hardware": described["cpu"] if device.type == "cpu" else described["device"],
            "cores": cores(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "date": time.strftime("%Y-%m-%d"),
            "precision": given.precision,
            "rounds": given.rounds,
            "load": os.getloadavg()[0],
            "rows": [
                measured(name, given.device, given.precision, given.rounds, given.one_thread) for name in given.problems
            ],
        }
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        temporary = given.json.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        temporary.replace(given.json)
    lines = table(result)
    print("\n".join(lines))
    if given.docs:
        write_docs(given.docs, result["device"], lines)


if __name__ == "__main__":
    main()
