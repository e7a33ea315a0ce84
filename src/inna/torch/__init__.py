"""INNA and INNAprop as ``torch.optim`` optimizers."""

from inna.torch.inna import INNA, inna
from inna.torch.innaprop import INNAprop, innaprop
from inna.torch.parameter_groups import param_groups

__all__ = ["INNA", "INNAprop", "inna", "innaprop", "param_groups"]
