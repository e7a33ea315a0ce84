"""Gradient release: step each parameter as soon as its gradient is computed, then free the gradient.

    python examples/gradient_release.py [--width 1024] [--layers 16] [--steps 3]

Each parameter has its own optimizer. A hook steps it when the parameter's gradient has been accumulated. At most one or
two gradients exist at a time. The final weights are equal bit for bit. Clipping by the norm of all gradients, gradient
accumulation over several batches and GradScaler are not possible.

The program prints the peak memory with and without gradient release. On the CPU, each trains in its own process and the
peak is that of the process from its first training step on. On a GPU, the peak is that of PyTorch's allocator.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
from typing import Any

import torch

from inna.torch import INNA


def network(width: int, layers: int, device: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(*(torch.nn.Linear(width, width, bias=False) for _ in range(layers))).to(device)


def release_gradients(model: torch.nn.Module, **settings: Any) -> dict[torch.nn.Parameter, INNA]:
    """Give each parameter of ``model`` an INNA that steps in the backward pass; return them for schedulers."""
    optimizers = {param: INNA([param], **settings) for param in model.parameters()}

    def step_and_free(param: torch.nn.Parameter) -> None:
        optimizers[param].step()
        optimizers[param].zero_grad()

    for param in optimizers:
        param.register_post_accumulate_grad_hook(step_and_free)
    return optimizers


def peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def train(release: bool, width: int, layers: int, steps: int, device: str) -> tuple[int, float]:
    """Train; return the peak bytes above those before the first step, and a checksum of the weights."""
    network(8, 1, device)(torch.ones(4, 8, device=device)).sum().backward()  # the libraries' own allocations
    model = network(width, layers, device)
    points = torch.linspace(-1, 1, 4 * width, device=device).reshape(4, width)
    settings = {"lr": 0.01, "foreach": False}
    # Both keep momentum and weights from the first step on; they differ in the gradients.
    if release:
        release_gradients(model, **settings)
    else:
        optimizer = INNA(model.parameters(), **settings)
    before = peak_bytes(device)
    for _ in range(steps):
        model(points).square().mean().backward()
        if not release:
            optimizer.step()
            optimizer.zero_grad()
    checksum = sum(param.detach().double().sum().item() for param in model.parameters())
    return peak_bytes(device) - before, checksum


def measure(release: bool, arguments: argparse.Namespace, device: str) -> tuple[int, float]:
    # Use a new process, because the peak of a process never decreases.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(train, (release, arguments.width, arguments.layers, arguments.steps, device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=1024, help="neurons per layer (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=16, help="linear layers (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="training steps (default: %(default)s)")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"

    (whole, checksum), (released, other_checksum) = (measure(release, arguments, device) for release in (False, True))
    if checksum != other_checksum:
        raise SystemExit(f"the trained weights differ: checksums {checksum!r} and {other_checksum!r}")
    gradients = 4 * arguments.width**2 * arguments.layers
    print(f"parameters                        {gradients / 4 / 1e6:8.1f} million, float32, on {device}")
    print(f"all gradients together            {gradients / 1e6:8.1f} MB")
    print(f"peak, step after backward         {whole / 1e6:8.1f} MB (gradients, momentum, activations)")
    print(f"peak, step in hooks               {released / 1e6:8.1f} MB")
    print(f"saved                             {(whole - released) / 1e6:8.1f} MB")
    print("the trained weights are the same")


if __name__ == "__main__":
    main()
