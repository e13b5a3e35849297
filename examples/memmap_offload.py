"""Train a network that is larger than the memory that it may take: its arrays are in files.

Parameters, gradients and the optimizer's slots are arrays of ``numpy.memmap``; the slots because
the parameters are. The limit is real: Linux refuses to the process what goes beyond it, and the
same network in memory fails first. Run it with ``python examples/memmap_offload.py``.
"""

from __future__ import annotations

import math
import re
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

import ravine

BATCH_SIZE = 64
TEST_SIZE = 360
MIB = 2**20

Arrays = dict[str, np.ndarray]
Make = Callable[[str, tuple[int, ...]], np.ndarray]


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Let the process take no more than so many bytes beside what it has.

    What is counted is memory that has no file behind it: the heap, and all that is asked for anew.
    """
    import resource  # Unix alone has it

    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_taken() + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def memory_taken() -> int:
    """Return how much counts for the limit now."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"^VmData:\s+(\d+) kB$", status, re.MULTILINE)[1])


def shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters, with two hidden layers of some width."""
    return {
        "kernel_1": (64, width),
        "bias_1": (width,),
        "kernel_2": (width, width),
        "bias_2": (width,),
        "kernel_3": (width, 10),
        "bias_3": (10,),
    }


def in_memory(_: str, shape: tuple[int, ...]) -> np.ndarray:
    """Make an array in memory."""
    return np.zeros(shape, np.float32)


def in_folder(folder: Path) -> Make:
    """Return what makes an array in a file of a folder."""

    def make(name: str, shape: tuple[int, ...]) -> np.ndarray:
        return np.memmap(folder / f"{name}.bin", np.float32, "w+", shape=shape)

    return make


def forward(weights: Arrays, images: np.ndarray) -> list[np.ndarray]:
    """Return the signal at each layer: pixels, two hidden layers, logits."""
    first = np.maximum(images @ weights["kernel_1"] + weights["bias_1"], 0)
    second = np.maximum(first @ weights["kernel_2"] + weights["bias_2"], 0)
    return [images, first, second, second @ weights["kernel_3"] + weights["bias_3"]]


def fill_gradients(
    gradients: Arrays, weights: Arrays, images: np.ndarray, labels: np.ndarray
) -> float:
    """Write the gradients of the cross-entropy of a batch, in place; return the loss."""
    *signals, logits = forward(weights, images)
    rows = np.arange(len(labels))
    error = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    loss = -np.log(error[rows, labels]).mean()
    error[rows, labels] -= 1
    error /= len(labels)
    for layer in (3, 2, 1):
        signal = signals[layer - 1]
        np.matmul(signal.T, error, out=gradients[f"kernel_{layer}"])
        np.sum(error, axis=0, out=gradients[f"bias_{layer}"])
        if layer > 1:
            error = (error @ weights[f"kernel_{layer}"].T) * (signal > 0)
    return float(loss)


def train(make: Make, width: int, epochs: int) -> Iterator[tuple[float, float]]:
    """Make all arrays and train; yield loss and accuracy after each epoch."""
    pixels, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(labels))
    images, labels = (pixels[order] / 16).astype(np.float32), labels[order]

    weights = {name: make(name, shape) for name, shape in shapes(width).items()}
    gradients = {name: make(f"gradient_{name}", w.shape) for name, w in weights.items()}
    for name, w in weights.items():
        if name.startswith("kernel"):
            rng.standard_normal(dtype=np.float32, out=w)
            w *= np.float32((2 / len(w)) ** 0.5)
    optimizer = ravine.Nadam(learning_rate=5e-4, global_clipnorm=1.0)
    optimizer.build(weights)  # makes the slots, where the weights are

    for _ in range(epochs):
        order = TEST_SIZE + rng.permutation(len(labels) - TEST_SIZE)
        losses = []
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            losses.append(fill_gradients(gradients, weights, images[batch], labels[batch]))
            optimizer.apply(gradients)
        right = 0
        for start in range(0, TEST_SIZE, BATCH_SIZE):
            batch = slice(start, min(start + BATCH_SIZE, TEST_SIZE))
            right += np.sum(forward(weights, images[batch])[-1].argmax(axis=1) == labels[batch])
        yield float(np.mean(losses)), float(right / TEST_SIZE)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train under a limit, in memory and in files; return what came of it."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--width", type=int, default=4096, metavar="N", help="of each layer; default: %(default)s"
    )
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--memory",
        type=int,
        default=64,
        metavar="MIB",
        help="to take at most; default: %(default)s",
    )
    parser.add_argument(
        "--folder",
        default=".",
        metavar="DIR",
        help="on a disk, for the files; default: the current one",
    )
    options = parser.parse_args(arguments)
    if not Path("/proc/self/status").exists():
        raise SystemExit("error: this example limits memory as Linux does, and this is not Linux.")

    size = 4 * sum(math.prod(shape) for shape in shapes(options.width).values()) / MIB
    print(f"Parameters {size:.0f} MiB, gradients as much, slots twice as much")
    print(f"Memory may grow by {options.memory} MiB")
    result: dict[str, Any] = {"size": 4 * size, "in_memory": True}
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        threadpool_limits(limits=1, user_api="blas"),
    ):
        list(train(in_memory, 512, 1))  # what libraries keep for themselves is taken now
        with memory_limit(options.memory * MIB):
            try:
                list(train(in_memory, options.width, 1))
                print("In memory: there is room. Take a larger --width or a smaller --memory.")
            except MemoryError as error:
                result["in_memory"] = False
                print(f"In memory: {error}")
            print("In files:")
            epochs = train(in_folder(Path(folder)), options.width, options.epochs)
            for epoch, (loss, accuracy) in enumerate(epochs, start=1):
                result |= {"loss": loss, "accuracy": accuracy}
                print(f"epoch {epoch:3}   loss {loss:.4f}   test accuracy {accuracy:.4f}")
    print(f"{result['size']:.0f} MiB were trained in files, beside {options.memory} MiB of memory")
    return result


if __name__ == "__main__":
    main()
