"""Keras itself on its NumPy backend; tests that import this are skipped where it is missing."""

import os
import sys

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
