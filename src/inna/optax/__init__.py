"""INNA and INNAprop for Optax.

Gradient transformations that apply the learning rate, since gamma enters the state.

    params, state = ...;  updates, state = optimizer.update(grads, state, params);  optax.apply_updates(params, updates)

`inna` and `innaprop` take a learning rate. `inna_lr_free` and `innaprop_lr_free` need none: the first takes the loss of
each batch, ``update(grads, state, params, value=loss)``. The rule is `inna.dynamics.step`.
"""

from inna.optax.distance import DistanceState, innaprop_lr_free
from inna.optax.guard import GuardedState
from inna.optax.inertial import InertialState, inna, inna_lr_free, innaprop

__all__ = [
    "DistanceState",
    "GuardedState",
    "InertialState",
    "inna",
    "inna_lr_free",
    "innaprop",
    "innaprop_lr_free",
]
