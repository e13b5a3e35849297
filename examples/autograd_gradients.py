"""Tell malignant from benign tumours: the gradients by autograd, the update in ravine.

Autograd (https://github.com/HIPS/autograd) differentiates what is written in its NumPy. The data
are scikit-learn's Wisconsin measurements of 569 tumours. Run it with ``pip install autograd`` and
``python examples/autograd_gradients.py``.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from sklearn.datasets import load_breast_cancer
from threadpoolctl import threadpool_limits

import ravine

TEST_SIZE = 114
HIDDEN = 16

Weights = dict[str, np.ndarray]


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return 30 measurements of each tumour, standardized, and 1 where it is benign."""
    measured, benign = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(benign))
    measured, benign = measured[order], benign[order].astype(float)
    known = measured[TEST_SIZE:]
    return (measured - known.mean(axis=0)) / known.std(axis=0), benign


def initial_weights() -> Weights:
    """Draw the weights of a network of one hidden layer."""
    rng = np.random.default_rng(1)
    return {
        "hidden/kernel": rng.normal(scale=30**-0.5, size=(30, HIDDEN)),
        "hidden/bias": np.zeros(HIDDEN),
        "output/kernel": rng.normal(scale=HIDDEN**-0.5, size=HIDDEN),
        "output/bias": np.zeros(()),
    }


def logits(weights: Weights, measured: np.ndarray) -> np.ndarray:
    """Return the logarithm of the odds that each tumour is benign."""
    hidden = anp.tanh(measured @ weights["hidden/kernel"] + weights["hidden/bias"])
    return hidden @ weights["output/kernel"] + weights["output/bias"]


def cross_entropy(weights: Weights, measured: np.ndarray, benign: np.ndarray) -> float:
    """Return the loss that autograd differentiates with respect to the weights."""
    odds = logits(weights, measured)
    return anp.mean(anp.logaddexp(0, odds) - benign * odds)


def accuracy(weights: Weights, measured: np.ndarray, benign: np.ndarray) -> float:
    """Return the share of the tumours that are told right."""
    return float(np.mean((logits(weights, measured) > 0) == benign))


# Matrices this small gain nothing from more threads.
@threadpool_limits.wrap(limits=1, user_api="blas")
def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train, print, and return the last loss and the accuracy."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, metavar="N", help="default: %(default)s")
    options = parser.parse_args(arguments)
    measured, benign = load()
    test = measured[:TEST_SIZE], benign[:TEST_SIZE]
    known = measured[TEST_SIZE:], benign[TEST_SIZE:]

    loss_and_gradients = value_and_grad(lambda weights: cross_entropy(weights, *known))
    weights = initial_weights()
    optimizer = ravine.RMSprop(learning_rate=0.005, momentum=0.9, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(weights)
    loss = float("nan")
    for step in range(1, options.steps + 1):
        # The loss, and a dict of gradients with the keys of the weights.
        loss = float(optimizer.minimize(variables=weights, value_and_grad=loss_and_gradients))
        if step % 50 == 0 or step == options.steps:
            print(f"step {step:3}   loss {loss:.4f}   test accuracy {accuracy(weights, *test):.4f}")
    return {"loss": loss, "accuracy": accuracy(weights, *test)}


if __name__ == "__main__":
    main()
