"""Train a network on a GPU, the update in plain CuPy expressions and in ravine, and compare.

Network, digits and plain update are those of ``python -m ravine``: given CuPy arrays, NumPy's
functions call CuPy's. Run it with ``python examples/cupy_training.py``. On a GPU it also checks
that the CPU gets the same bits.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from devices import CPU, Arrays, Device, Mirrored, add_device_option, choose
from threadpoolctl import threadpool_limits

import ravine
from ravine.demo import plain
from ravine.demo.cli import positive
from ravine.demo.comparison import keep_freed_memory
from ravine.demo.data import Digits, load_digits
from ravine.demo.network import accuracy, initial_parameters, loss_and_gradients

BATCH_SIZE = 32
OPTIONS = {"learning_rate": 5e-4, "global_clipnorm": 1.0, "ema_momentum": 0.99}


@dataclass(frozen=True)
class Run:
    """One training: its averaged weights, and the median times of a step."""

    weights: Arrays
    test_accuracy: float
    gradient_ms: float
    update_ms: float

    @property
    def update_share(self) -> float:
        """The part of a step that the update takes, from 0 to 1."""
        return self.update_ms / (self.gradient_ms + self.update_ms)


def nadam() -> ravine.Nadam:
    """Make the optimizer."""
    return ravine.Nadam(**OPTIONS, use_ema=True)


def train(optimizer: Any, digits: Digits, device: Device, epochs: int) -> tuple[Arrays, Any]:
    """Train from the start; return the weights, and the seconds of gradient and update by step."""
    images, labels = (device.put(array) for array in digits)
    parameters = {name: device.put(w) for name, w in initial_parameters(seed=0).items()}
    optimizer.build(parameters)
    shuffle = np.random.default_rng(0)
    times = []
    for _ in range(epochs):
        order = device.put(shuffle.permutation(len(labels)))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            began = device.seconds()
            _, gradients = loss_and_gradients(parameters, images[batch], labels[batch])
            halfway = device.seconds()
            optimizer.apply(gradients)
            times.append((halfway - began, device.seconds() - halfway))
    return parameters, zip(*times, strict=True)


def measure(optimizer: Any, digits: tuple[Digits, Digits], device: Device, epochs: int) -> Run:
    """Train, replace the weights by their averages, and test."""
    train_digits, test_digits = digits
    parameters, times = train(optimizer, train_digits, device, epochs)
    optimizer.finalize_variable_values()
    return Run(
        {name: device.get(w) for name, w in parameters.items()},
        accuracy(parameters, *(device.put(array) for array in test_digits)),
        *(1e3 * median(seconds) for seconds in times),
    )


# Matrices this small gain nothing from more threads, and those that idle disturb the update.
@threadpool_limits.wrap(limits=1, user_api="blas")
def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, print a table, and return what is in it."""
    parser = ArgumentParser(description=__doc__)
    add_device_option(parser)
    parser.add_argument(
        "--epochs", type=positive, default=15, metavar="N", help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    device, digits = choose(options.device), load_digits()

    keep_freed_memory()
    updates = {f"plain {device.name.split()[0]}": plain.Nadam(**OPTIONS), "ravine": nadam()}
    print(f"Nadam on handwritten digits, {options.epochs} epochs, {device.name}")
    print("update in    gradient ms  update ms  share of step  test accuracy")
    runs = []
    for name, optimizer in updates.items():
        runs.append(run := measure(optimizer, digits, device, options.epochs))
        print(
            f"{name:12} {run.gradient_ms:11.3f} {run.update_ms:10.3f} "
            f"{100 * run.update_share:12.0f} % {run.test_accuracy:14.4f}"
        )

    first, second = (run.weights for run in runs)
    difference = max(float(np.abs(w - second[name]).max()) for name, w in first.items())
    print(f"Averaged weights differ by {difference:.1e} at most, as they are rounded differently.")
    same = None
    if device.is_gpu:
        both = Mirrored(nadam(), nadam(), device)
        train(both, digits[0], CPU, options.epochs)
        same = both.report_bits()
    return {"plain": runs[0], "ravine": runs[1], "difference": difference, "same_bits": same}


if __name__ == "__main__":
    raise SystemExit(main()["same_bits"] is False)
