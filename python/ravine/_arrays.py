"""Arrays, of NumPy or on a GPU: their identity, and memory for the state that goes with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import mul
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ravine import _cuda, _file_memory
from ravine._cuda import from_dlpack as from_dlpack  # for the extension


class CudaArray(Protocol):
    """An array on a GPU: CuPy's, and those of most other libraries."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


class DLPackArray(Protocol):
    """An array that only DLPack leads to."""

    def __dlpack__(self, *, stream: Any = ...) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, int]: ...


Array: TypeAlias = npt.NDArray[Any]
AnyArray: TypeAlias = Array | CudaArray | DLPackArray

_ALIGNMENT = 64
_CUDA_ALIGNMENT = 512
# Streams that a step walks side by side collide in the cache when their addresses are nearly equal
# modulo a large power of two, as those of NumPy's own large arrays are.
_PERIOD = 1 << 20
_DISTANCE = 1 << 16
_LARGE = 1 << 19


class Layout(NamedTuple):
    """Where and how an array lies in memory; ``typestr`` is that of its interface."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    typestr: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes of the elements."""
        return self.size * int(self.typestr[2:])


def on_gpu(array: object) -> bool:
    """Whether an array says that it is on a GPU; some say so only through DLPack."""
    return not isinstance(array, np.ndarray) and hasattr(array, "__cuda_array_interface__")


def in_file(array: object) -> bool:
    """Whether an array, and so the state beside it, is kept in a file."""
    return _file_memory.folder(array) is not None


def layout(array: Any) -> Layout:
    """Return the layout of an array of NumPy or on a GPU."""
    if isinstance(array, np.ndarray):
        address = array.__array_interface__["data"][0]
        return Layout(address, array.shape, array.strides, array.dtype.str)
    interface = array.__cuda_array_interface__
    shape, typestr = tuple(interface["shape"]), interface["typestr"]
    strides = interface.get("strides")
    if strides is None:
        steps = [*accumulate(reversed(shape[1:]), mul, initial=int(typestr[2:]))]
        strides = reversed(steps[: len(shape)])
    return Layout(interface["data"][0], shape, tuple(strides), typestr)


def memory_key(array: object) -> tuple[object, ...]:
    """Identity of a variable: the memory that it shows, not the object that shows it."""
    if isinstance(array, np.ndarray):
        return layout(array)
    if on_gpu(array) and (found := layout(array)).size:
        return found
    return (id(array),)  # an empty array on a GPU has no memory


def shape_and_type(array: object) -> tuple[object, ...]:
    """Shape and type of an array, wherever it is; empty if it is none."""
    if not isinstance(array, np.ndarray) and not on_gpu(array):
        return ()
    found = layout(array)
    return found.shape, found.typestr


def describe(array: object) -> str:
    """Say what an array is, for a message."""
    if not isinstance(array, np.ndarray) and not on_gpu(array):
        return type(array).__name__
    found = layout(array)
    return f"array of shape {found.shape} and dtype {getattr(array, 'dtype', found.typestr)}"


def bindable(array: Any) -> Any:
    """Return what can be bound as a variable: an array that only has DLPack as one of CuPy's."""
    if isinstance(array, np.ndarray) or on_gpu(array) or not _cuda.is_dlpack(array):
        return array
    return from_dlpack(array, writable=True)


def _arithmetic_dtype(typestr: str) -> np.dtype[Any]:
    """Type in which a variable is updated, and of its slots."""
    return np.dtype(np.float64 if typestr == np.dtype(np.float64).str else np.float32)


def _memory_order(strides: Sequence[int]) -> list[int]:
    return sorted(range(len(strides)), key=lambda axis: -abs(strides[axis]))


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=lambda axis: order[axis])


