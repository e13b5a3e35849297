"""Arrays: their identity, and memory for the state that goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_ALIGNMENT = 64
# Streams that a step walks side by side collide in the cache when their addresses are nearly equal
# modulo a large power of two, as those of NumPy's own large arrays are.
_PERIOD = 1 << 20
_DISTANCE = 1 << 16
_LARGE = 1 << 19


def memory_key(array: Array) -> tuple[object, ...]:
    """Identity of a variable: the memory that it shows, not the object that shows it."""
    if not isinstance(array, np.ndarray):
        return (id(array),)
    return (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)


def arithmetic_dtype(array: Array) -> np.dtype[Any]:
    """Type in which a variable is updated, and of its slots."""
    return np.dtype(np.float64 if array.dtype == np.float64 else np.float32)


def _memory_order(array: Array) -> list[int]:
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def _too_near(address: int, other: int) -> bool:
    distance = (address - other) % _PERIOD
    return min(distance, _PERIOD - distance) < _DISTANCE


def _place(cursor: int, nbytes: int, neighbours: Sequence[int]) -> int:
    """First address from `cursor` on that keeps a large array clear of those it is walked with."""
    address = -(-cursor // _ALIGNMENT) * _ALIGNMENT
    if nbytes < _LARGE:
        return address
    while near := [other for other in neighbours if _too_near(address, other)]:
        address += max((other + _DISTANCE - address) % _PERIOD for other in near)
        address = -(-address // _ALIGNMENT) * _ALIGNMENT
    return address


def zeros_like_each(variables: Sequence[Array], count: int) -> list[list[Array]]:
    """Make `count` arrays of zeros beside each variable.

    Parameters
    ----------
    variables : sequence of arrays
        Of any floating type, shape and strides.
    count : int
        How many arrays each variable needs.

    Returns
    -------
    list of lists
        ``result[k][i]`` is array `k` of variable `i`: of its shape, of its arithmetic type, and
        laid out in memory in the order of the variable's own elements, without gaps. All lie in
        one block, so that the system can back them with large pages.
    """
    sizes = [variable.size * arithmetic_dtype(variable).itemsize for variable in variables]
    slack = [_ALIGNMENT + (_PERIOD if size >= _LARGE else 0) for size in sizes]
    # Reserved and never touched, the slack costs no memory.
    block = np.zeros(
        count * sum(size + extra for size, extra in zip(sizes, slack, strict=True)), np.uint8
    )
    start = cursor = block.ctypes.data
    result: list[list[Array]] = [[] for _ in range(count)]
    for variable, nbytes in zip(variables, sizes, strict=True):
        neighbours = [variable.ctypes.data]
        order = _memory_order(variable)
        for arrays in result:
            cursor = _place(cursor, nbytes, neighbours)
            neighbours.append(cursor)
            flat = block[cursor - start : cursor - start + nbytes].view(arithmetic_dtype(variable))
            shape = [variable.shape[axis] for axis in order]
            arrays.append(flat.reshape(shape).transpose(np.argsort(order)))
            cursor += nbytes
    return result
