"""The GPU as the benchmark uses it, through CuPy: arrays, copies, waiting, graphs, and its name."""

from __future__ import annotations

import gc
import subprocess
import sys
from functools import partial
from importlib import import_module
from math import prod
from typing import Any

import gpu_arrays
import numpy as np
from gpu_arrays import numpy_dtype, pattern, words
from gpu_cases import ITEM_BYTES, Shapes, offsets
from timing import Contender, LeftOutError, Step, StreamTimer, first_line

SCRATCH = 2 << 30  # bytes of each of the two buffers that copies go between
MOST_PLACES = 64  # where copies begin in them
VECTOR, BLOCK_VECTORS = 16, 1024  # bytes, and how many of them a block of the copy kernel has
SOURCE = """
extern "C" __global__ void hold(long long nanoseconds) {
  long long start, now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do {
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  } while (now - start < nanoseconds);
}

extern "C" __global__ void copy_vectors(const int4* source, int4* target, long long count) {
  const long long first = blockIdx.x * 1024LL + threadIdx.x;
  int4 held[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (first + 256 * k < count) held[k] = source[first + 256 * k];
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (first + 256 * k < count) target[first + 256 * k] = held[k];
  }
}
"""


def imported(name: str) -> Any:
    """Import an optional package."""
    try:
        return import_module(name)
    except ImportError as error:
        raise LeftOutError(f"{name} cannot be imported ({first_line(error)})") from error


class Gpu:
    """The current GPU, and a stream on which all is done.

    Parameters
    ----------
    cupy : module
    """

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        name = properties["name"]
        self.name = name.decode() if isinstance(name, bytes) else str(name)
        self.cache = int(properties["l2CacheSize"])
        self.total_bytes = int(properties["totalGlobalMem"])
        self.multiprocessors = int(properties["multiProcessorCount"])
        self._hold = cupy.RawKernel(SOURCE, "hold")
        self._copy = cupy.RawKernel(SOURCE, "copy_vectors")
        self.timer = StreamTimer(cupy, self.stream, self.hold)
        self._scratch: list[Any] = []

    # --- Waiting

    def hold(self, seconds: float) -> None:
        """Keep the stream busy with nothing."""
        self._hold((1,), (1,), (int(seconds * 1e9),))

    def wait(self) -> None:
        """Wait for the stream."""
        self.stream.synchronize()

    # --- Memory

    def free_bytes(self) -> int:
        """Memory that is left, after all that is cached was given back."""
        gc.collect()
        self.cupy.get_default_memory_pool().free_all_blocks()
        if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return int(self.cupy.cuda.runtime.memGetInfo()[0])

    def filled(self, kind: str, dtype: str, shapes: Shapes) -> Any:
        """Make one array for arrays of these shapes, with the pattern in them and 0 in the gaps."""
        begins, item = offsets(shapes, ITEM_BYTES[dtype]), ITEM_BYTES[dtype]
        integers = self.cupy.empty(begins[-1], words(dtype))
        done = min(gpu_arrays.PATTERN, begins[-1])
        integers[:done].set(pattern(kind, dtype)[:done])
        while done < begins[-1]:
            count = min(done, begins[-1] - done)
            self.memcpy(integers.data.ptr + done * item, integers.data.ptr, count * item)
            done += count
        for begin, end, shape in zip(begins, begins[1:], shapes, strict=False):
            if gap := end - begin - prod(shape):
                address = integers.data.ptr + (end - gap) * item
                self.cupy.cuda.runtime.memsetAsync(address, 0, gap * item, self.stream.ptr)
        return integers.view(numpy_dtype(dtype))

    def host(self, array: Any) -> np.ndarray:
        """Copy an array into one of NumPy."""
        dtype = np.dtype(array.dtype)
        integers = array.view({8: np.uint64, 4: np.uint32, 2: np.uint16}[dtype.itemsize])
        return np.array(integers.get()).view(dtype)

    def flip_signs(self, flat: Any) -> None:
        """Negate all elements, of whatever type."""
        integer = words(str(flat.dtype)).type
        integers = flat.view(integer)
        sign = integer(1 << (8 * flat.dtype.itemsize - 1))
        self.cupy.bitwise_xor(integers, sign, integers)

    # --- Copies

    def memcpy(self, target: int, source: int, nbytes: int) -> None:
        """Copy by the runtime."""
        runtime = self.cupy.cuda.runtime
        kind = runtime.memcpyDeviceToDevice
        runtime.memcpyAsync(target, source, nbytes, kind, self.stream.ptr)

    def copy_kernel(self, target: int, source: int, nbytes: int) -> None:
        """Copy by a kernel, in whole vectors."""
        vectors = nbytes // VECTOR
        self._copy((-(-vectors // BLOCK_VECTORS),), (256,), (source, target, vectors))

    def copies(self, bytes_moved: int) -> list[Contender]:
        """Both ways to copy so much that, read and written, these bytes are moved."""
        if not self._scratch:
            for kind in ("variable", "gradient"):
                size = min(SCRATCH, self.total_bytes // 32)
                self._scratch.append(self.filled(kind, "float32", [(size // 4,)]))
        target, source = (array.data.ptr for array in self._scratch)
        size = self._scratch[0].nbytes // VECTOR * VECTOR
        half = max(VECTOR, bytes_moved // 2 // VECTOR * VECTOR)
        places = max(1, min(MOST_PLACES, size // half))
        pieces = [size] * (half // size) + [half % size] * (half % size > 0)

        def step(copy: Any, place: int) -> None:
            for nbytes in pieces:
                copy(target + place * half, source + place * half, nbytes)

        ways = {"copy, runtime": self.memcpy, "copy, kernel": self.copy_kernel}
        return [
            Contender(
                name,
                [partial(step, way, place) for place in range(places)],
                len(pieces),
                essential=True,
            )
            for name, way in ways.items()
        ]

    # --- Graphs

    def captured(self, call: Step) -> Step:
        """Capture what a call puts on the stream; return what replays it."""
        gc.disable()  # freeing memory would spoil the capture
        try:
            self.stream.begin_capture()
            try:
                call()
            finally:
                graph = self.stream.end_capture()
        finally:
            gc.enable()
        return partial(graph.launch, self.stream)

    # --- What it is

    def describe(self) -> dict[str, Any]:
        """Name, sizes, versions of driver and runtime."""
        runtime = self.cupy.cuda.runtime
        return {
            "gpu": self.name,
            "multiprocessors": self.multiprocessors,
            "memory_bytes": self.total_bytes,
            "cache_bytes": self.cache,
            "driver": smi("driver_version"),
            "cuda_of_driver": runtime.driverGetVersion(),
            "cuda_of_cupy": runtime.runtimeGetVersion(),
        }


def smi(fields: str) -> str | None:
    """Ask nvidia-smi; None if it does not answer."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
