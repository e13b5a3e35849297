"""The same updates by CuPy's ElementwiseKernel: one kernel an array, or one for a flat buffer.

The formulas are those of Keras, as in ravine, so that results must agree.
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from gpu_arrays import ArraySet
from gpu_cases import BETA_1, BETA_2, CLIP, DECAY, EMA, EPSILON, MOMENTUM, RATE, RHO, Case
from gpu_device import Gpu
from timing import Contender

# Of one element: gradient x, variable y; the slots are in the order of the formula.
FORMULAS: dict[str, tuple[list[str], str]] = {
    "sgd": ([], "y = y - rate * x;"),
    "momentum": (["v"], "v = mu * v - rate * x; y = y + v;"),
    "rmsprop": (["v"], "v = rho * v + rest * x * x; y = y - rate * x / sqrt(v + epsilon);"),
    "centered": (
        ["v", "a", "m"],
        "v = rho * v + rest * x * x; a = rho * a + rest * x;"
        " m = mu * m + rate * x / sqrt(max(v - a * a, 0.0f) + epsilon); y = y - m;",
    ),
    "nadam": (
        ["m", "v"],
        "m = m + (x - m) * rest_1; v = v + (x * x - v) * rest_2;"
        " y = y - (m_factor * m + x_factor * x) / (sqrt(v * v_factor) + epsilon);",
    ),
}
CLIP_AND_DECAY = "x = x * factor[0]; y = y - y * decay;"
AVERAGE = "average = ema * average + (1 - ema) * y;"


class Numbers:
    """The numbers in a formula, which change from step to step for Nadam."""

    def __init__(self, rule: str, options: bool) -> None:
        names = {"sgd": "rate", "momentum": "rate mu", "rmsprop": "rate rho rest epsilon"}
        names["centered"] = "rate rho rest epsilon mu"
        values = {"rate": RATE, "mu": MOMENTUM, "rho": RHO, "rest": 1 - RHO, "epsilon": EPSILON}
        self._fixed = {name: values[name] for name in names.get(rule, "epsilon").split()}
        if options:
            self._fixed |= {"decay": DECAY * RATE, "ema": EMA}
        self._is_nadam, self._t, self._product = rule == "nadam", 0, 1.0

    def __call__(self) -> dict[str, float]:
        """Return those of the next step, by name."""
        if not self._is_nadam:
            return self._fixed
        self._t += 1
        now, after = (BETA_1 * (1 - 0.5 * 0.96**t) for t in (self._t, self._t + 1))
        self._product *= now
        return self._fixed | {
            "rest_1": 1 - BETA_1,
            "rest_2": 1 - BETA_2,
            "m_factor": RATE * after / (1 - self._product * after),
            "x_factor": RATE * (1 - now) / (1 - self._product),
            "v_factor": 1 / (1 - BETA_2**self._t),
        }


@cache
def kernels(cupy: Any, rule: str, options: bool) -> tuple[Any, Any, Any]:
    """Return the update, the sums of squares of the rows of an array, and the factor from those."""
    slots, formula = FORMULAS[rule]
    numbers = [f"float32 {name}" for name in Numbers(rule, options)()]
    update = cupy.ElementwiseKernel(
        ", ".join(["G g", *["raw float32 factor"] * options, *numbers]),
        ", ".join(["W w", *[f"float32 {name}" for name in [*slots, *["average"] * options]]]),
        f"float x = g; float y = w; {CLIP_AND_DECAY if options else ''} {formula} w = y;"
        + AVERAGE * options,
        f"update_{rule}",
    )
    squares = cupy.ReductionKernel(
        "X x", "float32 y", "float(x) * float(x)", "a + b", "y = a", "0", "squares", "float"
    )
    factor = cupy.ElementwiseKernel(
        "float32 square, float32 clip",
        "float32 factor",
        "factor = square > clip * clip ? clip / sqrt(square) : 1.0f",
        "clip_factor",
    )
    return update, squares, factor


def row_length(size: int) -> int:
    """Return how long rows are of which sums are made: CuPy uses one block for an array of one."""
    length = min(4096, size & -size)
    return length if length >= 64 else size


class Update:
    """Steps over some arrays, with slots of their own."""

    def __init__(self, case: Case, variables: list[Any], gradients: list[Any], gpu: Gpu) -> None:
        cupy = gpu.cupy
        self._update, self._squares, self._factor = kernels(cupy, case.rule, case.options)
        self._numbers = Numbers(case.rule, case.options)
        slots = [
            [cupy.zeros(w.shape, np.float32) for _ in range(case.slots + case.options)]
            for w in variables
        ]
        self._arrays = [*zip(gradients, variables, slots, strict=True)]
        self._has_norm = case.options
        self._rows = [g.reshape(-1, row_length(g.size)) for g in gradients]
        self._sums = cupy.zeros(sum(len(rows) for rows in self._rows), np.float32)
        ends = [*accumulate((len(rows) for rows in self._rows), initial=0)]
        self._own_sums = [self._sums[begin:end] for begin, end in pairwise(ends)]
        self._clip = cupy.zeros(1, np.float32)
        self.launches = len(variables) * (1 + case.options) + 2 * case.options

    def __call__(self) -> None:
        """Make a step."""
        before: list[Any] = []
        if self._has_norm:
            for rows, sums in zip(self._rows, self._own_sums, strict=True):
                self._squares(rows, sums, axis=1)
            self._factor(self._sums.sum(keepdims=True), CLIP, self._clip)
            before = [self._clip]
        numbers = [*self._numbers().values()]
        for g, w, slots in self._arrays:
            self._update(g, *before, *numbers, w, *slots)


def each(case: Case, sets: list[ArraySet], gpu: Gpu) -> Contender:
    """One kernel an array."""
    steps = [Update(case, some.variables, some.gradients, gpu) for some in sets]
    return Contender("cupy each", [*steps], steps[0].launches)


def flat(case: Case, sets: list[ArraySet], gpu: Gpu) -> Contender:
    """One kernel for all arrays, which happen to lie in one piece."""
    steps = [Update(case, [some.flat_variables], [some.flat_gradients], gpu) for some in sets]
    return Contender("cupy flat", [*steps], steps[0].launches)
