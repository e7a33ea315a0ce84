"""Trees of parameters, gradients and state.

Their leaves in one order, and sums over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
    "Mask",
    "at_least_single",
    "bits",
    "broadcast",
    "check_bits",
    "check_params",
    "leaves_like",
    "product",
    "size",
    "sums",
    "unzip",
]

# A tree of bools like the parameters or a prefix of it, or a function from the parameters to one.
Mask = Any


def check_params(name: str, params: Any) -> None:
    """Check that all leaves are floating or complex numbers or arrays.

    Args:
        name: the name of the transformation, for the message.
        params: the parameters.

    Raises:
        TypeError: one is not; the message names it.
    """
    for path, param in jax.tree.leaves_with_path(params):
        dtype = jnp.result_type(param)
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(f"{name} moves floating or complex parameters, got {dtype} at params{_keys(path)}")


def check_bits(name: str, params: Any) -> None:
    """Check that steps of a small first distance are not lost in rounding.

    Raises:
        ValueError: a parameter has fewer than 32 bits; the message names the transformation ``name``.
    """
    for path, param in jax.tree.leaves_with_path(params):
        if bits(param) < 32:
            raise ValueError(
                f"{name} needs parameters of at least 32 bits, got {jnp.result_type(param)} at "
                f"params{jax.tree_util.keystr(path)}: the first steps would be lost in rounding. Keep the parameters "
                "in float32 and cast them in the loss"
            )


def broadcast(mask: Mask | None, params: Any) -> Any:
    """The mask as a tree like the parameters; None is True everywhere."""
    mask = True if mask is None else mask(params) if callable(mask) else mask
    return jax.tree.map(lambda decays, below: jax.tree.map(lambda _: decays, below), mask, params)


def leaves_like(what: str, values: Any, like: Any) -> list[Any]:
    """Return the leaves of ``values`` in the order of those of ``like``.

    Raises:
        ValueError: a leaf is missing, superfluous, or neither a number nor of the shape of that in ``like``. The
            message names it. None and ``optax.MaskedNode`` have no leaves.
    """
    tree: Any = jax.tree.structure(like)
    if jax.tree.structure(values) != tree:
        ours, theirs = (dict(jax.tree.leaves_with_path(x)) for x in (like, values))
        for path in ours:
            if path not in theirs:
                raise ValueError(
                    f"{what}{_keys(path)} must be an array, got none (None, a masked node or a missing key). "
                    "Pass zeros, or exclude the parameter with optax.masked or optax.multi_transform"
                )
        for path in theirs:
            if path not in ours:
                raise ValueError(f"{what}{_keys(path)} belongs to no parameter of the state")
    leaves: list[Any] = tree.flatten_up_to(values)
    for i, (leaf, one) in enumerate(zip(leaves, jax.tree.leaves(like), strict=True)):
        if jnp.shape(leaf) not in ((), jnp.shape(one)):
            path = jax.tree.leaves_with_path(like)[i][0]
            raise ValueError(
                f"{what}{_keys(path)} must have the shape {jnp.shape(one)} of its parameter, got {jnp.shape(leaf)}"
            )
    return leaves


def unzip(like: Any, rows: list[tuple[Any, ...]]) -> list[Any]:
    """Make three trees like ``like`` of the columns of ``rows``.

    There is a row per leaf.
    """
    tree: Any = jax.tree.structure(like)
    return [tree.unflatten([row[i] for row in rows]) for i in range(3)]


def at_least_single(x: Any) -> Any:
    """The dtype of ``x``, or float32 if that has fewer bits."""
    return jnp.promote_types(jnp.result_type(x), jnp.float32)


def bits(x: Any) -> int:
    """The number of bits of a real number, or of each part of a complex one."""
    return 8 * jnp.zeros([], jnp.result_type(x)).real.dtype.itemsize


def sums(
    terms: Sequence[Any],  # real arrays of one shape
    dtype: Any,
) -> list[jax.Array]:
    """Sum each of ``terms`` in ``dtype``, all in one pass over memory.

    Of a reduction with one operand, XLA on the CPU would write the terms to memory first. The last axis is summed
    number by number, which is accurate enough for all but very long ones.
    """
    terms = [jnp.asarray(term).astype(dtype) for term in terms]
    shape = jnp.shape(terms[0])
    if not shape or (len(shape) == 1 and shape[0] > 2**16):
        return [jnp.sum(term) for term in terms]
    # Two operands at least.
    operands = terms if len(terms) > 1 else [*terms, jnp.zeros_like(terms[0])]
    zeros = [jnp.zeros([], dtype) for _ in operands]
    rows = jax.lax.reduce(operands, zeros, _add, (len(shape) - 1,))
    return [jnp.sum(row) for row in rows[: len(terms)]]


def product(
    x: Any,  # any shape
    y: Any,  # as x
) -> Any:
    """The terms of the real inner product of two arrays.

    Real and imaginary parts are two numbers.
    """
    if jnp.iscomplexobj(x) or jnp.iscomplexobj(y):
        return jnp.real(x) * jnp.real(y) + jnp.imag(x) * jnp.imag(y)
    return x * y


def size(x: Any) -> Any:
    """|x|, in which real and imaginary parts are two numbers."""
    return jnp.abs(jnp.real(x)) + jnp.abs(jnp.imag(x)) if jnp.iscomplexobj(x) else jnp.abs(x)


def _add(x: Sequence[jax.Array], y: Sequence[jax.Array]) -> list[jax.Array]:
    return [a + b for a, b in zip(x, y, strict=True)]


def _keys(path: Any) -> str:
    return jax.tree_util.keystr(path)
