"""Functions of ``keras.ops`` that update rules are written with, on NumPy and CuPy arrays.

All but `cast` are NumPy's own functions, which hand arrays on a GPU over to CuPy. Operators of the
arrays, ``m * 0.9 - g``, do the same. With ``+ - * / sqrt`` and comparisons, of arrays and numbers
of one type, the bits are the same on the CPU and on a GPU.

Examples
--------
>>> import numpy as np
>>> from ravine import ops
>>> m = np.array([1.0, 2.0], np.float32)
>>> ops.subtract(ops.multiply(m, ops.cast(0.5, m.dtype)), 1)
array([-0.5,  0. ], dtype=float32)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import (
    abs,
    add,
    divide,
    maximum,
    minimum,
    multiply,
    negative,
    ones_like,
    power,
    sign,
    sqrt,
    square,
    subtract,
    where,
    zeros_like,
)

__all__ = [
    "abs",
    "add",
    "cast",
    "divide",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "ones_like",
    "power",
    "sign",
    "sqrt",
    "square",
    "subtract",
    "where",
    "zeros_like",
]


def cast(x: Any, dtype: Any) -> Any:
    """Return an array or a number in another type.

    Parameters
    ----------
    x : array or number
    dtype : dtype, or its name

    Returns
    -------
    array or NumPy scalar
        `x` itself if it is an array of that type. A number becomes a scalar of NumPy, rounded once,
        which goes with arrays of NumPy and of CuPy.

    Examples
    --------
    >>> from ravine import ops
    >>> ops.cast(0.1, "float32").item()
    0.10000000149011612
    """
    if hasattr(x, "astype") and not isinstance(x, np.generic):
        return x.astype(dtype, copy=False)
    return np.dtype(dtype).type(x)
