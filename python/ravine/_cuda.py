"""What needs CuPy: memory, copies and streams of a GPU. Only arrays on a GPU lead here."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from importlib import import_module
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt


def _cupy() -> Any:
    """Return the package, which is imported when the first array on a GPU is met."""
    if (loaded := sys.modules.get("cupy")) is not None:
        return loaded
    try:
        return import_module("cupy")
    except ImportError as error:
        raise ImportError(
            f"Arrays on a GPU need CuPy, which cannot be imported ({error}). Install it: "
            "pip install cupy-cuda13x"
        ) from error


# --- Memory


def zero_bytes(nbytes: int, device: int) -> Any:
    """Make a CuPy array of zero bytes, on CuPy's current stream."""
    cupy = _cupy()
    with cupy.cuda.Device(device):
        return cupy.zeros(nbytes, np.uint8)


def synchronize(device: int) -> None:
    """Wait for all work on a device, on whichever stream."""
    _cupy().cuda.Device(device).synchronize()


def as_cupy(array: Any) -> Any:
    """Return a CuPy array that shares the memory of an array of any library."""
    cupy = _cupy()
    if isinstance(array, cupy.ndarray):
        return array
    has_interface = hasattr(array, "__cuda_array_interface__")
    return cupy.asarray(array) if has_interface else cupy.from_dlpack(array)


def to_host(array: Any) -> npt.NDArray[Any]:
    """Copy an array of any library from a GPU into one of NumPy."""
    array = as_cupy(array)
    with array.device:
        host: npt.NDArray[Any] = array.get(order="A")
    return host


def copy(array: Any) -> Any:
    """Copy an array of any library into one of CuPy, on its device."""
    array = as_cupy(array)
    with array.device:
        return _cupy().array(array, copy=True, order="K")


class _Bytes:
    """The memory of an array without gaps, whatever its type."""

    def __init__(self, address: int, nbytes: int, owner: object) -> None:
        self.__cuda_array_interface__ = {
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }
        self.owner = owner


def keep_values(memory: Sequence[tuple[int, int, object]], device: int) -> Callable[[], None]:
    """Copy arrays on their device.

    Parameters
    ----------
    memory : sequence of (address, number of bytes, owner)
        Of arrays without gaps; none may be empty.
    device : int

    Returns
    -------
    callable
        Writes the copies back. Both wait for all work on the device.
    """
    cupy = _cupy()
    place = cupy.cuda.Device(device)
    with place:
        place.synchronize()
        arrays = [cupy.asarray(_Bytes(*each)) for each in memory]
        copies = [array.copy() for array in arrays]

    def restore() -> None:
        with place:
            place.synchronize()
            for array, copy in zip(arrays, copies, strict=True):
                array[...] = copy
            place.synchronize()

    return restore


def scalar(address: int, device: int) -> Any:
    """Copy a float32 of the device, on CuPy's current stream, into a CuPy array without axes."""
    cupy = _cupy()
    with cupy.cuda.Device(device):
        return cupy.asarray(_Bytes(address, 4, None)).view(np.float32).reshape(()).copy()


# --- Streams


def current_stream(device: int) -> int:
    """Return the handle of the stream that CuPy uses on a device."""
    handle: int = _cupy().cuda.get_current_stream(device).ptr
    return handle


def on_stream(handle: int, device: int | None) -> AbstractContextManager[Any]:
    """Let CuPy use a device and a stream of it inside a ``with`` block; None: the CPU has none."""
    if device is None:
        return nullcontext()
    cupy = _cupy()
    stack = ExitStack()
    stack.enter_context(cupy.cuda.Device(device))
    if current_stream(device) != handle:
        stack.enter_context(_stream(handle, device))
    return stack


class _Handle:
    """A stream by its handle, as one library shows it to another."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


def _stream(handle: int, device: int) -> Any:
    """Return a stream of CuPy that is one of somebody else."""
    cuda = _cupy().cuda
    # CuPy before 14 has only the class that later ones warn of.
    if hasattr(cuda.Stream, "from_external"):
        return cuda.Stream.from_external(_Handle(handle))
    return cuda.ExternalStream(handle, device)


def is_capturing() -> bool:
    """Whether what CuPy's current stream gets goes into a CUDA graph."""
    cupy = sys.modules.get("cupy")
    if cupy is None or not cupy.cuda.is_available():
        return False
    capturing: bool = cupy.cuda.get_current_stream().is_capturing()
    return capturing


def stream_handle(stream: object) -> int:
    """Return the handle of a stream of any library."""
    handle = stream
    if (protocol := getattr(stream, "__cuda_stream__", None)) is not None:
        version, handle = protocol() if callable(protocol) else protocol
        if version != 0:
            raise ValueError(
                f"The stream has version {version} of the protocol __cuda_stream__, and only "
                "version 0 is known. Pass its handle, an int."
            )
    elif hasattr(stream, "ptr"):
        handle = stream.ptr
    if not isinstance(handle, Integral) or isinstance(handle, bool) or handle < 0:
        raise TypeError(
            "stream must be a CUDA stream: the handle, an int of at least 0, or an object with "
            f"__cuda_stream__ or ptr, as CuPy's. Received: {stream!r}."
        )
    return int(handle)


# --- DLPack

_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged
_VERSIONED = b"dltensor_versioned"
_READ_ONLY = 1
_FLAGS_OFFSET = 8 + 2 * ctypes.sizeof(ctypes.c_void_p)  # in DLManagedTensorVersioned
_capsule_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(
    ("PyCapsule_GetName", ctypes.pythonapi)
)
_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class ReadOnlyError(ValueError):
    """An array is going to be written, and does not say that it may be."""


def is_dlpack(array: object) -> bool:
    """Whether an array is on a GPU and offers itself through DLPack."""
    if not hasattr(array, "__dlpack__") or not hasattr(array, "__dlpack_device__"):
        return False
    return array.__dlpack_device__()[0] in _CUDA


def from_dlpack(array: object, *, writable: bool = False) -> Any:
    """Return a CuPy array that shares the memory of an array of another library.

    Parameters
    ----------
    array : object
        With ``__dlpack__`` and ``__dlpack_device__``, on a GPU. What its library has yet to do
        with it comes before what CuPy's current stream gets from now on.
    writable : bool, default False
        Whether it is going to be written.

    Raises
    ------
    TypeError
        If it is not on a GPU.
    ReadOnlyError
        If it is going to be written and does not say that it may be.
    """
    if not is_dlpack(array):
        raise TypeError(
            "An array given through DLPack must be on a GPU. Received: "
            f"{type(array).__name__}. Pass a CuPy array."
        )
    return _cupy().from_dlpack(_Writable(array) if writable else array)


class _Writable:
    """Passes on an array, and refuses one that is read-only, which CuPy does not look at."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()

    def __dlpack__(self, **arguments: Any) -> Any:
        capsule = self._array.__dlpack__(**arguments)
        if not _says_writable(capsule):
            raise ReadOnlyError("The array is read-only. Pass a writable array.")
        return capsule


def _says_writable(capsule: object) -> bool:
    # Without a version there is no flag. The libraries left there have arrays that never change.
    if _capsule_name(capsule) != _VERSIONED:
        return False
    address = _capsule_pointer(capsule, _VERSIONED) + _FLAGS_OFFSET
    return not ctypes.c_uint64.from_address(address).value & _READ_ONLY
