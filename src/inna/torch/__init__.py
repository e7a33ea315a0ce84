"""INNA and INNAprop as ``torch.optim`` optimizers."""

from inna.torch.inna import INNA, inna
from inna.torch.innaprop import INNAprop, innaprop
from inna.torch.optimizer import param_groups

__all__ = ["INNA", "INNAprop", "inna", "innaprop", "param_groups"]
