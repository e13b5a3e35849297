"""Ravine's own contenders: the limit, the step, and the step without Python."""

from __future__ import annotations

from typing import Any

from ravine.bench.cases import RATE, Case
from ravine.bench.race import Run, repeated

LIMIT, RAVINE, ALONE = "limit", "ravine", "ravine, C++ alone"


def contenders(case: Case, variables: list[Any], grads: list[Any]) -> dict[str, Run]:
    """Return them, on these arrays.

    The limit is the in-place stream: the same arrays, read and written as the step must, in the
    same chunks and threads, with one addition an element, and the gradients read once more where
    there is a norm.
    """
    optimizer = case.optimizer()
    optimizer.build(variables)
    optimizer.apply(grads)
    plan, rule, options = optimizer._plan, optimizer._rule, optimizer._options
    assert plan is not None
    return {
        LIMIT: lambda repeats: plan.time_streams(options, grads, repeats),
        RAVINE: repeated(lambda: optimizer.apply(grads)),
        ALONE: lambda repeats: plan.time_steps(rule, options, RATE, grads, repeats),
    }
