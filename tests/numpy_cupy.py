"""The part of CuPy that the benchmark of the GPU uses, over arrays of NumPy: nothing is on a GPU.

Ravine steps them on the CPU. Kernels run as Python; streams, events and graphs do next to nothing.
"""

import ctypes
import re
import time
from types import ModuleType, SimpleNamespace

import numpy as np


class Array(np.ndarray):
    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)

    def get(self):
        return np.array(self)

    def set(self, host):
        self[...] = host


def names_of(parameters):
    return [parameter.split()[-1] for parameter in parameters.split(",")]


class Elementwise:
    """Runs the formula as Python: it is written so that it is both."""

    def __init__(self, ins, outs, operation, name):
        self.names, self.outs = [*names_of(ins), *names_of(outs)], names_of(outs)
        code = re.sub(r"\bfloat (?=\w+ =)", "", operation)
        code = re.sub(r"([01])\.0f", r"\1", code)
        code = re.sub(r"(\w+) = (.+?) \? (.+?) : ([^;]+)", r"\1 = where(\2, \3, \4)", code)
        self.code = compile(code, name, "exec")

    def __call__(self, *args):
        arrays = dict(zip(self.names, args, strict=True))
        values = {name: np.array(value, np.float32) for name, value in arrays.items()}
        values |= {"sqrt": np.sqrt, "max": np.maximum, "where": np.where}
        exec(self.code, values)
        for name in self.outs:
            assert arrays[name].shape == np.shape(values[name])
            arrays[name][...] = values[name]


class SquareSums:
    def __init__(self, *_):
        pass

    def __call__(self, rows, out, axis):
        out[...] = np.square(rows.astype(np.float32)).sum(axis)


class Raw:
    def __init__(self, source, name):
        assert f"void {name}(" in source
        self.name = name

    def __call__(self, grid, block, args):
        if self.name == "copy_vectors":
            source, target, vectors = args
            assert (grid[0] - 1) * 1024 < vectors <= grid[0] * 1024
            ctypes.memmove(target, source, 16 * vectors)


class Event:
    done = False

    def record(self, stream):
        self.time = time.perf_counter()

    def synchronize(self):
        pass


class Stream:
    ptr = 0

    def __init__(self, non_blocking=False):
        self.recorded = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def synchronize(self):
        pass

    def begin_capture(self):
        pass

    def end_capture(self):
        return SimpleNamespace(launch=lambda stream: None)


def fake_cupy(cache=4096):
    properties = {"name": b"A GPU", "l2CacheSize": cache, "totalGlobalMem": 1 << 25}
    runtime = SimpleNamespace(
        getDeviceProperties=lambda device: properties | {"multiProcessorCount": 1},
        memGetInfo=lambda: (1 << 40, 1 << 40),
        memcpyDeviceToDevice=3,
        memcpyAsync=lambda target, source, n, kind, stream: ctypes.memmove(target, source, n),
        memsetAsync=lambda target, value, n, stream: ctypes.memset(target, value, n),
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 13000,
    )
    cupy = ModuleType("cupy")
    cupy.empty = lambda shape, dtype: np.full(shape, 77, dtype).view(Array)
    cupy.zeros = lambda shape, dtype: np.zeros(shape, dtype).view(Array)
    cupy.bitwise_xor = np.bitwise_xor
    cupy.RawKernel, cupy.ElementwiseKernel, cupy.ReductionKernel = Raw, Elementwise, SquareSums
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=lambda: None)
    cupy.cuda = SimpleNamespace(
        Device=lambda: SimpleNamespace(id=0),
        Stream=Stream,
        Event=Event,
        get_elapsed_time=lambda start, end: max(1e-6, 1e3 * (end.time - start.time)),
        is_available=lambda: True,
        runtime=runtime,
    )
    return cupy
