"""INNA and INNAprop as ``torch.optim`` optimizers."""

from inna.torch.find_lr import LearningRateSearch, find_lr
from inna.torch.inna import INNA, inna
from inna.torch.innaprop import INNAprop, INNApropLRFree, innaprop
from inna.torch.parameter_groups import param_groups

__all__ = ["INNA", "INNAprop", "INNApropLRFree", "LearningRateSearch", "find_lr", "inna", "innaprop", "param_groups"]
