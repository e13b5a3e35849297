"""Where the examples compute: on NumPy arrays, or on CuPy arrays on a GPU; and the bits of both."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

import ravine

Arrays = dict[str, Any]


@dataclass(frozen=True)
class Device:
    """Where arrays are: `xp` is NumPy, or CuPy for those on a GPU."""

    name: str
    xp: ModuleType

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.xp is not np

    def put(self, array: Any) -> Any:
        """Copy an array of NumPy to a GPU; on the CPU return it as it is."""
        return self.xp.asarray(array)

    def get(self, array: Any) -> Any:
        """Return an array as one of NumPy."""
        return self.xp.asnumpy(array) if self.is_gpu else array

    def seconds(self) -> float:
        """Read the clock, on a GPU when all that it was given to do is done."""
        if self.is_gpu:
            self.xp.cuda.get_current_stream().synchronize()
        return time.perf_counter()


CPU = Device("NumPy on the CPU", np)


def add_device_option(parser: ArgumentParser) -> None:
    """Add ``--device`` to a parser; `choose` takes its value."""
    parser.add_argument(
        "--device", choices=("cpu", "gpu"), help="by default the GPU, where there is one"
    )


def choose(kind: str | None) -> Device:
    """Return the device that was asked for; for None the GPU, or the CPU where there is none."""
    gpu = None if kind == "cpu" else find_gpu()
    if gpu is None and kind == "gpu":
        raise SystemExit("error: --device gpu needs CuPy, and a GPU with a driver. Found: none.")
    return gpu or CPU


def find_gpu() -> Device | None:
    """Return the current GPU of CuPy, None without CuPy or a GPU."""
    try:
        cupy = import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":  # a broken installation, which should not pass for none
            raise
        return None
    if not cupy.cuda.is_available():
        return None
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return Device(f"CuPy on {properties['name'].decode()}", cupy)


class Mirrored:
    """An optimizer of NumPy arrays with a twin on a GPU that is given the same gradients.

    The products of matrices of a CPU and a GPU differ in their last bits, so their trainings do.
    The updates do not: fed with the same bits, they end with the same bits.
    """

    def __init__(self, optimizer: ravine.Optimizer, twin: ravine.Optimizer, gpu: Device) -> None:
        self.optimizer, self.twin, self._gpu = optimizer, twin, gpu

    def build(self, variables: Arrays) -> None:
        """Bind the variables, and copies of them on the GPU."""
        self.variables = variables
        self.copies = {name: self._gpu.put(w) for name, w in variables.items()}
        self.optimizer.build(self.variables)
        self.twin.build(self.copies)

    def apply(self, gradients: Arrays) -> None:
        """Make one step on both."""
        self.twin.apply({name: self._gpu.put(g) for name, g in gradients.items()})
        self.optimizer.apply(gradients)

    def report_bits(self) -> bool:
        """Print and return whether variables and all state are the same, bit for bit."""
        ours = self.variables | self.optimizer.state_dict()
        theirs = {name: self._gpu.get(w) for name, w in self.copies.items()}
        theirs |= self.twin.state_dict()
        same = ours.keys() == theirs.keys() and all(
            np.asarray(ours[key]).tobytes() == np.asarray(theirs[key]).tobytes() for key in ours
        )
        are = "the same" if same else "NOT the same"
        print(f"Given the gradients of the CPU, weights and state are {are} there, bit for bit.")
        return same
