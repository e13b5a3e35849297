"""Keras itself on its torch or jax backend, and what its tests share; else they are skipped."""

import contextlib
import importlib
import os
import warnings

import numpy as np
import pytest
from checks import assert_same

# Before anything imports Keras: other tests want it with another backend.
BACKEND = os.environ.get("KERAS_BACKEND")
if BACKEND not in ("torch", "jax"):
    pytest.skip("set KERAS_BACKEND=torch or jax, in a run of its own", allow_module_level=True)
pytest.importorskip(BACKEND, reason=f"needs {BACKEND}", exc_type=ImportError)
pytest.importorskip("keras", reason="needs Keras", exc_type=ImportError)

import keras  # noqa: E402
import ml_dtypes  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

import ravine.keras  # noqa: E402
from ravine import _core  # noqa: E402

if BACKEND == "jax" and not _core.jax_handlers:
    pytest.skip("needs a build with jaxlib's headers", allow_module_level=True)

__all__ = ["assert_same", "keras", "ml_dtypes", "ravine"]

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
# JAX compiles each `fit` anew, which takes longer than all of its steps: there, some stand for all.
FIT_NAMES = NAMES if BACKEND == "torch" else ("RMSprop", "Adam")
each_rule_in_fit = pytest.mark.parametrize(
    "rule", RULES if BACKEND == "torch" else ("Nesterov", "Nadam")
)
each_name_in_fit = pytest.mark.parametrize("name", FIT_NAMES)


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


def tensor(value, dtype="float32"):
    """Make a tensor or an array of JAX, such as a gradient."""
    if BACKEND == "torch":
        torch = importlib.import_module("torch")
        return torch.tensor(value, dtype=getattr(torch, dtype))
    return importlib.import_module("jax.numpy").asarray(value, dtype)


def array(value):
    """Return a tensor or a variable as an array of NumPy, copied."""
    return np.array(keras.ops.convert_to_numpy(value))


@contextlib.contextmanager
def types_of(dtype):
    """Let there be float64, which JAX has only if it is asked for."""
    if BACKEND == "jax" and dtype == "float64":
        with importlib.import_module("jax").enable_x64(True):
            yield
    else:
        yield


def apply_scaled(optimizer, grads, variables):
    """Make a step of Keras's LossScaleOptimizer, whose `apply` needs a program on jax."""
    if BACKEND == "torch":
        return optimizer.apply(grads, variables)
    if not optimizer.built:
        optimizer.build(variables)
    groups = [variables, optimizer.variables]
    weights, state = ([v.value for v in group] for group in groups)
    for group, result in zip(groups, optimizer.stateless_apply(state, grads, weights), strict=True):
        for v, value in zip(group, result, strict=True):
            v.assign(value)
    return None


def refused(optimizer, grads, variables, error, message):
    """Check that a step raises and changes nothing."""
    optimizer.build(variables)
    before = values([*variables, *optimizer.variables])
    with pytest.raises(error) as caught:
        optimizer.apply(grads, variables)
    assert str(caught.value) == message
    assert_equal([*variables, *optimizer.variables], before)
