"""NVIDIA's driver, asked by itself: a build without CUDA, too, can say what a machine has."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, TypedDict

_COMPUTE_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


class Device(TypedDict):
    """A GPU, as the driver describes it."""

    name: str
    compute_capability: str
    memory_bytes: int


class Driver(TypedDict):
    """A driver: the newest CUDA that it runs, and its GPUs, or what it answered instead."""

    cuda: str | None
    devices: list[Device]
    problem: str | None


def find_driver() -> Driver | None:
    """Return the driver of this machine, None if there is none."""
    library = _load()
    if library is None:
        return None
    driver: Driver = {"cuda": None, "devices": [], "problem": None}
    version, count = ctypes.c_int(), ctypes.c_int()
    try:
        _call(library, "cuDriverGetVersion", ctypes.byref(version))
        driver["cuda"] = f"{version.value // 1000}.{version.value % 1000 // 10}"
        _call(library, "cuInit", 0)
        _call(library, "cuDeviceGetCount", ctypes.byref(count))
        driver["devices"] = [_device(library, ordinal) for ordinal in range(count.value)]
    except OSError as error:
        driver["problem"] = str(error)
    return driver


def _load() -> Any:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _device(library: Any, ordinal: int) -> Device:
    device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    _call(library, "cuDeviceGet", ctypes.byref(device), ordinal)
    _call(library, "cuDeviceGetName", name, len(name), device)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    capability = []
    for attribute in _COMPUTE_CAPABILITY:
        value = ctypes.c_int()
        _call(library, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        capability.append(str(value.value))
    return {
        "name": name.value.decode(errors="replace"),
        "compute_capability": ".".join(capability),
        "memory_bytes": memory.value,
    }


def _call(library: Any, function: str, *arguments: Any) -> None:
    status = getattr(library, function)(*arguments)
    if status != 0:
        name = ctypes.c_char_p()
        library.cuGetErrorName(status, ctypes.byref(name))
        raise OSError(f"{function}: {(name.value or str(status).encode()).decode()}")
