"""PyTorch: one array after the other, foreach, fused where there is one, compiled if asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from ravine.bench.cases import BETA_1, BETA_2, CLIP, DECAY, EMA, EPSILON, MOMENTUM, RATE, RHO, Case

NEEDS = ("torch",)


def peers(
    case: Case, variables: list[Any], grads: list[Any], threads: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each way on these very arrays."""
    torch = import_module("torch")
    torch.set_num_threads(threads)
    ways: dict[str, dict[str, bool]] = {
        "torch": {"foreach": False},
        "torch foreach": {"foreach": True},
    }
    if case.rule in ("sgd", "nesterov", "adam"):
        ways["torch fused"] = {"fused": True}
    if os.environ.get("RAVINE_BENCH_COMPILE"):
        ways["torch compiled"] = {"foreach": True}
    for name, how in ways.items():
        yield name, _step(torch, case, variables, grads, how, name == "torch compiled")


def _tensor(torch: Any, array: Any) -> Any:
    if array.dtype.name == "bfloat16":  # NumPy's arrays of it have no way to PyTorch
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(array)


def _step(
    torch: Any, case: Case, variables: list[Any], grads: list[Any], how: Any, is_compiled: bool
) -> Callable[[], object]:
    own = []
    for w, g in zip(variables, grads, strict=True):
        parameter = torch.nn.Parameter(_tensor(torch, w))
        parameter.grad = _tensor(torch, g).clone()  # clipping and foreach write into it
        own.append(parameter)
    decay = {"weight_decay": DECAY} if case.together else {}
    optim, moments = torch.optim, {"betas": (BETA_1, BETA_2), "eps": EPSILON}
    makers: dict[str, Callable[[], Any]] = {
        "sgd": lambda: optim.SGD(own, RATE, **decay, **how),
        "nesterov": lambda: optim.SGD(own, RATE, MOMENTUM, nesterov=True, **decay, **how),
        "rmsprop": lambda: optim.RMSprop(own, RATE, RHO, EPSILON, **decay, **how),
        "nadam": lambda: optim.NAdam(
            own, RATE, decoupled_weight_decay=case.together, **moments, **decay, **how
        ),
        "adam": lambda: (optim.AdamW if case.together else optim.Adam)(
            own, RATE, **moments, **decay, **how
        ),
    }
    optimizer = makers[case.rule]()
    update = torch.compile(optimizer.step) if is_compiled else optimizer.step
    if not case.together:
        return update  # type: ignore[no-any-return]
    averages = [parameter.detach().clone() for parameter in own]

    def step() -> None:
        # Foreach, whatever the optimizer does: it is the faster way.
        torch.nn.utils.clip_grad_norm_(own, CLIP, foreach=True)
        update()
        torch._foreach_lerp_(averages, [p.detach() for p in own], 1 - EMA)

    return step
