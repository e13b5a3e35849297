"""State as a flat dictionary or a list: copied out, checked, and written back as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import numpy as np

from ravine import _core, _learning_rate
from ravine._arrays import AnyArray, Array, copies_beside, copy_to_host, in_file, to_host, write
from ravine._cuda import synchronize

if TYPE_CHECKING:
    from ravine._buildable import Buildable


def live_state(optimizer: Buildable) -> dict[str, Any]:
    """Return all state by key: copies of the scalars, and the very arrays that a step updates.

    Nothing is at work on those of a GPU when it returns.
    """
    built = optimizer._built_state()
    wait(optimizer)
    state: dict[str, Any] = {
        "class_name": np.array(type(optimizer).__name__),
        **optimizer._entries(),
    }
    if built.accumulators is not None:
        window = optimizer.gradient_accumulation_steps or 1
        state["gradient_accumulation_steps"] = np.array(window, np.int64)
        state["received"] = np.array(built.plan.received, bool)
    if (scale := optimizer._loss_scale) is not None:
        state["dynamic_scale"] = np.array(scale.dynamic_scale, np.float32)
        state["step_counter"] = np.array(scale.step_counter, np.int64)
    return state


def state_dict(optimizer: Buildable) -> dict[str, Array]:
    """Copy the state: see `Optimizer.state_dict`."""
    return {key: copy_to_host(array) for key, array in live_state(optimizer).items()}


def load_state_dict(optimizer: Buildable, state: Mapping[str, Any]) -> None:
    """Write a state back: see `Optimizer.load_state_dict`."""
    if not isinstance(state, Mapping):
        raise TypeError(
            "load_state_dict() takes what state_dict() returned, a dict of arrays. Received: "
            f"{type(state).__name__}. Nothing was loaded."
        )
    given = _apart(optimizer, {key: to_host(value) for key, value in state.items()})
    check_loadable(optimizer, given)
    _touch(optimizer)
    state_before = live_state(optimizer)
    before = dict(zip(state_before, copies_beside([*state_before.values()]), strict=True))
    try:
        _write(optimizer, given)
    except BaseException:  # a copy to a GPU that failed, an interrupt
        _write(optimizer, before)
        raise


def _touch(optimizer: Buildable) -> None:
    """Have state that is new written first by the threads that will update it, not by this one.

    Not in files: all that is touched there is written to the disk.
    """
    assert optimizer._variables is not None
    if not any(map(in_file, optimizer._variables.bound)):
        optimizer._built_state().plan.touch_state()


def _apart(optimizer: Buildable, state: dict[str, Array]) -> dict[str, Array]:
    """Copy what lies in the very memory that is going to be written."""
    own = {id(_owner(a)) for a in optimizer._entries().values() if isinstance(a, np.ndarray)}
    return {key: a.copy() if id(_owner(a)) in own else a for key, a in state.items()}


def _owner(array: Array) -> object:
    while isinstance(array.base, np.ndarray):  # more than one step, for a view of a memmap
        array = array.base
    return array if array.base is None else array.base


def _write(optimizer: Buildable, state: Mapping[str, Array]) -> None:
    built, scale = optimizer._built_state(), optimizer._loss_scale
    scalars = {"iteration", "learning_rate", *optimizer._scalar_state}
    for key, array in optimizer._entries().items():
        if key not in scalars:
            write(array, state[key])
    optimizer._rule.calls = int(state["iteration"])
    for name in optimizer._scalar_state:
        setattr(optimizer._rule, name, float(state[name]))
    if "received" in state:
        built.plan.received = [bool(value) for value in state["received"]]
    if scale is not None:
        scale.dynamic_scale = float(state["dynamic_scale"])
        scale.step_counter = int(state["step_counter"])
    # A rate that is a schedule or a function is no state: it stays, whatever was saved.
    if "learning_rate" in state and isinstance(optimizer._learning_rate, float):
        optimizer.learning_rate = _number(state["learning_rate"])
    optimizer._rates_end = 0
    built.plan.write_progress(optimizer._rule, scale)
    wait(optimizer)


def _number(rate: Array) -> float:
    number = rate.item() if rate.shape == () and rate.dtype != object else rate
    _learning_rate.checked(number)
    return float(number)


def wait(optimizer: Buildable) -> None:
    """Wait for a GPU: the arrays of state may be in use on any stream."""
    if (device := optimizer._built_state().plan.device) is not None:
        synchronize(device)


# --- Lists


def state_of_list(
    optimizer: Buildable, weights: Sequence[AnyArray], scale: Mapping[str, AnyArray]
) -> dict[str, Any]:
    """Turn arrays in the order of `variables` into a state of this optimizer.

    Their types may be narrower than those here, as Keras's are. What no list has is taken from this
    optimizer, or follows from the list; `scale` is what a LossScaleOptimizer adds.
    """
    check_weights(weights)
    own = live_state(optimizer)
    keys = [*optimizer._entries()]
    if len(weights) != len(keys):
        raise ValueError(wrong_number(keys, len(weights)))
    given = {**dict(zip(keys, weights, strict=True)), **scale}
    state = {**own, **{key: _widened(to_host(given[key]), own[key].dtype) for key in given}}
    if "received" in own:
        _check_state(own, state)
        state["received"] = _received(optimizer, state)
    return state


def check_weights(weights: object) -> None:
    """Refuse what is no sequence of arrays."""
    if not isinstance(weights, (Sequence, np.ndarray)) or isinstance(weights, (str, bytes)):
        raise TypeError(
            "set_weights() takes what get_weights() returned, a list of arrays. Received: "
            f"{type(weights).__name__}. Nothing was loaded."
        )


def wrong_number(keys: Sequence[str], received: int) -> str:
    """Say how many arrays were expected."""
    return (
        f"Expected {len(keys)} arrays, in the order of the optimizer's variables: {[*keys]}. "
        f"Received: {received}. Nothing was loaded."
    )


def _widened(value: Array, dtype: np.dtype[Any]) -> Array:
    """Return the value in another type of the same kind, if every number has a place there."""
    same_kind = value.dtype.kind in (dtype.kind, "V")  # bfloat16 is one of NumPy's void types
    if same_kind and np.can_cast(value.dtype, dtype, "safe"):
        return value.astype(dtype, copy=False)
    return value


def _received(optimizer: Buildable, given: Mapping[str, Array]) -> Array:
    """Tell from the accumulators which variables have received a gradient in an open window."""
    kind = "gradient_accumulator/"
    received = [bool(np.any(array)) for key, array in given.items() if key.startswith(kind)]
    window = optimizer.gradient_accumulation_steps or 1
    if int(given["iteration"]) % window == 0 and any(received):
        raise ValueError(
            "The gradient accumulators are not zero, and with gradient_accumulation_steps="
            f"{window} iteration {int(given['iteration'])} begins a window: this was saved with "
            "windows of another length. Nothing was loaded."
        )
    return np.array(received, bool)


# --- Checks


def check_loadable(optimizer: Buildable, given: Mapping[str, Array]) -> None:
    """Refuse a state that does not fit an optimizer, or has numbers that no optimizer has."""
    _check_state(live_state(optimizer), given)
    _number(given.get("learning_rate", np.array(0.0)))
    if optimizer._loss_scale is not None:
        _check_loss_scale(optimizer._loss_scale.copy(), given)


def _check_state(own: Mapping[str, Any], given: Mapping[str, Array]) -> None:
    rate = {"learning_rate"}  # not every state has one
    check_keys(own.keys() - rate, given.keys() - rate)
    if str(given["class_name"]) != str(own["class_name"]):
        raise ValueError(
            f"The state is that of {given['class_name']}, this optimizer is {own['class_name']}. "
            "Nothing was loaded."
        )
    for key, array in own.items():
        if key not in ("class_name", "learning_rate"):
            check_fits(key, array, given[key].shape, given[key].dtype)
    if not 0 <= given["iteration"] < 1 << 62:
        raise ValueError("'iteration' must be at least 0 and below 2**62. Nothing was loaded.")
    if not 0 <= given.get("momentum_product", 1) <= 1:
        raise ValueError("'momentum_product' must be from 0 to 1. Nothing was loaded.")
    window = "gradient_accumulation_steps"
    if window in own and own[window] != given[window]:
        raise ValueError(
            f"The state was saved with {window}={given[window]}, this optimizer has {own[window]}: "
            "the number of updates is counted by it. Nothing was loaded."
        )


def check_keys(own: AbstractSet[str], given: AbstractSet[str]) -> None:
    """Refuse a state that lacks something, or has more than there is a place for."""
    if own != given:
        raise ValueError(
            "The state does not fit this optimizer, nothing was loaded. "
            f"Missing: {sorted(own - given)}. Unknown: {sorted(given - own, key=str)}."
        )


def check_fits(key: str, own: Any, shape: Sequence[int], dtype: object) -> None:
    """Refuse an array of another shape or type."""
    shape = tuple(shape)
    if shape != own.shape or str(dtype) != str(own.dtype):
        raise ValueError(
            f"{key!r} must have shape {own.shape} and dtype {own.dtype}. Received: shape {shape}, "
            f"dtype {dtype}. Nothing was loaded."
        )


def _check_loss_scale(scale: _core.LossScale, given: Mapping[str, Array]) -> None:
    scale.dynamic_scale = float(given["dynamic_scale"])
    scale.step_counter = int(given["step_counter"])
    try:
        scale.check()
    except ValueError as error:
        raise ValueError(f"{error} Nothing was loaded.") from None
