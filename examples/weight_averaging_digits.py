"""INNA with torch.optim.swa_utils on scikit-learn's digits: weights averaged from epoch 2 on, saved and resumed.

    pip install scikit-learn
    python examples/weight_averaging_digits.py

Only the weights are averaged. The momentum is not affected, and there is no `optimizer.eval()` to remember.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn

from inna.torch import INNA


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Linear(64, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    return torch.nn.Sequential(*layers)


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The digits as flat tensors in [0, 1], in batches of 128 in a fixed order."""
    x, y = load_digits(return_X_y=True)
    return list(zip(torch.tensor(x / 16, dtype=torch.float32).split(128), torch.tensor(y).split(128), strict=True))


def train(folder: Path, resume_from: Path | None = None) -> AveragedModel:
    """Train for three epochs, save a checkpoint per epoch; return the average with updated batch statistics."""
    model = network()
    averaged = AveragedModel(model)
    optimizer = INNA(model.parameters(), lr=0.5, alpha=0.5, beta=0.5)
    schedule = SWALR(optimizer, swa_lr=0.1, anneal_epochs=15)  # "epochs" are calls: 15 iterations here
    parts = {"model": model, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    first = 0
    if resume_from is not None:
        checkpoint = torch.load(resume_from, weights_only=True)
        first = checkpoint.pop("epoch") + 1
        for name, state in checkpoint.items():
            parts[name].load_state_dict(state)
    folder.mkdir(parents=True, exist_ok=True)
    for epoch in range(first, 3):
        for x, y in batches():
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            if epoch >= 1:
                schedule.step()
                averaged.update_parameters(model)
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"epoch": epoch, **states}, folder / f"epoch-{epoch}.pt")
    update_bn(batches(), averaged)
    return averaged


def main(folder: Path) -> None:
    whole = train(folder / "whole")
    resumed = train(folder / "resumed", resume_from=folder / "whole" / "epoch-1.pt")
    same = all(
        torch.equal(*pair) for pair in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    hits = torch.cat([whole.eval()(x).argmax(1) == y for x, y in batches()])
    print(f"training accuracy {hits.float().mean():.2f}; resumed after two epochs, the same weights: {same}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
