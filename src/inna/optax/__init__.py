"""INNA and INNAprop for Optax.

Gradient transformations that apply the learning rate, since gamma enters the state.

    params, state = ...;  updates, state = optimizer.update(grads, state, params);  optax.apply_updates(params, updates)

`inna` and `innaprop` take a learning rate. `inna_lr_free` and `innaprop_lr_free` need none: the first takes the loss of
each batch, ``update(grads, state, params, value=loss)``.
`find_lr` finds a learning rate by short races. The rule is `inna.dynamics.step`.
"""

from inna.learning_rate_race import LearningRateSearch
from inna.optax.distance import DistanceState, innaprop_lr_free
from inna.optax.find_lr import find_lr
from inna.optax.guard import GuardedState
from inna.optax.inertial import InertialState, inna, inna_lr_free, innaprop

__all__ = [
    "DistanceState",
    "GuardedState",
    "InertialState",
    "LearningRateSearch",
    "find_lr",
    "inna",
    "inna_lr_free",
    "innaprop",
    "innaprop_lr_free",
]
