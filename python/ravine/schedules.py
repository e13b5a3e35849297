"""Learning rates as functions of the step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Self

from ravine._settings import flag, number


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
    def __call__(self, step: int) -> float:
        """Return the rate of one step.

        Parameters
        ----------
        step : int
            Calls of ``apply`` before this one; with gradient accumulation, those that only
            accumulated are counted too.
        """

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, by name."""
        raise ValueError(
            f"{type(self).__name__} has no get_config(). Implement it to store the configuration "
            "of an optimizer that uses this schedule."
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a schedule from what `get_config` returned."""
        return cls(**config)


class ExponentialDecay(LearningRateSchedule):
    """Exponential decay: ``initial_learning_rate * decay_rate ** (step / decay_steps)``.

    Formula and arguments of https://keras.io/api/optimizers/learning_rate_schedules/, in double
    precision.

    Parameters
    ----------
    initial_learning_rate : float
        The rate of step 0.
    decay_steps : float above 0
        Steps in which the rate is multiplied by `decay_rate` once.
    decay_rate : float of at least 0
    staircase : bool, default False
        Whether the exponent is rounded down to a whole number.
    name : str, default "ExponentialDecay"

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
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self.initial_learning_rate = _finite("initial_learning_rate", initial_learning_rate)
        self.decay_steps = _finite("decay_steps", decay_steps)
        self.decay_rate = _finite("decay_rate", decay_rate)
        self.staircase = flag("staircase", staircase)
        self.name = name
        if self.decay_steps <= 0:
            raise ValueError(f"decay_steps must be above 0. Received: {decay_steps!r}.")
        if self.decay_rate < 0:
            raise ValueError(f"decay_rate must be at least 0. Received: {decay_rate!r}.")

    def __call__(self, step: int) -> float:
        """Return the rate of one step."""
        exponent = step / self.decay_steps
        if self.staircase:
            exponent = math.floor(exponent)
        try:
            return float(self.initial_learning_rate * self.decay_rate**exponent)
        except OverflowError:
            return math.inf

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, by name."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


def serialize(schedule: LearningRateSchedule) -> dict[str, Any]:
    """Return a schedule as a dictionary that `deserialize` reads.

    Parameters
    ----------
    schedule : LearningRateSchedule

    Returns
    -------
    dict
        In the form of Keras: class name and configuration.
    """
    return {
        "module": "ravine.schedules",
        "class_name": type(schedule).__name__,
        "config": schedule.get_config(),
        "registered_name": None,
    }


def deserialize(
    config: dict[str, Any], custom_objects: dict[str, type[LearningRateSchedule]] | None = None
) -> LearningRateSchedule:
    """Make a schedule from what `serialize`, or Keras's, returned.

    Parameters
    ----------
    config : dict
        With the keys ``class_name`` and ``config``. It is not modified.
    custom_objects : dict, optional
        Classes of your own, by name.

    Raises
    ------
    ValueError
        If the class is not known.
    """
    known: dict[str, type[LearningRateSchedule]] = {"ExponentialDecay": ExponentialDecay}
    known |= custom_objects or {}
    class_name = str(config.get("class_name"))
    if class_name not in known:
        raise ValueError(
            f"Unknown learning rate schedule {class_name!r}. Known: {sorted(known)}. Pass a class "
            "of your own in custom_objects."
        )
    return known[class_name].from_config(config["config"])


def _finite(name: str, value: object) -> float:
    result = number(name, value)
    if not math.isfinite(result):
        raise ValueError(f"{name} must be finite. Received: {value!r}.")
    return result
