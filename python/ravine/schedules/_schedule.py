"""What all schedules are, and how their arguments are checked."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

from ravine._serialized import arguments_in
from ravine._settings import Number, number, optional


class LearningRateSchedule(ABC):
    """A learning rate that depends on how many steps have been made.

    Subclass it, implement ``__call__``, and pass an instance as ``learning_rate``. ``get_config``
    is needed only where the optimizer's configuration is asked for.

    Examples
    --------
    >>> import ravine
    >>> class Halving(ravine.schedules.LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.1 * 0.5**step
    >>> ravine.SGD(learning_rate=Halving()).learning_rate
    0.1
    """

    @abstractmethod
    def __call__(self, step: int) -> Number:
        """Return the rate of one step.

        Parameters
        ----------
        step : int
            Calls of ``apply`` before this one; with gradient accumulation, those that only
            accumulated are counted too. The schedules of this module take any finite number.

        Returns
        -------
        float
            Or what can be read as one: a number of NumPy, an array without axes.
        """

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, by name."""
        raise ValueError(
            f"{type(self).__name__} has no get_config(). Implement it to store the configuration "
            "of an optimizer that uses this schedule."
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make a schedule from what `get_config` returned."""
        return cls(**arguments_in(config))


def finite(name: str, value: object) -> float:
    """Return a finite number as a float; a ValueError names what was wrong."""
    result = number(name, value)
    if not math.isfinite(result):
        raise ValueError(f"{name} must be finite. Received: {value!r}.")
    return result


def above_0(name: str, value: object) -> float:
    """Return a finite number above 0 as a float."""
    result = finite(name, value)
    if result <= 0:
        raise ValueError(f"{name} must be above 0. Received: {value!r}.")
    return result


def at_least(bound: float, name: str, value: object) -> float:
    """Return a finite number that is not below a bound as a float."""
    result = finite(name, value)
    if result < bound:
        raise ValueError(f"{name} must be at least {bound:g}. Received: {value!r}.")
    return result


def text_or_none(name: str, value: object) -> str | None:
    """Return a string or None."""
    return optional(_text)(name, value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string. Received: {value!r}.")
    return value


def power(base: float, exponent: float) -> float:
    """Return a power of a number that is not below 0: infinity where there is none."""
    try:
        return float(base**exponent)
    except (OverflowError, ZeroDivisionError):
        return math.inf
