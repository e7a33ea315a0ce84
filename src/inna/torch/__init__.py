"""INNA and INNAprop as ``torch.optim`` optimizers."""

from inna.torch.inna import INNA, inna
from inna.torch.innaprop import INNAprop, INNApropLRFree, innaprop
from inna.torch.parameter_groups import param_groups

__all__ = ["INNA", "INNAprop", "INNApropLRFree", "inna", "innaprop", "param_groups"]
