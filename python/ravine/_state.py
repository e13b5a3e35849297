"""The state of an optimizer: made, written to a flat dictionary of arrays, and read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ravine import _core
from ravine._arrays import Array, on_gpu, to_host, write, zeros_like_each
from ravine._cuda import is_capturing, synchronize
from ravine._variables import BuiltVariables

if TYPE_CHECKING:
    from ravine._buildable import Buildable


class State(NamedTuple):
    """The arrays that go with the variables, and the native plan over all of them.

    The arrays are CuPy's, on the device of the plan, if the variables are on a GPU.
    """

    plan: _core.Plan
    slots: dict[str, list[Array]]
    averages: list[Array] | None
    accumulators: list[Array] | None

    def serves(self, rule: _core.Rule, options: _core.Options) -> bool:
        """Whether a step with these settings finds the arrays that it needs."""
        return (
            rule.slots == tuple(self.slots)
            and (self.averages is not None or not options.use_ema)
            and (self.accumulators is not None or not _accumulates(options))
        )


def make_state(
    rule: _core.Rule,
    options: _core.Options,
    variables: BuiltVariables,
    loss_scale: _core.LossScale | None = None,
) -> State:
    """Check the variables and make the state that these settings need, all zeros."""
    names, arrays = variables.names, variables.bound
    if any(map(on_gpu, arrays)) and is_capturing():
        raise ValueError(
            "The state of an optimizer cannot be made while a CUDA graph is captured. Call "
            "build(variables) before the capture."
        )
    # Checks them, before any memory is taken.
    device = _core.Plan(names, arrays, [], None, None).device
    kinds = rule.slots
    made = zeros_like_each(arrays, len(kinds) + options.use_ema + _accumulates(options), device)
    slots = made[: len(kinds)]
    averages = made[len(kinds)] if options.use_ema else None
    accumulators = made[-1] if _accumulates(options) else None
    plan = _core.Plan(names, arrays, slots, averages, accumulators)
    plan.prepare(rule, loss_scale)  # and wait for the zeros: the first step may be on any stream
    return State(plan, dict(zip(kinds, slots, strict=True)), averages, accumulators)


def _accumulates(options: _core.Options) -> bool:
    return (options.gradient_accumulation_steps or 1) > 1


def state_dict(optimizer: Buildable) -> dict[str, Array]:
    """Copy the state: see `Optimizer.state_dict`."""
    _wait(optimizer)
    arrays = {key: to_host(array).copy() for key, array in _arrays(optimizer).items()}
    return {**_scalars(optimizer), **arrays}


def load_state_dict(optimizer: Buildable, state: Mapping[str, Any]) -> None:
    """Write a state back: see `Optimizer.load_state_dict`."""
    built = optimizer._built_state()
    _wait(optimizer)
    own = {**_scalars(optimizer), **_arrays(optimizer)}
    given = {key: to_host(value) for key, value in state.items()}
    # A rate that is a schedule or a function is no state: it stays, whatever was saved.
    rate = given.pop("learning_rate", None)
    own.pop("learning_rate", None)
    _check(own, given)
    if optimizer._loss_scale is not None:
        _check_loss_scale(optimizer._loss_scale.copy(), given)
    if rate is not None and isinstance(optimizer._learning_rate, float):
        optimizer.learning_rate = rate

    optimizer._rule.calls = int(given["iteration"])
    for name in optimizer._scalar_state:
        setattr(optimizer._rule, name, float(given[name]))
    if "received" in given:
        built.plan.received = [bool(value) for value in given["received"]]
    for key, array in _arrays(optimizer).items():
        write(array, given[key])
    scale = optimizer._loss_scale
    if scale is not None:
        scale.dynamic_scale = float(given["dynamic_scale"])
        scale.step_counter = int(given["step_counter"])
    optimizer._rates_end = 0
    built.plan.write_progress(optimizer._rule, scale)
    _wait(optimizer)


def _wait(optimizer: Buildable) -> None:
    """Wait for a GPU: the arrays of state may be in use on any stream."""
    if (device := optimizer._built_state().plan.device) is not None:
        synchronize(device)


def _scalars(optimizer: Buildable) -> dict[str, Array]:
    """All state that is no array, by key."""
    state: dict[str, Array] = {
        "class_name": np.array(type(optimizer).__name__),
        "iteration": np.array(optimizer._calls, np.int64),
    }
    if isinstance(optimizer._learning_rate, float):
        state["learning_rate"] = np.array(optimizer._learning_rate)
    for name in optimizer._scalar_state:
        state[name] = np.array(getattr(optimizer._rule, name))
    built = optimizer._built_state()
    if built.accumulators is not None:
        state["received"] = np.array(built.plan.received)
    if (scale := optimizer._loss_scale) is not None:
        state["dynamic_scale"] = np.array(scale.dynamic_scale, np.float32)
        state["step_counter"] = np.array(scale.step_counter, np.int64)
    return state


def _arrays(optimizer: Buildable) -> dict[str, Array]:
    """All arrays of state by key, the very ones that a step updates."""
    built = optimizer._built_state()
    groups = {
        "average": built.averages,
        "gradient_accumulator": built.accumulators,
        **built.slots,
    }
    names = [] if optimizer._variables is None else optimizer._variables.names
    return {
        f"{kind}/{name}": array
        for kind, arrays in groups.items()
        if arrays is not None
        for name, array in zip(names, arrays, strict=True)
    }


def _check_loss_scale(scale: _core.LossScale, given: Mapping[str, Array]) -> None:
    scale.dynamic_scale = float(given["dynamic_scale"])
    scale.step_counter = int(given["step_counter"])
    try:
        scale.check()
    except ValueError as error:
        raise ValueError(f"{error} Nothing was loaded.") from None


def _check(own: Mapping[str, Array], given: Mapping[str, Array]) -> None:
    missing, unknown = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or unknown:
        raise ValueError(
            "The state does not fit this optimizer, nothing was loaded. "
            f"Missing: {missing}. Unknown: {unknown}."
        )
    if str(given["class_name"]) != str(own["class_name"]):
        raise ValueError(
            f"The state is that of {given['class_name']}, this optimizer is {own['class_name']}. "
            "Nothing was loaded."
        )
    for key, array in own.items():
        if key != "class_name" and (
            given[key].shape != array.shape or given[key].dtype != array.dtype
        ):
            raise ValueError(
                f"{key!r} must have shape {array.shape} and dtype {array.dtype}. Received: shape "
                f"{given[key].shape}, dtype {given[key].dtype}. Nothing was loaded."
            )
    if not 0 <= given["iteration"] < 1 << 62:
        raise ValueError("'iteration' must be at least 0 and below 2**62. Nothing was loaded.")
    if not 0 <= given.get("momentum_product", 1) <= 1:
        raise ValueError("'momentum_product' must be from 0 to 1. Nothing was loaded.")
