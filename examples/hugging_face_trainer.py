"""INNAprop in Hugging Face's Trainer: a tiny BERT trained from scratch, saved every epoch and resumed.

    pip install transformers accelerate
    python examples/hugging_face_trainer.py

The Trainer creates the optimizer from `optimizer_cls_and_kwargs`. It groups the parameters, applies its `weight_decay`
to the right ones, and scales `lr` by its schedule. Nothing is downloaded.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from inna.torch import INNAprop

SETTINGS = {"lr": 0.01, "alpha": 0.1, "beta": 0.9}


class WhichIsMoreFrequent(torch.utils.data.Dataset):
    """Sequences of seven tokens, 0 or 1; the label is the one that occurs more often."""

    def __init__(self, size: int = 160) -> None:
        self.tokens = torch.randint(2, (size, 7), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[i], "labels": (self.tokens[i].sum() > 3).long()}


def tiny_bert() -> BertForSequenceClassification:
    set_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(BertConfig(vocab_size=2, max_position_embeddings=8, **sizes, **no_dropout))


def make_trainer(folder: Path) -> Trainer:
    """Make a Trainer of a new model: three epochs of ten steps, a checkpoint per epoch in ``folder``."""
    arguments = TrainingArguments(
        str(folder),
        num_train_epochs=3,
        per_device_train_batch_size=16,
        train_sampling_strategy="sequential",
        weight_decay=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=5,
        save_strategy="epoch",
        logging_strategy="epoch",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    return Trainer(
        tiny_bert(), arguments, train_dataset=WhichIsMoreFrequent(), optimizer_cls_and_kwargs=(INNAprop, SETTINGS)
    )


def main(folder: Path) -> None:
    whole = make_trainer(folder / "whole")
    whole.train()
    resumed = make_trainer(folder / "resumed")
    resumed.train(resume_from_checkpoint=str(folder / "whole" / "checkpoint-10"))
    pairs = zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    same = all(torch.equal(*pair) for pair in pairs)
    data = WhichIsMoreFrequent()
    with torch.no_grad():
        guesses = whole.model(data.tokens).logits.argmax(1)
    accuracy = (guesses == (data.tokens.sum(1) > 3)).float().mean().item()
    print(f"training accuracy {accuracy:.2f}; resumed after one epoch, the same weights: {same}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
