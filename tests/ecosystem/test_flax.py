"""INNA in Flax NNX: the example, its checkpoints and resumption, and a plain loop of Optax."""

from example_programs import load_example, needs

needs("flax")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import orbax.checkpoint  # noqa: E402
from flax import nnx  # noqa: E402


def test_training_in_flax_nnx(tmp_path, capsys):
    """Three epochs, and two after a resumption, end at the weights and the state of a loop by hand."""
    example = load_example("flax_nnx_digits")
    example.main(tmp_path)
    assert "the same weights: True" in capsys.readouterr().out

    x, y = example.digits()
    graph, params = nnx.split(example.Classifier())
    params = nnx.to_pure_dict(params)
    optimizer = example.transformation()
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, x, y):
        def loss(params):
            return optax.softmax_cross_entropy_with_integer_labels(nnx.merge(graph, nnx.State(params))(x), y).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(3):
        for i in range(0, len(x) - example.BATCH + 1, example.BATCH):
            params, state = step(params, state, x[i : i + example.BATCH], y[i : i + example.BATCH])

    for folder in ("whole", "resumed"):
        model = example.Classifier()
        tracked = nnx.Optimizer(model, optimizer, wrt=nnx.Param)
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            saved = checkpointer.restore((tmp_path / folder / "epoch-2").resolve(), nnx.state((model, tracked)))
        nnx.update((model, tracked), saved)
        inertial = tracked.opt_state[1]
        assert inertial.count[...] == inertial.steps[...] == state[1].count
        for ours, theirs in [(nnx.state(model), params), (inertial.momentum, state[1].momentum)]:
            pairs = zip(jax.tree.leaves(nnx.to_pure_dict(nnx.State(ours))), jax.tree.leaves(theirs), strict=True)
            for mine, other in pairs:
                np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)
