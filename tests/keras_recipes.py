"""Train a Keras model on digits with each recipe of a JSON list, the first argument; print the losses as JSON."""

import json
import sys

EPOCHS, BATCH = 10, 32


def main() -> None:
    import keras

    import inna.dynamics
    import inna.keras
    from inna.experiments.tasks.datasets import digits

    (inputs, labels), _ = digits()
    inputs, labels = inputs.flatten(1).numpy(), labels.numpy()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    names = {name: getattr(inna.keras, name) for name in inna.keras.__all__}
    names |= {"keras": keras, "from_sgd": inna.dynamics.from_sgd, "steps": EPOCHS * -(-len(inputs) // BATCH)}
    losses = {}
    for recipe in json.loads(sys.argv[1]):
        keras.utils.set_random_seed(0)
        hidden, output = keras.layers.Dense(64, "relu"), keras.layers.Dense(10)
        model = keras.Sequential([keras.Input(inputs.shape[1:]), hidden, output])
        model.compile(eval(recipe, dict(names)), loss)
        model.fit(inputs, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
        losses[recipe] = float(loss(labels, model(inputs)))
    json.dump(losses, sys.stdout)


if __name__ == "__main__":
    main()
