"""Arrays on a GPU, with random elements: sets of variables and gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from gpu_cases import ITEM_BYTES, Shapes, offsets, sample
from timing import LeftOutError

if TYPE_CHECKING:
    from gpu_device import Gpu

PATTERN = 1 << 20  # random elements, repeated to fill arrays
KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "variable": lambda random: random.uniform(0.5, 1.5, PATTERN),
    "gradient": lambda random: random.standard_normal(PATTERN) * 1e-3,
    # To compare results: such that a step changes more than the last bits.
    "sampled variable": lambda random: random.standard_normal(PATTERN) * 1e-3,
    "sampled gradient": lambda random: random.standard_normal(PATTERN),
}


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the type of that name; bfloat16 is that of ml_dtypes."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise LeftOutError("bfloat16 needs ml_dtypes, which is not installed") from error
    return np.dtype(ml_dtypes.bfloat16)


@cache
def pattern(kind: str, dtype: str) -> np.ndarray:
    """Random elements of a kind, seen as integers."""
    values = KINDS[kind](np.random.default_rng(0))
    return values.astype(numpy_dtype(dtype)).view(words(dtype))


def words(dtype: str) -> np.dtype[Any]:
    """Return the integers of the same size, which every function of CuPy knows."""
    return np.dtype({4: np.uint32, 2: np.uint16}[ITEM_BYTES[dtype]])


class ArraySet:
    """Variables and gradients of one set: arrays of their own, which lie in one piece each.

    Parameters
    ----------
    gpu : Gpu
    shapes : list of tuples
    dtype : str
    prefix : str
        Of the kinds of elements.
    """

    def __init__(self, gpu: Gpu, shapes: Shapes, dtype: str, prefix: str = "") -> None:
        begins = offsets(shapes, ITEM_BYTES[dtype])

        def views(flat: Any) -> list[Any]:
            return [
                flat[begin : begin + prod(shape)].reshape(shape)
                for begin, shape in zip(begins, shapes, strict=False)
            ]

        self.flat_variables = gpu.filled(prefix + "variable", dtype, shapes)
        self.flat_gradients = gpu.filled(prefix + "gradient", dtype, shapes)
        self.variables, self.gradients = views(self.flat_variables), views(self.flat_gradients)


def sampled(gpu: Gpu, shapes: Shapes, dtype: str) -> ArraySet:
    """Make a small set on which results are compared."""
    return ArraySet(gpu, sample(shapes), dtype, "sampled ")
