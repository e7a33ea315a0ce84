"""INNA: an inertial Newton algorithm for deep learning.

``from inna.torch import INNA`` is the place to start.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for True; importing it from typing would be most of this import's time
if TYPE_CHECKING:
    from inna.torch import INNA as INNA
    from inna.torch import INNAprop as INNAprop

__version__ = "0.1.0"
__all__ = ["INNA", "INNAprop", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("INNA", "INNAprop"):
        import inna.torch

        return getattr(inna.torch, name)
    raise AttributeError(f"module 'inna' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
