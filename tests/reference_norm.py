"""Norms in plain NumPy, by one fixed tree of additions in double.

Apart from `reference` because it is a definition of its own: the order of the additions is part of
the result, so that no number of threads, and no backend, changes a bit of it.

- A tile is 2,048 consecutive elements, 16 rows of 128 lanes. Each lane adds the squares of its rows
  in order. Lanes then meet in fours, ``(0 + 1) + (2 + 3)``, and the 32 results by halving.
- A tensor adds its tiles through 256 accumulators, the model its tensors in the same way.
- Everything starts from +0, and elements that are missing are +0.
"""

import numpy as np

TILE_ROWS = 16
TILE_LANES = 128
ACCUMULATORS = 256


def elements_in_memory_order(gradient, variable):
    """Return the elements of `gradient` in the order in which those of `variable` lie in memory.

    The layout of the gradient itself has no influence, so a gradient that arrives in another order
    has the same norm. A reversed axis is walked in its own direction, from index 0.

    Parameters
    ----------
    gradient, variable : numpy.ndarray
        Of the same shape.

    Returns
    -------
    numpy.ndarray
        Of one axis.
    """
    # An axis of size 1 has any stride, and may fall anywhere: it orders nothing.
    axes = sorted(range(variable.ndim), key=lambda axis: -abs(variable.strides[axis]))
    return gradient.transpose(axes).ravel()


def halve(values):
    """Add the second half of the last axis to the first until one value is left."""
    while values.shape[-1] > 1:
        half = values.shape[-1] // 2
        values = values[..., :half] + values[..., half:]
    return values[..., 0]


def pad_to_multiple(values, count):
    """Append zeros, which no sum of squares notices."""
    return np.concatenate([values, np.zeros(-values.size % count)])


def sum_of_partial_sums(partial_sums):
    """Add through 256 strided accumulators, each sequential, then halved."""
    rows = pad_to_multiple(np.asarray(partial_sums, np.float64), ACCUMULATORS)
    accumulators = np.zeros(ACCUMULATORS)
    for row in rows.reshape(-1, ACCUMULATORS):
        accumulators = accumulators + row
    return float(halve(accumulators))


def sum_of_squares(elements):
    """Add the squares of a one-dimensional array by the fixed tree.

    Parameters
    ----------
    elements : numpy.ndarray
        Of one axis and any floating type.

    Returns
    -------
    float
    """
    x = pad_to_multiple(elements.astype(np.float64), TILE_ROWS * TILE_LANES)
    squares = (x * x).reshape(-1, TILE_ROWS, TILE_LANES)
    lanes = np.zeros((squares.shape[0], TILE_LANES))
    for row in range(TILE_ROWS):
        lanes = lanes + squares[:, row]
    fours = (lanes[:, 0::4] + lanes[:, 1::4]) + (lanes[:, 2::4] + lanes[:, 3::4])
    return sum_of_partial_sums(halve(fours))


def clip_factor(norm, limit):
    """Return what a gradient is multiplied by: 1 if it is short enough, NaN if its norm is NaN."""
    return 1.0 if norm <= limit else limit / norm
