"""`ravine.ops`: what Keras's functions of the same names return."""

import numpy as np
import pytest
from checks import DTYPES, assert_same, name_of
from test_keras import keras

from ravine import ops

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")

ONE = ("abs", "negative", "sign", "square", "ones_like", "zeros_like")
TWO = ("add", "divide", "maximum", "minimum", "multiply", "power", "subtract")


def test_all_are_compared_here():
    assert sorted([*ONE, *TWO, "cast", "sqrt", "where"]) == ops.__all__


@pytest.mark.parametrize("name", [*ONE, *TWO, "sqrt"])
def test_same_as_in_keras(name):
    x, y = np.array([0.5, 2.0, 3.25], np.float32), np.array([2.0, 0.25, 1.0], np.float32)
    values = (x, y) if name in TWO else (x if name == "sqrt" else x - 1,)
    assert_same(getattr(ops, name)(*values), np.asarray(getattr(keras.ops, name)(*values)))


def test_where_is_that_of_keras():
    x = np.array([-1.0, 2.0], np.float32)
    assert_same(ops.where(x < 0, x, -x), np.asarray(keras.ops.where(x < 0, x, -x)))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_cast(dtype):
    x = np.array([1 / 3, 2.0])
    assert_same(ops.cast(x, dtype), x.astype(dtype))
    assert_same(ops.cast(x, name_of(dtype)), x.astype(dtype))
    same = x.astype(dtype)
    assert ops.cast(same, dtype) is same
    for number in (1 / 3, 1, True, np.float64(1 / 3), np.float16(0.5)):
        assert_same(np.asarray(ops.cast(number, dtype)), np.array(number).astype(dtype))


def test_number_that_was_cast_promotes_nothing():
    for dtype in DTYPES:
        x = np.ones(2, dtype)
        assert (x * ops.cast(0.1, dtype)).dtype == dtype
    assert ops.cast(1, ml_dtypes.bfloat16).dtype == ml_dtypes.bfloat16
