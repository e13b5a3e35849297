"""The learning rate of an optimizer: a number, a schedule or a function, one number a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from ravine import schedules
from ravine._settings import NotANumberError, Number, is_function, number

LearningRate: TypeAlias = Number | schedules.LearningRateSchedule | Callable[[], Number]
Rate: TypeAlias = float | schedules.LearningRateSchedule | Callable[[], Number]


def checked(value: object) -> Rate:
    """Return what may be used as a learning rate, numbers as floats; else raise a ValueError."""
    if isinstance(value, schedules.LearningRateSchedule) or is_function(value):
        return value
    try:
        rate = number("learning_rate", value)
    except NotANumberError:
        raise ValueError(
            "learning_rate must be a number, a LearningRateSchedule or a function without "
            f"arguments. Received: {value!r}."
        ) from None
    return _finite(rate, "learning_rate")


def at_step(rate: Rate, step: int) -> float:
    """Return the number that the rate is at one step."""
    if isinstance(rate, float):
        return rate
    if isinstance(rate, schedules.LearningRateSchedule):
        source = f"The schedule {type(rate).__name__}"
        return _finite(_to_number(rate(step), source), f"{source} at step {step}")
    source = "The function given as learning_rate"
    return _finite(_to_number(rate(), source), source)


def serialize(rate: Rate) -> float | dict[str, Any]:
    """Return the rate as configurations hold it."""
    if isinstance(rate, float):
        return rate
    if isinstance(rate, schedules.LearningRateSchedule):
        return schedules.serialize(rate)
    raise ValueError(
        "A function given as learning_rate cannot be stored in a configuration. Use a "
        "LearningRateSchedule with get_config()."
    )


def _to_number(value: object, source: str) -> float:
    try:
        return number(source, value)
    except NotANumberError:
        raise ValueError(f"{source} must return a number. Received: {value!r}.") from None


def _finite(rate: float, source: str) -> float:
    if not math.isfinite(rate):
        raise ValueError(f"{source} must be a finite number. Received: {rate!r}.")
    return rate
