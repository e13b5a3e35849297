"""The part of CuPy that the package and its tests use, on an emulated GPU.

What reads or writes elements waits for the current stream first, as CuPy's copies do. Installed as
``sys.modules["cupy"]`` where there is no GPU.
"""

import threading
import warnings
from types import SimpleNamespace

import numpy as np
from fake_memory import Foreign, Memory
from numpy.lib.mixins import NDArrayOperatorsMixin

from ravine._core import emulator

_local = threading.local()
DEVICES = 2


class ndarray(NDArrayOperatorsMixin):  # noqa: N801
    """An array: one of NumPy over memory of an emulated GPU."""

    def __init__(self, host, memory):
        self._host, self._memory = host, memory

    dtype = property(lambda self: self._host.dtype)
    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    ndim = property(lambda self: self._host.ndim)
    itemsize = property(lambda self: self._host.itemsize)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: self.transpose())
    device = property(lambda self: cuda.Device(self._memory.device_id))

    @property
    def data(self):
        address = self._host.ctypes.data if self._memory.nbytes else 0
        return SimpleNamespace(ptr=address, mem=self._memory, device_id=self._memory.device_id)

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "strides": None if self.flags.c_contiguous else self.strides,
            "data": (self.data.ptr if self.size else 0, False),
            "stream": get_current_stream().ptr or 1,
            "version": 3,
        }

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __len__(self):
        return len(self._host)

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        return self._view(self._host[index if Ellipsis in index else (*index, Ellipsis)])

    def __setitem__(self, index, value):
        self._wait()
        self._host[index] = value._wait() if isinstance(value, ndarray) else value

    def view(self, dtype=None):
        return self._view(self._host.view() if dtype is None else self._host.view(dtype))

    def reshape(self, *shape, order="C"):
        return self._view(self._host.reshape(*shape, order=order))

    def ravel(self, order="C"):
        return self._view(self._host.ravel(order))

    def transpose(self, *axes):
        return self._view(self._host.transpose(*axes))

    def copy(self, order="C"):
        with self.device:
            return _to_device(self._wait().copy(order))

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        return array, (self.get(),)

    def astype(self, dtype, order="K", copy=True):
        if not copy and self.dtype == dtype:
            return self
        with self.device:
            return _to_device(self._wait().astype(dtype, order))

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **_):
        if method != "__call__" or any(isinstance(x, np.ndarray) for x in inputs):
            return NotImplemented
        result = self._compute(ufunc, *inputs)
        if not out:
            return result
        out[0][...] = result
        return out[0]

    def __array_function__(self, function, types, inputs, keywords):
        return self._compute(function, *inputs, **keywords)

    def _compute(self, function, *inputs, **keywords):
        host = [x._wait() if isinstance(x, ndarray) else x for x in inputs]
        with self.device:
            return _to_device(np.asarray(function(*host, **keywords)))

    def get(self, stream=None, order="C"):
        return self._wait(stream).copy("F" if order == "A" and self._is_fortran() else order)

    def set(self, array, stream=None):
        if not isinstance(array, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != array.dtype:
            raise TypeError(f"{array.dtype} array cannot be set to {self.dtype} array")
        if self.shape != array.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {array.shape}")
        if not self.flags.c_contiguous and not self.flags.f_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        self._wait(stream)[...] = array

    def fill(self, value):
        self._wait().fill(value)

    def _wait(self, stream=None):
        """Let the host see what was put on a stream so far; return what it sees."""
        handle = (stream or get_current_stream()).ptr
        with self.device:
            emulator.synchronize(handle)
        return self._host

    def _is_fortran(self):
        return self.flags.f_contiguous and not self.flags.c_contiguous

    def _view(self, host):
        if host.size and not np.may_share_memory(host, self._host):
            raise ValueError("This would be a copy: make a contiguous one first.")
        return ndarray(host, self._memory)


# --- Making arrays


def empty(shape, dtype=float, order="C"):
    dtype = np.dtype(dtype)
    memory = Memory(int(np.prod(shape, dtype=int)) * dtype.itemsize)
    return ndarray(memory.bytes().view(dtype).reshape(shape, order=order), memory)


def zeros(shape, dtype=float, order="C"):
    return _filled(shape, 0, dtype, order)


def ones(shape, dtype=float, order="C"):
    return _filled(shape, 1, dtype, order)


def full(shape, value, dtype=float, order="C"):
    return _filled(shape, value, dtype, order)


def _filled(shape, value, dtype, order):
    result = empty(shape, dtype, order)
    result._host[...] = value
    return result


def _to_device(host):
    is_fortran = host.flags.f_contiguous and not host.flags.c_contiguous
    result = empty(host.shape, host.dtype, "F" if is_fortran else "C")
    result._host[...] = host
    return result


def array(source, dtype=None, copy=True, order="K"):
    if isinstance(source, ndarray):
        result = source
    elif hasattr(source, "__cuda_array_interface__"):
        result = _from_interface(source)
    else:
        return _to_device(np.asarray(source, dtype, order=order))
    if copy or (dtype is not None and result.dtype != dtype):
        result = result.astype(result.dtype if dtype is None else dtype, order)
    return result


def asarray(source, dtype=None, order="K"):
    return array(source, dtype, copy=False, order=order)


def ascontiguousarray(source, dtype=None):
    result = asarray(source, dtype)
    return result if result.flags.c_contiguous else result.copy()


def asfortranarray(source, dtype=None):
    result = asarray(source, dtype)
    return result if result.flags.f_contiguous else result.copy("F")


def asnumpy(source):
    return asarray(source).get()


def _from_interface(source):
    interface = source.__cuda_array_interface__
    shape, dtype = interface["shape"], np.dtype(interface["typestr"])
    strides, address = interface.get("strides"), interface["data"][0]
    extents = zip(shape, strides or (), strict=bool(strides))
    nbytes = int(np.prod(shape, dtype=int)) * dtype.itemsize
    if strides and nbytes:
        nbytes = sum((extent - 1) * stride for extent, stride in extents) + dtype.itemsize
    memory = Foreign(address, nbytes, source, emulator.current_device())
    if interface.get("stream") is not None:
        emulator.synchronize(interface["stream"])
    return ndarray(np.ndarray(shape, dtype, memory.bytes(), strides=strides), memory)


def from_dlpack(source):
    kind, device = source.__dlpack_device__()
    if kind != 2:
        raise TypeError("CPU arrays cannot be directly imported to CuPy.")
    with cuda.Device(device):
        stream = get_current_stream().ptr or 1
        capsule = source.__dlpack__(stream=stream, max_version=(1, 0), copy=None)
        host = np.from_dlpack(_OnHost(capsule))
        memory = Foreign(host.ctypes.data, host.nbytes, host, device)
    return ndarray(np.ndarray(host.shape, host.dtype, memory.bytes(), 0, host.strides), memory)


class _OnHost:
    def __init__(self, capsule):
        self._capsule = capsule

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self, **_):
        return self._capsule


