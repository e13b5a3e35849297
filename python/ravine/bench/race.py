"""Timing several contenders in turn, so that what disturbs one disturbs all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from random import Random
from statistics import median, quantiles

Run = Callable[[int], float]  # so many steps; seconds of one
Samples = dict[str, list[float]]

_REST = 3e-3  # threads of the one before may still be spinning
_SHORTEST = 2e-3


def repeated(step: Callable[[], object]) -> Run:
    """Turn a step into what is raced."""

    def run(repeats: int) -> float:
        begin = time.perf_counter()
        for _ in range(repeats):
            step()
        return (time.perf_counter() - begin) / repeats

    return run


def race(runs: Mapping[str, Run], rounds: int, seconds: float) -> Samples:
    """Run all in turn, round after round.

    The order of a round is another one each time: what ran before matters. After milliseconds
    without traffic, for instance, a processor's path to the memory takes some to speed up again.

    Parameters
    ----------
    runs : dict of callables
    rounds : int
        At most so many.
    seconds : float
        No further round begins after that, but for the first three.
    """
    repeats = {}
    for name, run in runs.items():
        run(1)
        repeats[name] = max(1, min(2000, int(_SHORTEST / max(run(1), 1e-7))))
    samples: Samples = {name: [] for name in runs}
    begin = time.perf_counter()
    turns, shuffler = [*runs.items()], Random(0)
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - begin > seconds:
            break
        shuffler.shuffle(turns)
        for name, run in turns:
            time.sleep(_REST)
            run(1)
            samples[name].append(run(repeats[name]))
    return samples


def ratios(samples: Samples, name: str, base: str) -> tuple[float, float, float]:
    """Quartiles of the ratios of two within the same rounds."""
    each = [a / b for a, b in zip(samples[name], samples[base], strict=True)]
    if len(each) == 1:
        return each[0], each[0], each[0]
    low, middle, high = quantiles(each, n=4, method="inclusive")
    return low, middle, high


def seconds_of(samples: Samples, name: str) -> float:
    """Return the median."""
    return median(samples[name])
