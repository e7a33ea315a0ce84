"""Iterates of inna.keras on the recorded cases, saved for tests/test_parity.py: keras_iterates.py FILE.npz STEPS."""

from __future__ import annotations

import sys

import numpy as np

from recorded import INNA_CASES, INNAPROP_CASES, Case, gradient, step_size, theta0


def run(case: Case, steps: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """(theta_k, m_k) for k = 1, 2, ..., ``steps``, in float64."""
    import keras

    from inna.keras import INNA, INNAprop, PowerDecay

    rate = PowerDecay(case.gamma0, case.q)
    theta = keras.Variable(theta0())
    if case.optimizer == "INNAprop":
        optimizer = INNAprop(rate, case.alpha, case.beta, case.sigma, case.eps, case.weight_decay)
        penalty = 0.0
    else:
        optimizer = INNA(rate, case.alpha, case.beta)
        penalty = case.weight_decay / case.beta
    optimizer.build([theta])
    momentum = next(v for v in optimizer.variables if "momentum" in v.name)
    made = {}
    for k in range(steps):
        at = keras.ops.convert_to_numpy(theta)
        assert abs(float(optimizer.learning_rate) - step_size(case, k)) <= 1e-15
        optimizer.apply([keras.ops.convert_to_tensor(gradient(at) + penalty * at)])
        x, m = (np.array(keras.ops.convert_to_numpy(v)) for v in (theta, momentum))
        assert x.dtype == m.dtype == np.float64
        made[k + 1] = x, m
    return made


def main(path: str, most: int) -> None:
    """Save every case's recorded iterates k <= ``most``: "<case>/<k>" -> (theta_k, m_k), shape (2, 6)."""
    import keras

    keras.config.set_floatx("float64")
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    rows = {}
    for case in [*INNA_CASES, *INNAPROP_CASES]:
        recorded = [k for k in case.iterates if k <= most]
        made = run(case, max(recorded))
        rows |= {f"{case}/{k}": np.stack(made[k]) for k in recorded}
    np.savez(path, **rows)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