# --- Devices and streams


class Device:
    def __init__(self, device=None):
        self.id = emulator.current_device() if device is None else int(device)
        self._before = []

    def __enter__(self):
        self._before.append(emulator.current_device())
        emulator.set_device(self.id)
        return self

    def __exit__(self, *_):
        emulator.set_device(self._before.pop())

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return hash(self.id)

    def use(self):
        emulator.set_device(self.id)

    def synchronize(self):
        with self:
            emulator.synchronize(0)


class Graph:
    def __init__(self, graph):
        self._graph = graph

    def launch(self, stream=None):
        self._graph.launch((stream or get_current_stream()).ptr)


class Stream:
    def __init__(self, null=False, non_blocking=False):
        self.ptr = 0 if null else emulator.create_stream()
        self.device_id = -1 if null else emulator.current_device()
        self._is_capturing = False

    def __cuda_stream__(self):
        return 0, self.ptr

    def __enter__(self):
        stack = _stack(self.device_id)
        stack.append(self)
        return self

    def __exit__(self, *_):
        _stack(self.device_id).pop()

    def synchronize(self):
        emulator.synchronize(self.ptr)

    def begin_capture(self, mode=None):
        emulator.begin_capture(self.ptr)
        self._is_capturing = True

    def end_capture(self):
        self._is_capturing = False
        return Graph(emulator.end_capture(self.ptr))

    def is_capturing(self):
        return self._is_capturing

    def record(self):
        event = emulator.Event()
        event.record(self.ptr)
        return event

    def wait_event(self, event):
        event.let_wait(self.ptr)

    @classmethod
    def from_external(cls, stream):
        """Return a stream of another library; on whichever device is current."""
        made = cls.__new__(cls)
        _, made.ptr = stream.__cuda_stream__()
        made.device_id, made._is_capturing = -1, False
        return made


class ExternalStream(Stream):
    def __init__(self, ptr, device_id=-1):
        warnings.warn("ExternalStream is deprecated.", DeprecationWarning, stacklevel=2)
        self.ptr, self.device_id = ptr, device_id
        self._is_capturing = False


def _stack(device=-1):
    if not hasattr(_local, "stacks"):
        _local.stacks = [[Stream.null] for _ in range(DEVICES)]
    return _local.stacks[emulator.current_device() if device == -1 else device]


def get_current_stream(device_id=-1):
    return _stack(device_id)[-1]


Stream.null = Stream(null=True)
cuda = SimpleNamespace(
    Device=Device,
    Stream=Stream,
    ExternalStream=ExternalStream,
    get_current_stream=get_current_stream,
    is_available=lambda: True,
    runtime=SimpleNamespace(getDeviceCount=lambda: DEVICES),
)
