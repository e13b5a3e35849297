"""Ravine's own contenders: what limits a step, the step, and the step without Python."""

from __future__ import annotations

from typing import Any

from ravine.bench.cases import RATE, Case
from ravine.bench.race import Run, Samples, repeated

LIMIT, STREAM, DIVIDER = "limit", "stream", "divisions and roots"
RAVINE, ALONE = "ravine", "ravine, C++ alone"


def contenders(case: Case, variables: list[Any], grads: list[Any]) -> dict[str, Run]:
    """Return them, on these arrays.

    The stream: the same arrays, read and written as the step must, in the same chunks and threads,
    with one addition an element, and the gradients read once more where there is a norm. The
    divisions and roots: as many as the formula needs, in the same threads, on a few numbers in the
    first-level cache and without anything else.
    """
    optimizer = case.optimizer()
    optimizer.build(variables)
    optimizer.apply(grads)
    plan, rule, options = optimizer._plan, optimizer._rule, optimizer._options
    assert plan is not None
    return {
        STREAM: lambda repeats: plan.time_streams(options, grads, repeats),
        DIVIDER: lambda repeats: plan.time_divisions(rule, repeats),
        RAVINE: repeated(lambda: optimizer.apply(grads)),
        ALONE: lambda repeats: plan.time_steps(rule, options, RATE, grads, repeats),
    }


def with_limit(samples: Samples) -> Samples:
    """Add the limit of each round: the stream or the divisions and roots, whatever takes longer."""
    rounds = zip(samples[STREAM], samples[DIVIDER], strict=True)
    return {LIMIT: [max(both) for both in rounds], **samples}
