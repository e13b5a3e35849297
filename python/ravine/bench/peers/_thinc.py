"""Thinc's optimizers, as spaCy trains with them: one call an array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from ravine.bench.cases import BETA_1, BETA_2, EPSILON, RATE, Case

NEEDS = ("thinc",)


def peers(
    case: Case, variables: list[Any], grads: list[Any], threads: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield one for SGD and Adam in float32, plain: it has no global norm and no other decay."""
    if case.rule not in ("sgd", "adam") or case.dtype != "float32" or case.together:
        return
    thinc = import_module("thinc.api")
    how = {"grad_clip": 0.0, "L2": 0.0, "use_averages": False}
    optimizer = (
        thinc.SGD(RATE, **how)
        if case.rule == "sgd"
        else thinc.Adam(RATE, beta1=BETA_1, beta2=BETA_2, eps=EPSILON, **how)
    )

    def step() -> None:
        for i, (w, g) in enumerate(zip(variables, grads, strict=True)):
            optimizer((i, "w"), w, g)

    yield "thinc", step
