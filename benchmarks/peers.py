"""The same updates by others, each on the very arrays that ravine updates.

A peer is a function that makes one step. Those that clip, decay and average do it as their users
would: by the calls that the library offers, before and after its step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Arrays = list[np.ndarray]
Step = Callable[[], None]

RATE, MOMENTUM, RHO, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.9, 0.9, 0.999, 1e-7
DECAY, CLIP, EMA = 1e-2, 1.0, 0.99


def numpy_peers(rule: str, variables: Arrays, grads: Arrays) -> Iterator[tuple[str, Step]]:
    """Plain NumPy, with ``out=``: no temporaries beyond two that are kept."""
    slots = [[np.zeros_like(w) for w in variables] for _ in range(2)]
    first = [np.empty_like(w) for w in variables]
    second = [np.empty_like(w) for w in variables]

    def sgd(w: Any, g: Any, v: Any, _: Any, a: Any, b: Any) -> None:
        np.multiply(g, RATE, out=a)
        np.multiply(v, MOMENTUM, out=v)
        np.subtract(v, a, out=v)
        np.multiply(v, MOMENTUM, out=b)
        np.subtract(b, a, out=b)
        np.add(w, b, out=w)

    def rmsprop(w: Any, g: Any, v: Any, _: Any, a: Any, b: Any) -> None:
        np.multiply(v, RHO, out=v)
        np.multiply(g, g, out=a)
        np.multiply(a, 1 - RHO, out=a)
        np.add(v, a, out=v)
        np.add(v, EPSILON, out=a)
        np.sqrt(a, out=a)
        np.multiply(g, RATE, out=b)
        np.divide(b, a, out=b)
        np.subtract(w, b, out=w)

    def nadam(w: Any, g: Any, m: Any, v: Any, a: Any, b: Any) -> None:
        np.subtract(g, m, out=a)
        np.multiply(a, 1 - BETA_1, out=a)
        np.add(m, a, out=m)
        np.multiply(g, g, out=a)
        np.subtract(a, v, out=a)
        np.multiply(a, 1 - BETA_2, out=a)
        np.add(v, a, out=v)
        np.multiply(m, 0.9 * RATE, out=a)
        np.multiply(g, 0.5 * RATE, out=b)
        np.add(a, b, out=a)
        np.multiply(v, 1.1, out=b)
        np.sqrt(b, out=b)
        np.add(b, EPSILON, out=b)
        np.divide(a, b, out=a)
        np.subtract(w, a, out=w)

    update = {"nesterov": sgd, "rmsprop": rmsprop, "nadam": nadam}[rule]

    def step() -> None:
        for arrays in zip(variables, grads, *slots, first, second, strict=True):
            update(*arrays)

    yield "numpy out=", step


def torch_peers(
    rule: str, variables: Arrays, grads: Arrays, options: bool, threads: int
) -> Iterator[tuple[str, Step]]:
    """PyTorch's optimizers: one array after the other, foreach, and fused where there is one."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)

    def parameters() -> list[Any]:
        result = []
        for w, g in zip(variables, grads, strict=True):
            parameter = torch.nn.Parameter(torch.from_numpy(w))
            parameter.grad = torch.from_numpy(g)
            result.append(parameter)
        return result

    decay = {"weight_decay": DECAY} if options else {}
    makers: dict[str, Callable[..., Any]] = {
        "nesterov": lambda p, **how: torch.optim.SGD(
            p, RATE, momentum=MOMENTUM, nesterov=True, **decay, **how
        ),
        "rmsprop": lambda p, **how: torch.optim.RMSprop(
            p, RATE, alpha=RHO, eps=EPSILON, **decay, **how
        ),
        "nadam": lambda p, **how: torch.optim.NAdam(
            p, RATE, eps=EPSILON, decoupled_weight_decay=options, **decay, **how
        ),
    }
    ways: dict[str, dict[str, bool]] = {
        "torch": {"foreach": False},
        "torch foreach": {"foreach": True},
    }
    if rule == "nesterov":
        ways["torch fused"] = {"fused": True}
    for name, how in ways.items():
        own = parameters()
        optimizer = makers[rule](own, **how)
        averages = [parameter.detach().clone() for parameter in own] if options else []

        def step(own: Any = own, optimizer: Any = optimizer, averages: Any = averages) -> None:
            if averages:
                torch.nn.utils.clip_grad_norm_(own, CLIP, foreach=True)
            optimizer.step()
            if averages:
                torch._foreach_lerp_(averages, [p.detach() for p in own], 1 - EMA)

        yield name, step
