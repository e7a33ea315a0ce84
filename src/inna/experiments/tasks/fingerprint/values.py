"""Plain values, arrays and tensors as bytes that are the same in every process."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

__all__ = ["ATOMS", "array_bytes", "atom_bytes", "tensor_parts"]

ATOMS = (type(None), bool, int, float, complex, str, bytes, bytearray, type(...), type(NotImplemented))


def atom_bytes(value: Any) -> bytes:
    """Return the bytes of a value of one of the types `ATOMS`.

    Other values or types give other bytes.

    >>> atom_bytes(1), atom_bytes(True), atom_bytes("1")
    (b'int:1', b'bool:1', b'str:1')
    """
    if isinstance(value, str):
        content = value.encode("utf-8", "surrogatepass")
    elif isinstance(value, (bytes, bytearray)):
        content = bytes(value)
    elif isinstance(value, float):
        content = _float_bytes(value)
    elif isinstance(value, complex):
        content = _float_bytes(value.real) + _float_bytes(value.imag)
    elif isinstance(value, int):
        content = b"%x" % int(value)
    else:
        content = b""
    return type(value).__name__.encode() + b":" + content


def _float_bytes(value: float) -> bytes:
    return b"nan" if value != value else struct.pack("<d", value)


def array_bytes(array: np.ndarray[Any, Any]) -> bytes | memoryview | None:
    """Return the entries of ``array`` in C order as bytes.

    None if they must be taken one by one.

    Objects and strings of any length are addresses, and records and long doubles have bytes without a meaning.
    """
    kind = array.dtype.kind
    padded = kind in "fc" and array.dtype.itemsize > 8 * (1 + (kind == "c"))
    if array.dtype.hasobject or kind in "VT" or padded:
        return None
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    return little.reshape(-1).view(np.uint8).data


def tensor_parts(tensor: Tensor) -> Iterator[tuple[str, Any]]:
    """Yield what decides the value of a tensor, as names and values.

    Values are atoms, arrays or other tensors.

    Raises:
        RuntimeError, TypeError, NotImplementedError: its entries cannot be read.
    """
    if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
        yield "dtype", str(tensor.dtype)
        return
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is not None:
        inner, context = flatten()
        yield "context", context
        yield from ((name, getattr(tensor, name)) for name in inner)
        return
    plain = tensor.detach()
    if type(plain) is not Tensor:
        plain = plain.as_subclass(Tensor)
    yield "facts", (str(plain.dtype), tuple(plain.shape), str(plain.layout), tensor.requires_grad)
    if plain.is_meta:
        yield "meta", True
    elif plain.layout is torch.strided:
        if plain.is_quantized:
            yield "scheme", str(plain.qscheme())
            yield "entries", plain.int_repr()
            yield "values", plain.dequantize()
        else:
            whole = plain.resolve_conj().resolve_neg().cpu().contiguous()
            yield "entries", whole.flatten().view(torch.uint8).numpy()
    elif plain.layout is torch.sparse_coo:
        whole = plain.coalesce()
        yield from (("indices", whole.indices()), ("values", whole.values()))
    elif plain.layout in (torch.sparse_csr, torch.sparse_bsr):
        yield from (("rows", plain.crow_indices()), ("columns", plain.col_indices()), ("values", plain.values()))
    elif plain.layout in (torch.sparse_csc, torch.sparse_bsc):
        yield from (("columns", plain.ccol_indices()), ("rows", plain.row_indices()), ("values", plain.values()))
    else:
        raise TypeError(f"the layout {plain.layout}")
