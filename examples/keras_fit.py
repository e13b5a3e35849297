"""Train a convolutional network of Keras on handwritten digits, with ravine's step inside `fit`.

Needs ``pip install "ravine[keras,demo]"`` and PyTorch.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from sklearn.datasets import load_digits

import ravine.keras


def network():
    """Make a network with batch normalization, always the same."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def train(optimizer, epochs):
    """Train with an optimizer; return the model and its accuracy on digits it has not seen."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
    model = network()
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x[:1400], y[:1400], batch_size=64, epochs=epochs, shuffle=False, verbose=0)
    _, accuracy = model.evaluate(x[1400:], y[1400:], verbose=0)
    return model, accuracy


def main(arguments=None):
    """Train with Keras's optimizer and with ours; return the accuracy of both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5, metavar="N", help="default: %(default)s")
    epochs = parser.parse_args(arguments).epochs
    options = {"learning_rate": 0.01, "global_clipnorm": 1.0, "use_ema": True, "ema_momentum": 0.9}
    result = {}
    for library, name in ((keras.optimizers, "Keras"), (ravine.keras, "ravine")):
        _, result[name] = train(library.Nadam(**options), epochs)
        print(f"Nadam of {name:<6}  accuracy {result[name]:.4f}")
    return result


if __name__ == "__main__":
    main()
