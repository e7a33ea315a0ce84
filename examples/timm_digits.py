"""INNA registered in timm, on scikit-learn's digits with a small ViT, saved every epoch and resumed.

    pip install timm scikit-learn
    python examples/timm_digits.py

After registration, `create_optimizer_v2` finds INNA by name, groups the parameters and passes alpha and beta on.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import timm
import torch
from sklearn.datasets import load_digits
from timm.models import resume_checkpoint
from timm.optim import OptimInfo, create_optimizer_v2
from timm.optim._optim_factory import default_registry
from timm.scheduler import create_scheduler_v2
from timm.utils import CheckpointSaver

from inna.torch import INNA, INNAprop

for name, optimizer_class, has_eps in [("inna", INNA, False), ("innaprop", INNAprop, True)]:
    default_registry.register(
        OptimInfo(name=name, opt_class=optimizer_class, has_eps=has_eps, has_momentum=False, has_betas=False)
    )


def small_vit() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_vit", img_size=8, patch_size=4, in_chans=1, num_classes=10)


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The digits as images in [0, 1], in batches of 128 in a fixed order."""
    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return list(zip(images.split(128), torch.tensor(y).split(128), strict=True))


def train(folder: Path, resume_from: Path | None = None) -> torch.nn.Module:
    """Train for three epochs, warm-up and cosine; save checkpoint-0, -1 and -2.pth.tar in ``folder``."""
    model = small_vit()
    optimizer = create_optimizer_v2(model, "inna", lr=0.3, weight_decay=1e-4, alpha=0.5, beta=0.5)
    data = batches()
    schedule, epochs = create_scheduler_v2(
        optimizer,
        "cosine",
        num_epochs=3,
        warmup_epochs=1,
        warmup_lr=0.03,
        step_on_epochs=False,
        updates_per_epoch=len(data),
    )
    first = 0 if resume_from is None else resume_checkpoint(model, str(resume_from), optimizer, log_info=False)
    folder.mkdir(parents=True, exist_ok=True)
    saver = CheckpointSaver(model, optimizer, checkpoint_dir=str(folder))
    for epoch in range(first, epochs):
        for i, (x, y) in enumerate(data):
            schedule.step_update(epoch * len(data) + i)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        saver.save_checkpoint(epoch)
    return model


def main(folder: Path) -> None:
    whole = train(folder / "whole")
    resumed = train(folder / "resumed", resume_from=folder / "whole" / "checkpoint-0.pth.tar")
    same = all(torch.equal(*pair) for pair in zip(whole.parameters(), resumed.parameters(), strict=True))
    hits = torch.cat([whole(x).argmax(1) == y for x, y in batches()])
    print(f"training accuracy {hits.float().mean():.2f}; resumed after one epoch, the same weights: {same}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
