"""Gradient release: step each parameter as soon as its gradient is there, and free the gradient at once.

    python examples/gradient_release.py [--width 1024] [--layers 16] [--steps 3]

An optimizer per parameter, stepped by a hook that runs when the parameter's gradient has been accumulated: there is
never more than a gradient or two at once. The weights after the last step are the same, bit for bit. What it costs: no
clipping by the norm of all gradients, no accumulation over several batches, and no GradScaler.

Prints the peak memory of both ways of training. On the CPU each trains in a process of its own, and the peak is that of
the process from its first training step on; on a GPU it is what PyTorch's allocator has counted.
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
    """Give each parameter of ``model`` an INNA that steps within backward; returns them, for schedulers."""
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
    """Peak bytes beyond those in use before the first step, and a checksum of the trained weights."""
    network(8, 1, device)(torch.ones(4, 8, device=device)).sum().backward()  # what the libraries themselves allocate
    model = network(width, layers, device)
    points = torch.linspace(-1, 1, 4 * width, device=device).reshape(4, width)
    settings = {"lr": 0.01, "foreach": False}
    # Momentum and weights are there from the first step on in both cases; what differs is the gradients.
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
    # A new process, since the peak of a process never falls.
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
        raise SystemExit(f"the two ways of training differ: {checksum!r} and {other_checksum!r}")
    gradients = 4 * arguments.width**2 * arguments.layers
    print(f"parameters                        {gradients / 4 / 1e6:8.1f} million, float32, on {device}")
    print(f"all gradients together            {gradients / 1e6:8.1f} MB")
    print(f"peak of training, step at the end {whole / 1e6:8.1f} MB (gradients, momentum, activations)")
    print(f"peak of training, step in hooks   {released / 1e6:8.1f} MB")
    print(f"saved                             {(whole - released) / 1e6:8.1f} MB")
    print("the trained weights are the same")


if __name__ == "__main__":
    main()
