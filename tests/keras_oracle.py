"""Keras itself on its NumPy backend, as it comes and in double; without it, tests are skipped."""

import contextlib
import importlib
import os
import sys
from unittest import mock

import numpy as np
import pytest

if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "numpy"
# The NumPy backend of Keras imports jax for a few functions that have nothing to do with us.
keras = pytest.importorskip(
    "keras", reason="needs keras and jax, which its NumPy backend imports", exc_type=ImportError
)
if keras.config.backend() != "numpy":
    pytest.skip(
        f"keras was imported before, with backend {keras.config.backend()!r}: "
        "run with KERAS_BACKEND=numpy",
        allow_module_level=True,
    )


@contextlib.contextmanager
def keras_in_double():
    """Make Keras compute in double on its NumPy backend.

    Type promotion ends in a table that sends 64-bit types to their 32-bit counterparts. Without its
    entry for float64, and with float64 for Python floats and for the rate, nothing is left that
    rounds to float32.
    """
    promotion = importlib.import_module("keras.src.backend.common.dtypes")
    floatx = keras.config.floatx()
    with mock.patch.dict(promotion.BIT64_TO_BIT32_DTYPE, float64="float64"):
        keras.config.set_floatx("float64")
        try:
            assert_is_double()
            yield
        finally:
            keras.config.set_floatx(floatx)


def assert_is_double():
    """Compare Keras with the formulas in Python floats, which a float32 anywhere would miss."""
    (sgd,) = run_keras("SGD", {"learning_rate": 0.1}, [np.array(1 / 3)], [[np.array(1 / 7)]])
    assert float(sgd) == 1 / 3 - 0.1 * (1 / 7)
    w, g, rate, beta_1, beta_2 = 1 / 3, 1 / 7, 0.1, 0.9, 0.999
    (rmsprop,) = run_keras("RMSprop", {"learning_rate": rate}, [np.array(w)], [[np.array(g)]])
    assert abs(rmsprop - (w - rate * g / (0.1 * g * g + 1e-7) ** 0.5)) <= 1e-16
    (nadam,) = run_keras("Nadam", {"learning_rate": rate}, [np.array(w)], [[np.array(g)]])
    mu, next_mu = beta_1 * (1 - 0.5 * 0.96), beta_1 * (1 - 0.5 * 0.96**2)
    m, v = (1 - beta_1) * g, (1 - beta_2) * g * g
    mean = next_mu * m / (1 - mu * next_mu) + (1 - mu) * g / (1 - mu)
    assert abs(nadam - (w - rate * mean / ((v / (1 - beta_2)) ** 0.5 + 1e-7))) <= 1e-16


def run_keras(name, arguments, start, steps, excluded=()):
    """Train variables of the dtype of `start` with Keras; return their values."""
    variables = [keras.Variable(w, dtype=w.dtype.name) for w in start]
    optimizer = getattr(keras.optimizers, name)(**arguments)
    optimizer.exclude_from_weight_decay(var_list=[variables[i] for i in excluded])
    optimizer.build(variables)
    for gradients in steps:
        optimizer.apply(gradients, variables)
    optimizer.finalize_variable_values(variables)
    return [np.array(v.value) for v in variables]