def _aligned(address: int, alignment: int) -> int:
    return -(-address // alignment) * alignment


def _too_near(address: int, other: int) -> bool:
    distance = (address - other) % _PERIOD
    return min(distance, _PERIOD - distance) < _DISTANCE


def _place(cursor: int, nbytes: int, neighbours: Sequence[int]) -> int:
    """First address from `cursor` on that keeps a large array clear of those it is walked with."""
    address = _aligned(cursor, _ALIGNMENT)
    if nbytes < _LARGE:
        return address
    while near := [other for other in neighbours if _too_near(address, other)]:
        address += max((other + _DISTANCE - address) % _PERIOD for other in near)
        address = _aligned(address, _ALIGNMENT)
    return address


def zeros_like_each(
    variables: Sequence[Any], count: int, device: int | None = None
) -> list[list[Array]]:
    """Make `count` arrays of zeros beside each variable.

    Parameters
    ----------
    variables : sequence of arrays
        Of any floating type, shape and strides.
    count : int
        How many arrays each variable needs.
    device : int, optional
        The GPU that the variables are on; none: they are NumPy arrays.

    Returns
    -------
    list of lists
        ``result[k][i]`` is array `k` of variable `i`: of its shape, of its arithmetic type, and
        laid out in memory in the order of the variable's own elements, without gaps; of NumPy or
        CuPy. All lie in one block, so that the system can back them with large pages; those of
        variables in files in one file for each folder, beside them.
    """
    result: list[list[Array]] = [[] for _ in range(count)]
    if count == 0:
        return result
    layouts = [layout(variable) for variable in variables]
    dtypes = [_arithmetic_dtype(each.typestr) for each in layouts]
    sizes = [each.size * dtype.itemsize for each, dtype in zip(layouts, dtypes, strict=True)]
    folders = [_file_memory.folder(variable) for variable in variables]
    blocks = _zero_blocks([*zip(folders, sizes, strict=True)], count, device)
    for folder, variable, dtype, nbytes in zip(folders, layouts, dtypes, sizes, strict=True):
        block = blocks[folder]
        neighbours = [variable.address]
        order = _memory_order(variable.strides)
        shape = [variable.shape[axis] for axis in order]
        for arrays in result:
            if device is None:
                address = _place(block.cursor, nbytes, neighbours)
                neighbours.append(address)
            else:
                address = _aligned(block.cursor, _CUDA_ALIGNMENT)
            flat = block.cut(address, nbytes).view(dtype)
            arrays.append(flat.reshape(shape).transpose(_inverse(order)))
    return result


class _Block:
    """Zeros in one piece, that arrays are cut from one after another."""

    def __init__(self, memory: Any, address: int) -> None:
        self._memory, self._start = memory, address
        self.cursor = address

    def cut(self, address: int, nbytes: int) -> Any:
        """Return bytes from an address on, at the cursor or behind it."""
        begin = address - self._start
        self.cursor = address + nbytes
        return self._memory[begin : begin + nbytes]


def _zero_blocks(
    sizes: Sequence[tuple[str | None, int]], count: int, device: int | None
) -> dict[str | None, _Block]:
    """Make a block for each folder, None for memory, with room for `count` arrays of each size."""
    if device is not None:
        nbytes = sum(size + _CUDA_ALIGNMENT for _, size in sizes)
        block: Any = _cuda.zero_bytes(count * nbytes, device)
        return {None: _Block(block, block.data.ptr)}
    needed: dict[str | None, int] = {}
    for folder, size in sizes:
        # Reserved and never touched, the slack costs no memory.
        slack = _ALIGNMENT + (_PERIOD if size >= _LARGE else 0)
        needed[folder] = needed.get(folder, 0) + count * (size + slack)
    blocks = {folder: _zero_bytes(nbytes, folder) for folder, nbytes in needed.items()}
    return {folder: _Block(block, block.ctypes.data) for folder, block in blocks.items()}


def _zero_bytes(nbytes: int, folder: str | None) -> Array:
    if folder is None:
        return np.zeros(nbytes, np.uint8)
    return _file_memory.zero_bytes(nbytes, folder)


def widest_dtype(variables: Sequence[Any]) -> np.dtype[Any]:
    """Return float64 if that is the arithmetic type of a variable, otherwise float32."""
    found = {_arithmetic_dtype(layout(variable).typestr) for variable in variables}
    return max(found, key=lambda dtype: dtype.itemsize, default=np.dtype(np.float32))


def is_numeric(dtype: np.dtype[Any]) -> bool:
    """Whether values of this type are booleans, integers or floats."""
    return dtype.kind in "biuf" or dtype.name == "bfloat16"


def zeros(shape: Any, dtype: np.dtype[Any], device: int | None) -> Any:
    """Make an array of zeros, of NumPy, or of CuPy on a GPU."""
    host = np.zeros(shape, dtype)
    if device is None:
        return host
    return _cuda.zero_bytes(host.nbytes, device).view(dtype).reshape(host.shape)


def device_scalar(address: Callable[[int], int], device: int) -> Any:
    """Return a float32 of a GPU's memory as a CuPy array without axes: its value now.

    `address` is called with CuPy's current stream, on which it is going to be read.
    """
    return _cuda.scalar(address(_cuda.current_stream(device)), device)


# --- Values of arrays, to and from the host


def to_host(value: object) -> Array:
    """Return an array as one of NumPy, copied if it is on a GPU."""
    return _cuda.to_host(value) if on_gpu(value) or _cuda.is_dlpack(value) else np.asarray(value)


def viewed(array: Any) -> Any:
    """Return an array of NumPy or, for one of any library on a GPU, of CuPy."""
    return array if isinstance(array, np.ndarray) else _cuda.as_cupy(array)


def copy_to_host(value: object) -> Array:
    """Copy an array into one of NumPy that shares no memory with it."""
    host = to_host(value)
    return host.copy() if isinstance(value, np.ndarray) else host


def copy(array: Any) -> Any:
    """Copy an array of NumPy, or without gaps on a GPU, in its order in memory."""
    return _cuda.copy(array) if on_gpu(array) else np.array(array, order="K")


def empty_beside(arrays: Sequence[Any]) -> list[Array]:
    """Make an array of NumPy for each, of its shape and type: in a file where it is in one."""
    rooms = zip(arrays, _rooms_in_files(arrays), strict=True)
    return [np.empty(a.shape, a.dtype) if room is None else room for a, room in rooms]


def copies_beside(arrays: Sequence[Any]) -> list[Array]:
    """Copy arrays into arrays of NumPy: of one in a file into a file, beside it."""
    rooms = zip(arrays, _rooms_in_files(arrays), strict=True)
    return [copy_to_host(a) if room is None else _filled(room, a) for a, room in rooms]


def copy_beside(array: Any) -> Any:
    """Copy an array into one where it is: in memory, on a GPU, or in a file."""
    (room,) = _rooms_in_files([array])
    return array.copy() if room is None else _filled(room, array)


def _rooms_in_files(arrays: Sequence[Any]) -> list[Array | None]:
    """Make an array in C order for each of those in files, in their folder."""
    folders = [_file_memory.folder(array) for array in arrays]
    sizes = [(f, array.nbytes) for f, array in zip(folders, arrays, strict=True) if f is not None]
    blocks = _zero_blocks(sizes, 1, None)
    result: list[Array | None] = []
    for folder, array in zip(folders, arrays, strict=True):
        if folder is None:
            result.append(None)
            continue
        block = blocks[folder]
        flat = block.cut(_aligned(block.cursor, _ALIGNMENT), array.nbytes)
        result.append(flat.view(array.dtype).reshape(array.shape))
    return result


def _filled(room: Array, array: Array) -> Array:
    room[...] = array
    return room


def write(array: Any, value: Array) -> None:
    """Write an array of NumPy into one of the same shape and type, without gaps if on a GPU."""
    if isinstance(array, np.ndarray):
        array[...] = value
    else:
        array = _cuda.as_cupy(array)
        order = _memory_order(array.strides)
        array.transpose(order).set(value.transpose(order))


def initialize(array: Any, initializer: Any) -> None:
    """Fill an array of zeros with "zeros", "ones", a number or the values of an array."""
    if isinstance(initializer, str):
        if initializer not in ("zeros", "ones"):
            raise ValueError(
                'initializer must be "zeros", "ones", a number or an array. '
                f"Received: {initializer!r}."
            )
        initializer = 0 if initializer == "zeros" else 1
    value = to_host(initializer)
    shape, dtype = tuple(array.shape), array.dtype
    if not is_numeric(value.dtype):
        raise ValueError(
            f'initializer must be "zeros", "ones", a number or an array. Received: {initializer!r}.'
        )
    if value.shape not in ((), shape):
        raise ValueError(
            f"initializer must be a number, or have the shape {shape} of what it initializes. "
            f"Received: shape {value.shape}."
        )
    if value.any():
        write(array, np.broadcast_to(value.astype(dtype), shape).copy())


def keep_values(arrays: Sequence[Any], device: int | None) -> Callable[[], None]:
    """Copy arrays, of NumPy or without gaps on one GPU; return what writes the copies back."""
    if device is not None:
        layouts = [(layout(array), array) for array in arrays]
        memory = [(each.address, each.nbytes, array) for each, array in layouts if each.size]
        return _cuda.keep_values(memory, device)
    copies = copies_beside(arrays)

    def restore() -> None:
        for array, copy in zip(arrays, copies, strict=True):
            was_writable = array.flags.writeable  # who evaluates may have frozen it
            array.flags.writeable = True
            array[...] = copy
            array.flags.writeable = was_writable

    return restore
