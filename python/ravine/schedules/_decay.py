"""Rates that fall exponentially, hyperbolically, by a polynomial or in stairs."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from ravine._settings import Number, flag
from ravine.schedules._schedule import (
    LearningRateSchedule,
    above_0,
    at_least,
    finite,
    power,
    text_or_none,
)


class ExponentialDecay(LearningRateSchedule):
    """Exponential decay: ``initial_learning_rate * decay_rate ** (step / decay_steps)``.

    Formula and arguments of
    https://keras.io/api/optimizers/learning_rate_schedules/exponential_decay/, in double.

    Parameters
    ----------
    initial_learning_rate : float
        The rate of step 0.
    decay_steps : float above 0
        Steps in which the rate is multiplied by `decay_rate` once.
    decay_rate : float of at least 0
    staircase : bool, default False
        Whether the exponent is rounded down to a whole number.
    name : str, optional

    Raises
    ------
    ValueError
        If a number is not finite or out of its range.

    Examples
    --------
    >>> import ravine
    >>> rate = ravine.schedules.ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)
    >>> rate(0), rate(10), rate(20)
    (0.1, 0.05, 0.025)
    """

    def __init__(
        self,
        initial_learning_rate: Number,
        decay_steps: Number,
        decay_rate: Number,
        staircase: bool = False,
        name: str | None = "ExponentialDecay",
    ) -> None:
        self.initial_learning_rate = finite("initial_learning_rate", initial_learning_rate)
        self.decay_steps = above_0("decay_steps", decay_steps)
        self.decay_rate = at_least(0, "decay_rate", decay_rate)
        self.staircase = flag("staircase", staircase)
        self.name = text_or_none("name", name)

    def __call__(self, step: Number) -> float:
        """Return the rate of one step."""
        exponent = finite("step", step) / self.decay_steps
        if self.staircase:
            exponent = math.floor(exponent)
        return self.initial_learning_rate * power(self.decay_rate, exponent)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, by name."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class InverseTimeDecay(LearningRateSchedule):
    """Hyperbolic decay: ``initial_learning_rate / (1 + decay_rate * step / decay_steps)``.

    Formula and arguments of
    https://keras.io/api/optimizers/learning_rate_schedules/inverse_time_decay/, in double.

    Parameters
    ----------
    initial_learning_rate : float
        The rate of step 0.
    decay_steps : float above 0
    decay_rate : float of at least 0
    staircase : bool, default False
        Whether ``step / decay_steps`` is rounded down to a whole number.
    name : str, optional

    Raises
    ------
    ValueError
        If a number is not finite or out of its range.

    Examples
    --------
    >>> import ravine
    >>> rate = ravine.schedules.InverseTimeDecay(0.5, decay_steps=10, decay_rate=1)
    >>> rate(0), rate(10), rate(30)
    (0.5, 0.25, 0.125)
    """

    def __init__(
        self,
        initial_learning_rate: Number,
        decay_steps: Number,
        decay_rate: Number,
        staircase: bool = False,
        name: str | None = "InverseTimeDecay",
    ) -> None:
        self.initial_learning_rate = finite("initial_learning_rate", initial_learning_rate)
        self.decay_steps = above_0("decay_steps", decay_steps)
        self.decay_rate = at_least(0, "decay_rate", decay_rate)
        self.staircase = flag("staircase", staircase)
        self.name = text_or_none("name", name)

    def __call__(self, step: Number) -> float:
        """Return the rate of one step."""
        periods = finite("step", step) / self.decay_steps
        if self.staircase:
            periods = math.floor(periods)
        divisor = 1 + self.decay_rate * periods
        return self.initial_learning_rate / divisor if divisor else math.inf

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, by name."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class PolynomialDecay(LearningRateSchedule):
    """Decay by a polynomial, to a rate that then stays.

    ``(initial_learning_rate - end_learning_rate) * (1 - step / decay_steps) ** power +
    end_learning_rate``, up to step `decay_steps`. Formula and arguments of
    https://keras.io/api/optimizers/learning_rate_schedules/polynomial_decay/, in double.

    Parameters
    ----------
    initial_learning_rate : float
        The rate of step 0.
    decay_steps : float above 0
        The step from which on the rate is `end_learning_rate`.
    end_learning_rate : float, default 0.0001
    power : float of at least 0, default 1.0
    cycle : bool, default False
        Begin again after `decay_steps`, each time lower: in place of `decay_steps` stands its next
        multiple, at which the rate is `end_learning_rate`.
    name : str, optional

    Raises
    ------
    ValueError
        If a number is not finite or out of its range.

    Examples
    --------
    >>> import ravine
    >>> rate = ravine.schedules.PolynomialDecay(0.5, decay_steps=8, end_learning_rate=0, power=2)
    >>> rate(0), rate(4), rate(8), rate(100)
    (0.5, 0.125, 0.0, 0.0)
    """

    def __init__(
        self,
        initial_learning_rate: Number,
        decay_steps: Number,
        end_learning_rate: Number = 0.0001,
        power: Number = 1.0,
        cycle: bool = False,
        name: str | None = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate = finite("initial_learning_rate", initial_learning_rate)
        self.decay_steps = above_0("decay_steps", decay_steps)
        self.end_learning_rate = finite("end_learning_rate", end_learning_rate)
        self.power = at_least(0, "power", power)
        self.cycle = flag("cycle", cycle)
        self.name = text_or_none("name", name)

    def __call__(self, step: Number) -> float:
        """Return the rate of one step."""
        now, end = finite("step", step), self.decay_steps
        if self.cycle:
            end *= max(1, math.ceil(now / end))
        left = max(0.0, 1 - now / end)  # a multiple of the end, rounded, can be before the step
        distance = self.initial_learning_rate - self.end_learning_rate
        return distance * power(left, self.power) + self.end_learning_rate

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, by name."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
            "cycle": self.cycle,
            "name": self.name,
        }


class PiecewiseConstantDecay(LearningRateSchedule):
    """A rate for each stretch of steps.

    ``values[k]``, where ``k`` boundaries lie before the step: a boundary is the last step of its
    stretch. Arguments of
    https://keras.io/api/optimizers/learning_rate_schedules/piecewise_constant_decay/.

    Parameters
    ----------
    boundaries : sequence of float
        Strictly increasing; may be empty.
    values : sequence of float
        One more than there are boundaries.
    name : str, optional

    Raises
    ------
    ValueError
        If a number is not finite, the boundaries do not increase or there are not as many values as
        stretches.

    Examples
    --------
    >>> import ravine
    >>> rate = ravine.schedules.PiecewiseConstantDecay([100, 200], [0.5, 0.25, 0.125])
    >>> rate(100), rate(101), rate(1000)
    (0.5, 0.25, 0.125)
    """

    def __init__(
        self,
        boundaries: Sequence[Number],
        values: Sequence[Number],
        name: str | None = "PiecewiseConstant",
    ) -> None:
        self.boundaries = _all_finite("boundaries", boundaries)
        self.values = _all_finite("values", values)
        self.name = text_or_none("name", name)
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"boundaries must be increasing. Received: {self.boundaries}.")
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                "There must be one value more than boundaries. "
                f"Received: {len(self.values)} values, {len(self.boundaries)} boundaries."
            )

    def __call__(self, step: Number) -> float:
        """Return the rate of one step."""
        return self.values[bisect_left(self.boundaries, finite("step", step))]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, by name."""
        return {
            "boundaries": list(self.boundaries),
            "values": list(self.values),
            "name": self.name,
        }


def _all_finite(name: str, values: Sequence[Number]) -> list[float]:
    try:
        listed = list(values)
    except TypeError:
        raise ValueError(f"{name} must be a list of numbers. Received: {values!r}.") from None
    return [finite(f"{name}[{i}]", value) for i, value in enumerate(listed)]
