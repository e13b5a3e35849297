"""Numba: the formula fused by hand into one loop, compiled for this machine, with fast division."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

from ravine.bench.cases import BETA_1, BETA_2, CLIP, DECAY, EMA, EPSILON, MOMENTUM, RATE, RHO, Case

NEEDS = ("numba",)


def peers(
    case: Case, variables: list[Any], grads: list[Any], threads: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield one; Numba has no bfloat16."""
    if case.dtype != "float32":
        return
    numba = import_module("numba")
    numba.set_num_threads(threads)
    flat = [(w.reshape(-1), g.reshape(-1)) for w, g in zip(variables, grads, strict=True)]
    first, second = ([np.zeros_like(w) for w, _ in flat] for _ in range(2))
    averages = [w.copy() for w, _ in flat] if case.together else first
    arrays = [*zip(flat, first, second, averages, strict=True)]
    loop, squares = _compiled(case, threads > 1)

    def step() -> None:
        factor = 1.0
        if case.together:
            factor = min(1.0, CLIP / math.sqrt(sum(squares(g) for _, g in flat)))
        for (w, g), m, v, average in arrays:
            loop(w, g, m, v, average, np.float32(factor))

    yield "numba", step


def _compiled(case: Case, parallel: bool) -> tuple[Any, Any]:
    numba = import_module("numba")
    one = np.float32(1)
    rate, momentum, rho, epsilon = map(np.float32, (RATE, MOMENTUM, RHO, EPSILON))
    beta_1, beta_2, decay, ema = map(np.float32, (BETA_1, BETA_2, RATE * DECAY, EMA))
    near, next_, root = np.float32(0.9 * RATE), np.float32(0.5 * RATE), np.float32(1.1)

    def sgd(w: Any, g: Any, m: Any, v: Any) -> Any:
        return w - rate * g, m, v

    def nesterov(w: Any, g: Any, m: Any, v: Any) -> Any:
        m = momentum * m - rate * g
        return w + momentum * m - rate * g, m, v

    def rmsprop(w: Any, g: Any, m: Any, v: Any) -> Any:
        m = rho * m + (one - rho) * g * g
        return w - rate * g / np.sqrt(m + epsilon), m, v

    def nadam(w: Any, g: Any, m: Any, v: Any) -> Any:
        m += (g - m) * (one - beta_1)
        v += (g * g - v) * (one - beta_2)
        return w - (near * m + next_ * g) / (np.sqrt(root * v) + epsilon), m, v

    def adam(w: Any, g: Any, m: Any, v: Any) -> Any:
        m += (g - m) * (one - beta_1)
        v += (g * g - v) * (one - beta_2)
        return w - near * m / (np.sqrt(v) + epsilon), m, v

    rules = {"sgd": sgd, "nesterov": nesterov, "rmsprop": rmsprop, "nadam": nadam, "adam": adam}
    rule = numba.njit(inline="always")(rules[case.rule])
    has_m, has_v = case.rule != "sgd", case.rule in ("nadam", "adam")
    together = case.together

    @numba.njit(parallel=parallel, error_model="numpy")  # type: ignore[untyped-decorator]
    def loop(w: Any, g: Any, m: Any, v: Any, average: Any, factor: Any) -> None:
        for i in numba.prange(w.size):
            x = w[i]
            if together:
                x -= x * decay
            x, mean, square = rule(x, g[i] * factor, m[i] if has_m else one, v[i] if has_v else one)
            w[i] = x
            if has_m:
                m[i] = mean
            if has_v:
                v[i] = square
            if together:
                average[i] = ema * average[i] + (one - ema) * x

    @numba.njit(parallel=parallel, fastmath=True)  # type: ignore[untyped-decorator]
    def squares(g: Any) -> float:
        total = 0.0
        for i in numba.prange(g.size):
            total += g[i] * g[i]
        return total

    return loop, squares
