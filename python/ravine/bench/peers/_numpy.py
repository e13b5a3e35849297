"""Plain NumPy: as one writes the formula, and with ``out=``, so that nothing is allocated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ravine.bench.cases import BETA_1, BETA_2, CLIP, DECAY, EMA, EPSILON, MOMENTUM, RATE, RHO, Case

NEEDS = ("numpy",)


def peers(
    case: Case, variables: list[Any], grads: list[Any], threads: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield both; float32 only, since NumPy computes bfloat16 one element at a time."""
    if case.dtype != "float32":
        return
    for name, rules in (("numpy", PLAIN), ("numpy out=", OUT)):
        slots = [[np.zeros_like(w) for w in variables] for _ in range(2)]
        buffers = [[np.empty_like(w) for w in variables] for _ in range(2)]
        averages = [w.copy() for w in variables] if case.together else []
        arrays = [*zip(variables, *slots, *buffers, strict=True)]
        yield name, partial(_step, rules[case.rule], arrays, grads, averages)


def _step(rule: Any, arrays: list[Any], grads: list[Any], averages: list[Any]) -> None:
    if averages:
        norm = math.sqrt(sum(float(np.vdot(g, g)) for g in grads))
        factor = np.float32(min(1.0, CLIP / norm))
        grads = [g * factor for g in grads]
    for (w, *rest), g in zip(arrays, grads, strict=True):
        if averages:
            np.multiply(w, np.float32(1 - RATE * DECAY), out=w)
        rule(w, g, *rest)
    for (w, _, _, a, _), average in zip(arrays, averages, strict=bool(averages)):
        np.multiply(average, np.float32(EMA), out=average)
        np.multiply(w, np.float32(1 - EMA), out=a)
        np.add(average, a, out=average)


def _sgd(w: Any, g: Any, *_: Any) -> None:
    w -= RATE * g


def _nesterov(w: Any, g: Any, v: Any, *_: Any) -> None:
    v[...] = MOMENTUM * v - RATE * g
    w += MOMENTUM * v - RATE * g


def _rmsprop(w: Any, g: Any, v: Any, *_: Any) -> None:
    v[...] = RHO * v + (1 - RHO) * g**2
    w -= RATE * g / np.sqrt(v + EPSILON)


def _nadam(w: Any, g: Any, m: Any, v: Any, *_: Any) -> None:
    m += (g - m) * (1 - BETA_1)
    v += (g**2 - v) * (1 - BETA_2)
    w -= (0.9 * RATE * m + 0.5 * RATE * g) / (np.sqrt(1.1 * v) + EPSILON)


def _adam(w: Any, g: Any, m: Any, v: Any, *_: Any) -> None:
    m += (g - m) * (1 - BETA_1)
    v += (g**2 - v) * (1 - BETA_2)
    w -= 0.9 * RATE * m / (np.sqrt(v) + EPSILON)


PLAIN = {"sgd": _sgd, "nesterov": _nesterov, "rmsprop": _rmsprop, "nadam": _nadam, "adam": _adam}


def _sgd_out(w: Any, g: Any, _v: Any, _u: Any, a: Any, _b: Any) -> None:
    np.multiply(g, RATE, out=a)
    np.subtract(w, a, out=w)


def _nesterov_out(w: Any, g: Any, v: Any, _u: Any, a: Any, b: Any) -> None:
    np.multiply(g, RATE, out=a)
    np.multiply(v, MOMENTUM, out=v)
    np.subtract(v, a, out=v)
    np.multiply(v, MOMENTUM, out=b)
    np.subtract(b, a, out=b)
    np.add(w, b, out=w)


def _rmsprop_out(w: Any, g: Any, v: Any, _u: Any, a: Any, b: Any) -> None:
    np.multiply(v, RHO, out=v)
    np.multiply(g, g, out=a)
    np.multiply(a, 1 - RHO, out=a)
    np.add(v, a, out=v)
    np.add(v, EPSILON, out=a)
    np.sqrt(a, out=a)
    np.multiply(g, RATE, out=b)
    np.divide(b, a, out=b)
    np.subtract(w, b, out=w)


def _moments_out(g: Any, m: Any, v: Any, a: Any) -> None:
    np.subtract(g, m, out=a)
    np.multiply(a, 1 - BETA_1, out=a)
    np.add(m, a, out=m)
    np.multiply(g, g, out=a)
    np.subtract(a, v, out=a)
    np.multiply(a, 1 - BETA_2, out=a)
    np.add(v, a, out=v)


def _nadam_out(w: Any, g: Any, m: Any, v: Any, a: Any, b: Any) -> None:
    _moments_out(g, m, v, a)
    np.multiply(m, 0.9 * RATE, out=a)
    np.multiply(g, 0.5 * RATE, out=b)
    np.add(a, b, out=a)
    np.multiply(v, 1.1, out=b)
    _divided_out(w, a, b)


def _adam_out(w: Any, g: Any, m: Any, v: Any, a: Any, b: Any) -> None:
    _moments_out(g, m, v, a)
    np.multiply(m, 0.9 * RATE, out=a)
    np.copyto(b, v)
    _divided_out(w, a, b)


def _divided_out(w: Any, a: Any, b: Any) -> None:
    np.sqrt(b, out=b)
    np.add(b, EPSILON, out=b)
    np.divide(a, b, out=a)
    np.subtract(w, a, out=w)


OUT = {
    "sgd": _sgd_out,
    "nesterov": _nesterov_out,
    "rmsprop": _rmsprop_out,
    "nadam": _nadam_out,
    "adam": _adam_out,
}
