"""The state of an optimizer as a flat dictionary of arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ravine._arrays import Array

if TYPE_CHECKING:
    from ravine.optimizer import Optimizer


def state_dict(optimizer: Optimizer) -> dict[str, Array]:
    """Copy the state: see `Optimizer.state_dict`."""
    state: dict[str, Array] = {
        "class_name": np.array(type(optimizer).__name__),
        "iteration": np.array(optimizer._calls, np.int64),
    }
    if isinstance(optimizer._learning_rate, float):
        state["learning_rate"] = np.array(optimizer._learning_rate)
    for name in optimizer._scalar_state:
        state[name] = np.array(getattr(optimizer._rule, name))
    if optimizer._accumulators:
        state["received"] = np.array(optimizer._plan_or_raise().received)
    for key, array in _arrays(optimizer).items():
        state[key] = array.copy()
    return state


def load_state_dict(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Write a state back: see `Optimizer.load_state_dict`."""
    plan = optimizer._plan_or_raise()
    own = state_dict(optimizer)
    given = {key: np.asarray(value) for key, value in state.items()}
    # A rate that is a schedule or a function is no state: it stays, whatever was saved.
    rate = given.pop("learning_rate", None)
    own.pop("learning_rate", None)
    _check(own, given)

    optimizer._calls = int(given["iteration"])
    if rate is not None and isinstance(optimizer._learning_rate, float):
        optimizer.learning_rate = float(rate)
    for name in optimizer._scalar_state:
        setattr(optimizer._rule, name, float(given[name]))
    if "received" in given:
        plan.received = [bool(value) for value in given["received"]]
    for key, array in _arrays(optimizer).items():
        array[...] = given[key]


def _arrays(optimizer: Optimizer) -> dict[str, Array]:
    """All arrays of state by key, the very ones that a step updates."""
    groups = {
        "average": optimizer._averages,
        "gradient_accumulator": optimizer._accumulators,
        **optimizer._slots,
    }
    names = [] if optimizer._variables is None else optimizer._variables.names
    return {
        f"{kind}/{name}": array
        for kind, arrays in groups.items()
        for name, array in zip(names, arrays, strict=False)
    }


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
