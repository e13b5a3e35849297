"""Time what one call of ``apply`` takes on the host, by number of arrays, without waiting.

python benchmarks/gpu/host_time.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

from gpu_device import imported
from timing import LeftOutError

import ravine

CALLS, AT_ONCE = 300, 10
SIZE = 1024
OPTIMIZERS: dict[str, Callable[[], ravine.Optimizer]] = {
    "SGD": lambda: ravine.SGD(0.1),
    "Nadam, global_clipnorm": lambda: ravine.Nadam(0.1, global_clipnorm=1.0),
}


def microseconds(calls: Sequence[Callable[[], object]], wait: Callable[[], object]) -> float:
    """Return the median of some calls, in turn, a few from each empty queue on."""
    seconds = []
    for i in range(CALLS):
        if i % AT_ONCE == 0:
            wait()
        start = time.perf_counter()
        calls[i % len(calls)]()
        seconds.append(time.perf_counter() - start)
    return 1e6 * median(seconds)


def measure(cupy: Any, counts: Sequence[int]) -> None:
    """Print a line for each optimizer and number of arrays."""

    def arrays(count: int) -> list[Any]:
        return [cupy.ones(SIZE, "float32") for _ in range(count)]

    with cupy.cuda.Stream(non_blocking=True) as stream:
        for name, make in OPTIMIZERS.items():
            for count in counts:
                optimizer, same = make(), arrays(count)
                optimizer.build(arrays(count))
                optimizer.apply(same)
                calls = [partial(optimizer.apply, gradients) for gradients in (same, arrays(count))]
                stay = microseconds(calls[:1], stream.synchronize)
                move = microseconds(calls, stream.synchronize)
                print(f"{name:23} {count:5} arrays {stay:7.1f} us, moved {move:7.1f} us")


def main() -> int:
    """Run from the command line."""
    try:
        cupy = imported("cupy")
        if not cupy.cuda.is_available():
            raise LeftOutError("there is no GPU, or no driver for it")
    except LeftOutError as reason:
        print(f"host_time: {reason}", file=sys.stderr)
        return 2
    measure(cupy, (1, 148, 1000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
