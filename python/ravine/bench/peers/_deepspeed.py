"""DeepSpeed's Adam for the CPU, which it compiles on first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from ravine.bench.cases import BETA_1, BETA_2, CLIP, DECAY, EMA, EPSILON, RATE, Case
from ravine.bench.peers._torch import _tensor

NEEDS = ("torch", "deepspeed")


def peers(
    case: Case, variables: list[Any], grads: list[Any], threads: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield one, for Adam alone: it has no other of these."""
    if case.rule != "adam":
        return
    torch, adam = import_module("torch"), import_module("deepspeed.ops.adam")
    torch.set_num_threads(threads)
    own = []
    for w, g in zip(variables, grads, strict=True):
        parameter = torch.nn.Parameter(_tensor(torch, w))
        parameter.grad = _tensor(torch, g).clone()  # clipping writes into it
        own.append(parameter)
    optimizer = adam.DeepSpeedCPUAdam(
        own,
        RATE,
        betas=(BETA_1, BETA_2),
        eps=EPSILON,
        weight_decay=DECAY if case.together else 0.0,
        adamw_mode=True,
    )
    averages = [parameter.detach().clone() for parameter in own] if case.together else []

    def step() -> None:
        if averages:
            torch.nn.utils.clip_grad_norm_(own, CLIP, foreach=True)
        optimizer.step()
        if averages:
            torch._foreach_lerp_(averages, [p.detach() for p in own], 1 - EMA)

    yield "deepspeed", step
