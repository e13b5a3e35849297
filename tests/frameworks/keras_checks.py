"""Keras itself on its torch backend, and what its tests share; without it, they are skipped."""

import os
import warnings

import numpy as np
import pytest
from checks import assert_same

# Before anything imports Keras: other tests want it with another backend.
if os.environ.get("KERAS_BACKEND") != "torch":
    pytest.skip("set KERAS_BACKEND=torch, in a run of its own", allow_module_level=True)
torch = pytest.importorskip("torch", reason="needs PyTorch", exc_type=ImportError)
pytest.importorskip("keras", reason="needs Keras", exc_type=ImportError)

import keras  # noqa: E402
import ml_dtypes  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

import ravine.keras  # noqa: E402

__all__ = ["assert_same", "keras", "ml_dtypes", "ravine", "torch"]

NAMES = ("SGD", "RMSprop", "Adam", "AdamW", "Nadam")
# With the epsilons of Keras, gradients that are nothing but rounding make whole steps.
EPSILON = {"epsilon": 1e-4}
# All rules, each with the slots that it can have.
RULES = {
    "SGD": ("SGD", {"learning_rate": 0.05}),
    "momentum": ("SGD", {"learning_rate": 0.05, "momentum": 0.9}),
    "Nesterov": ("SGD", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}),
    "RMSprop": ("RMSprop", EPSILON),
    "centered RMSprop": ("RMSprop", {"momentum": 0.5, "centered": True, **EPSILON}),
    "Adam": ("Adam", EPSILON),
    "AMSGrad": ("Adam", {"amsgrad": True, **EPSILON}),
    "AdamW": ("AdamW", {"weight_decay": 0.1, **EPSILON}),
    "Nadam": ("Nadam", EPSILON),
}
each_rule = pytest.mark.parametrize("rule", RULES)
each_name = pytest.mark.parametrize("name", NAMES)


def make(library, rule, **options):
    """Make an optimizer, of ours (`ravine.keras`) or of Keras (`keras.optimizers`)."""
    name, arguments = RULES[rule]
    return getattr(library, name)(**{**arguments, **options})


def digits():
    """Return 320 images of handwritten digits, 8 by 8, and what they show."""
    x, y = load_digits(return_X_y=True)
    return (x[:320] / 16).astype("float32").reshape(-1, 8, 8, 1), y[:320]


def network(**options):
    """Make a small convolutional network with batch normalization, always the same.

    Without corners as those of ReLU, where the last bit of an activation decides.
    """
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, use_bias=False, **options),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, dtype="float32"),
        ]
    )


def compiled(optimizer, **options):
    """Make the network and compile it."""
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **options)
    return model


def fit(model, epochs=2, **options):
    """Train on the digits, in their order."""
    x, y = digits()
    with warnings.catch_warnings():
        # Of PyTorch about itself, where it compiles.
        warnings.simplefilter("ignore", DeprecationWarning)
        return model.fit(
            x, y, batch_size=64, epochs=epochs, shuffle=False, verbose=0, **options
        ).history["loss"]


def trained(optimizer, **options):
    """Train the network for two epochs."""
    model = compiled(optimizer)
    fit(model, **options)
    return model


def values(variables):
    """Return the values of variables, copied."""
    return [np.array(v.numpy()) for v in variables]


def assert_near(variables, others, tolerance=1e-6):
    """Compare the values of variables, each with its own."""
    assert len(variables) == len(others)
    for v, other in zip(variables, others, strict=True):
        np.testing.assert_allclose(v.numpy(), other.numpy(), 0, tolerance, err_msg=v.path)


def assert_equal(variables, others):
    """Compare the values of variables, bit for bit."""
    assert len(variables) == len(others)
    for v, other in zip(variables, others, strict=True):
        assert_same(v.numpy(), other if isinstance(other, np.ndarray) else other.numpy(), v.path)


def variable(value, dtype="float32", **options):
    """Make a variable of Keras."""
    return keras.Variable(np.asarray(value, np.float64), dtype=dtype, **options)


def tensor(value, dtype=torch.float32):
    """Make a tensor, such as a gradient."""
    return torch.tensor(value, dtype=dtype)
