"""INNA in Lightning on scikit-learn's digits with the paper's schedule, saved every epoch and resumed.

    pip install lightning scikit-learn
    python examples/lightning_digits.py

Only `configure_optimizers` is needed. The schedule counts iterations: set "interval" to "step".
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits

from inna.schedules import power_decay
from inna.torch import INNA, param_groups


class Classifier(lightning.LightningModule):
    """A network with one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        x, y = batch
        return torch.nn.functional.cross_entropy(self.network(x), y)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = INNA(param_groups(self, weight_decay=1e-4), lr=0.5, alpha=0.5, beta=0.5)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, power_decay(0.25))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def batches() -> torch.utils.data.DataLoader:
    """The digits as flat tensors in [0, 1], in batches of 128 in a fixed order."""
    x, y = load_digits(return_X_y=True)
    data = torch.utils.data.TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
    return torch.utils.data.DataLoader(data, batch_size=128)


def train(folder: Path, resume_from: Path | None = None) -> Classifier:
    """Train for three epochs; save epoch=0.ckpt, epoch=1.ckpt and epoch=2.ckpt in ``folder``."""
    model = Classifier()
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        gradient_clip_val=5.0,
        callbacks=[ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, batches(), ckpt_path=resume_from)
    return model


def main(folder: Path) -> None:
    whole = train(folder / "whole")
    resumed = train(folder / "resumed", resume_from=folder / "whole" / "epoch=0.ckpt")
    same = all(torch.equal(*pair) for pair in zip(whole.parameters(), resumed.parameters(), strict=True))
    x, y = batches().dataset.tensors
    accuracy = (whole.network(x).argmax(1) == y).float().mean().item()
    print(f"training accuracy {accuracy:.2f}; resumed after one epoch, the same weights: {same}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
