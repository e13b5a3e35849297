"""The same updates by PyTorch's optimizers: fused, foreach, or compiled.

Its users clip before the step and average after it, by the calls that PyTorch offers. Slots and
averages have the type of the variables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gpu_arrays import ArraySet
from gpu_cases import BETA_1, BETA_2, CLIP, DECAY, EMA, EPSILON, MOMENTUM, RATE, RHO, Case
from gpu_device import Gpu, imported
from timing import Contender, LeftOutError

NAMES = {
    "sgd": "SGD",
    "momentum": "SGD",
    "rmsprop": "RMSprop",
    "centered": "RMSprop",
    "nadam": "NAdam",
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"momentum": MOMENTUM},
    "rmsprop": {"alpha": RHO, "eps": EPSILON},
    "centered": {"alpha": RHO, "eps": EPSILON, "momentum": MOMENTUM, "centered": True},
    "nadam": {"betas": (BETA_1, BETA_2), "eps": EPSILON},
}


def on_stream_of(gpu: Gpu) -> Any:
    """Import PyTorch, and let it work on the stream of the benchmark."""
    torch = imported("torch")
    if not torch.cuda.is_available():
        raise LeftOutError(f"this PyTorch ({torch.__version__}) has no GPU")
    torch.cuda.set_stream(torch.cuda.ExternalStream(gpu.stream.ptr))
    return torch


def tensor(torch: Any, array: Any) -> Any:
    """Return a tensor over the same memory; bfloat16 goes by way of integers."""
    if str(array.dtype) == "bfloat16":
        return torch.from_dlpack(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_dlpack(array)


def step_of(torch: Any, case: Case, arrays: ArraySet, how: dict[str, bool]) -> Callable[[], None]:
    """Make PyTorch's optimizer over one set of arrays; return its step."""
    parameters = []
    for w, g in zip(arrays.variables, arrays.gradients, strict=True):
        parameter = torch.nn.Parameter(tensor(torch, w))
        parameter.grad = tensor(torch, g)
        parameters.append(parameter)
    arguments = {**ARGUMENTS[case.rule], **how}
    if case.options:
        arguments["weight_decay"] = DECAY
        if case.rule == "nadam":
            arguments["decoupled_weight_decay"] = True
    optimizer = getattr(torch.optim, NAMES[case.rule])(parameters, RATE, **arguments)
    if not case.options:
        return optimizer.step
    variables = [parameter.detach() for parameter in parameters]
    averages = [variable.clone() for variable in variables]

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, CLIP, foreach=True)
        optimizer.step()
        torch._foreach_lerp_(averages, variables, 1 - EMA)

    return step


def eager(name: str, how: dict[str, bool], case: Case, sets: list[ArraySet], gpu: Gpu) -> Contender:
    """PyTorch, fused or foreach."""
    torch = on_stream_of(gpu)
    return Contender(name, [step_of(torch, case, arrays, how) for arrays in sets])


def compiled(case: Case, sets: list[ArraySet], gpu: Gpu) -> Contender:
    """Compile the same function, for one set: each set would be compiled anew."""
    torch = on_stream_of(gpu)
    torch._dynamo.reset()
    capturable = {} if NAMES[case.rule] == "SGD" else {"capturable": True}
    step = step_of(torch, case, sets[0], {"foreach": True, **capturable})
    return Contender("torch compile", [torch.compile(step)])
