"""INNA and INNAprop for Keras 3, on JAX, TensorFlow and PyTorch.

And the paper's learning rate schedule.

`INNApropLRFree` needs no learning rate.

    model.compile(optimizer=INNA(PowerDecay(0.1, 0.5), alpha=0.5, beta=0.1), loss=...)

The rule is `inna.dynamics.step`, on Keras tensors. The arguments of every Keras optimizer have Keras's own meaning:
clipping, EMA, ``weight_decay`` (decoupled; see each class) with ``exclude_from_weight_decay``, loss scaling and
gradient accumulation. Under accumulation Keras passes micro-steps to schedules: see `PowerDecay`.
"""

from inna.keras.find_lr import LearningRateSearch, find_lr
from inna.keras.optimizers import INNA, INNAprop, INNApropLRFree, PowerDecay

__all__ = ["INNA", "INNAprop", "INNApropLRFree", "LearningRateSearch", "PowerDecay", "find_lr"]
