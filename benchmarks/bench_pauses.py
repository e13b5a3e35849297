"""Time steps that come as they do in training, with other work in between.

Benchmarks that step again and again find all threads awake. Here each step follows a pause, in
which the caller sleeps, or computes something else with `--busy`, and threads fall asleep. Told is
what a step takes on one thread, and on all as a part of that: medians and quartiles, in turn, in
one process.

    python benchmarks/bench_pauses.py
    python benchmarks/bench_pauses.py --pause 30 --busy
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from statistics import median, quantiles

import ravine
from ravine.bench.cases import Case

EXPONENTS = (16, 17, 18, 20, 22, 24)


def pause(seconds: float, busy: bool) -> None:
    """Sleep, or count."""
    if not busy:
        return time.sleep(seconds)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return None


def times(case: Case, threads: Sequence[int], options: argparse.Namespace) -> list[list[float]]:
    """Return the seconds of steps, in turn on so many threads."""
    variables, grads = case.arrays()
    optimizer = case.optimizer()
    optimizer.apply(grads, variables)
    optimizer.apply(grads)
    result: list[list[float]] = [[] for _ in threads]
    for _ in range(options.rounds):
        for number, samples in zip(threads, result, strict=True):
            ravine.set_num_threads(number)
            pause(options.pause / 1e3, options.busy)
            begin = time.perf_counter()
            optimizer.apply(grads)
            samples.append(time.perf_counter() - begin)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Time and tell; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--pause", type=float, default=3.0, metavar="MS", help="default: %(default)s"
    )
    parser.add_argument("--busy", action="store_true", help="compute meanwhile")
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="default: %(default)s")
    parser.add_argument("--exponents", type=int, nargs="+", default=EXPONENTS, metavar="N",
                        help="of the number of elements; default: %(default)s")  # fmt: skip
    options = parser.parse_args(arguments)
    threads = (1, ravine.get_num_threads())
    print(f"Nadam, {threads[1]} threads against one, {options.pause:g} ms between steps")
    for exponent in options.exponents:
        for option in ("plain", "together"):
            case = Case("one", "nadam", option, shapes=[(1 << exponent,)])
            one, all_ = times(case, threads, options)
            low, middle, high = quantiles([a / b for a, b in zip(all_, one, strict=True)], n=4)
            print(f"2^{exponent:<3} {option:9} {median(one) * 1e6:10.1f} us on one, "
                  f"{middle:.2f} of it on all ({low:.2f} to {high:.2f})")  # fmt: skip
    ravine.set_num_threads(threads[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
