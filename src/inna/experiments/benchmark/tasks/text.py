"""Text: a small GPT that reads the source of Python's own library."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from inna.experiments.tasks.task import Task

__all__ = ["gpt", "library_text"]

# An old module that changes little between versions of Python.
_MODULE = "textwrap"
_BYTES = 128  # the vocabulary is ASCII
_CONTEXT, _WIDTH, _LAYERS, _HEADS = 32, 32, 2, 4
_EVERY = 8  # one sequence of so many is for the test


def gpt() -> Task:
    """Return the prediction of the next byte of Python's own library.

    A pre-norm transformer of two layers of width 32 reads 32 bytes. The text is that of a module of the Python in use
    (`library_text`); rows of a Python with another text have another fingerprint.

    >>> sum(p.numel() for p in gpt().model().parameters())
    34688
    """
    text = library_text()
    count = (len(text) - 1) // _CONTEXT
    inputs = text[: count * _CONTEXT].reshape(count, _CONTEXT)
    targets = text[1 : count * _CONTEXT + 1].reshape(count, _CONTEXT)
    tested = torch.arange(count) % _EVERY == _EVERY - 1
    return Task(
        "gpt", _Gpt, (inputs[~tested], targets[~tested]), (inputs[tested], targets[tested]), _loss, model_name="gpt"
    )


def library_text() -> Tensor:
    """Return the source of the module textwrap as bytes of type int64.

    Letters beyond ASCII become question marks. Under Python 3.11.7 they are 19,718 bytes whose SHA-256 begins with
    62867e40cdea6669.

    Raises:
        ValueError: this Python comes without its sources.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    try:
        source = (folder / f"{_MODULE}.py").read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"the task gpt reads the sources of Python's library in {folder}: {error.strerror}") from error
    return torch.frombuffer(bytearray(source.encode("ascii", "replace")), dtype=torch.uint8).long()


def _loss(logits: Tensor, targets: Tensor) -> Tensor:  # (batch, length, bytes), (batch, length)
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class _Block(nn.Module):
    """Causal attention and a layer of four times the width, each added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_layer = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.heads, self.join = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.layer = nn.Sequential(nn.Linear(_WIDTH, 4 * _WIDTH), nn.GELU(), nn.Linear(4 * _WIDTH, _WIDTH))

    def forward(self, x: Tensor) -> Tensor:  # (batch, length, width)
        heads = self.heads(self.before_attention(x)).unflatten(-1, (3 * _HEADS, _WIDTH // _HEADS)).transpose(1, 2)
        query, key, value = heads.chunk(3, dim=1)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.join(attended.transpose(1, 2).flatten(-2))
        added: Tensor = self.layer(self.before_layer(x))
        return x + added


class _Gpt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.places = nn.Embedding(_BYTES, _WIDTH), nn.Embedding(_CONTEXT, _WIDTH)
        self.blocks = nn.Sequential(*(_Block() for _ in range(_LAYERS)))
        self.norm, self.head = nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, _BYTES, bias=False)
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, text: Tensor) -> Tensor:  # (batch, length) -> (batch, length, bytes)
        embedded = self.bytes(text) + self.places.weight[: text.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(embedded)))
        return logits
