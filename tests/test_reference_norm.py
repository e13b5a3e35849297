"""The tree of the norm, checked one addition at a time, and the order of the elements."""

import math

import numpy as np
import pytest
from reference_norm import (
    clip_factor,
    elements_in_memory_order,
    sum_of_partial_sums,
    sum_of_squares,
)

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")


def tree_one_by_one(elements):
    """Sum squares by the tree, in Python floats and one addition at a time."""

    def through_accumulators(values):
        sums = [0.0] * 256
        for i, value in enumerate(values):
            sums[i % 256] += value
        for half in (128, 64, 32, 16, 8, 4, 2, 1):
            for i in range(half):
                sums[i] = sums[i] + sums[i + half]
        return sums[0]

    def tile_sum(tile):
        lanes = [0.0] * 128
        for i, x in enumerate(tile):
            lanes[i % 128] += x * x
        fours = [
            (lanes[4 * i] + lanes[4 * i + 1]) + (lanes[4 * i + 2] + lanes[4 * i + 3])
            for i in range(32)
        ]
        for half in (16, 8, 4, 2, 1):
            for i in range(half):
                fours[i] = fours[i] + fours[i + half]
        return fours[0]

    x = [float(element) for element in elements]
    return through_accumulators([tile_sum(x[i : i + 2048]) for i in range(0, len(x), 2048)])


def uneven(size, seed=0):
    """Return elements of which the sum of squares shows the order of the additions.

    One square is 2^54, where 1 is less than half a unit in the last place: what meets it alone is
    lost, what is added up before is not.
    """
    random = np.random.default_rng(seed)
    x = random.standard_normal(size)
    if size:
        x[random.integers(size)] = 2.0**27
    return x


@pytest.mark.parametrize("size", [0, 1, 3, 127, 129, 2047, 2048, 2049, 9999, 300 * 2048 + 77])
def test_sum_of_squares_equals_additions_one_by_one(size):
    for seed in range(5 if size < 10_000 else 1):
        x = uneven(size, seed)
        assert sum_of_squares(x) == tree_one_by_one(x)


def test_sum_of_squares_depends_on_the_order():
    # Otherwise the test above could not tell one tree from another.
    x = uneven(5000)
    assert len({sum_of_squares(np.roll(x, shift)) for shift in range(100)}) > 1


@pytest.mark.parametrize("size", [1, 2049, 300 * 2048 + 77])
def test_sum_of_squares_is_close_to_the_exact_sum(size):
    x = np.random.default_rng(size).standard_normal(size)
    exact = math.fsum((x * x).tolist())
    # Roundings on the longest way of a square: 16 rows, 2 and 5 levels of lanes, tiles, 8 levels.
    additions = 16 + 2 + 5 + math.ceil(size / 2048 / 256) + 8
    assert abs(sum_of_squares(x) - exact) <= additions * 2.0**-53 * exact


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_sum_of_squares_is_in_double(dtype):
    largest = ml_dtypes.finfo(dtype).max if dtype != np.float64 else dtype(1e150)
    x = np.full(3000, largest, dtype)
    assert sum_of_squares(x) == pytest.approx(3000 * float(largest) ** 2, rel=1e-13)


@pytest.mark.parametrize("seed", range(10))
def test_model_sum_takes_every_256th_tensor(seed):
    sums = uneven(5000, seed) ** 2
    expected = [0.0] * 256
    for i, value in enumerate(sums):
        expected[i % 256] += float(value)
    while len(expected) > 1:
        half = len(expected) // 2
        expected = [expected[i] + expected[i + half] for i in range(half)]
    assert sum_of_partial_sums(sums) == expected[0]


COUNT = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (COUNT, COUNT.ravel()),
        (COUNT.transpose(2, 0, 1), COUNT.ravel()),
        (np.asfortranarray(COUNT), COUNT.ravel(order="F")),
        (COUNT[:, ::2, 1::2], COUNT[:, ::2, 1::2].ravel()),
        (COUNT[::-1].T, COUNT[::-1].ravel()),
        (COUNT[:, :, ::-1], COUNT[:, :, ::-1].ravel()),
        (COUNT[:, :1].transpose(1, 2, 0), COUNT[:, 0].ravel()),
        (COUNT[:0].T, []),
        (np.array(5.0), [5.0]),
    ],
    ids=["c", "transposed", "fortran", "strided", "reversed", "inner", "ones", "empty", "scalar"],
)
def test_elements_come_in_the_order_of_the_variable(variable, expected):
    for gradient in (variable, np.array(variable, order="C"), np.array(variable, order="F")):
        elements = elements_in_memory_order(gradient, variable)
        np.testing.assert_array_equal(elements, expected)


def test_axes_of_size_one_do_not_order_elements():
    # The strides of such axes are arbitrary: here one claims to be the outermost.
    strides = (8, 1 << 40, 24)
    variable = np.lib.stride_tricks.as_strided(np.arange(6.0), (3, 1, 2), strides)
    elements = elements_in_memory_order(variable, variable)
    np.testing.assert_array_equal(elements, np.arange(6.0))


@pytest.mark.parametrize(
    ("norm", "factor"), [(0.0, 1.0), (2.0, 1.0), (8.0, 0.25), (math.inf, 0.0), (math.nan, math.nan)]
)
def test_clip_factor(norm, factor):
    np.testing.assert_array_equal(clip_factor(norm, 2.0), factor)
