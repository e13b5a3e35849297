"""Learning rates as functions of the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ravine._serialized import CustomObjects, class_and_config, serialized
from ravine.schedules._cosine import CosineDecay, CosineDecayRestarts
from ravine.schedules._decay import (
    ExponentialDecay,
    InverseTimeDecay,
    PiecewiseConstantDecay,
    PolynomialDecay,
)
from ravine.schedules._schedule import LearningRateSchedule

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "deserialize",
    "serialize",
]

_KNOWN: dict[str, type[LearningRateSchedule]] = {
    each.__name__: each
    for each in (
        CosineDecay,
        CosineDecayRestarts,
        ExponentialDecay,
        InverseTimeDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
    )
}


def serialize(learning_rate_schedule: LearningRateSchedule) -> dict[str, Any]:
    """Return a schedule as a dictionary that `deserialize`, and Keras's, reads.

    Parameters
    ----------
    learning_rate_schedule : LearningRateSchedule

    Returns
    -------
    dict
        In the form of Keras: ``module``, ``class_name``, ``config`` and ``registered_name``.

    Raises
    ------
    ValueError
        If it is no schedule, or one without ``get_config``.

    Examples
    --------
    >>> import ravine
    >>> data = ravine.schedules.serialize(ravine.schedules.CosineDecay(0.5, 100))
    >>> data["module"], data["class_name"]
    ('keras.optimizers.schedules', 'CosineDecay')
    """
    if not isinstance(learning_rate_schedule, LearningRateSchedule):
        raise ValueError(
            f"Only a LearningRateSchedule can be serialized. Received: {learning_rate_schedule!r}."
        )
    return serialized(learning_rate_schedule, "keras.optimizers.schedules")


def deserialize(
    config: Mapping[str, Any], custom_objects: CustomObjects | None = None
) -> LearningRateSchedule:
    """Make a schedule from what `serialize`, or Keras's, returned.

    Parameters
    ----------
    config : dict
        With the key ``class_name``, and ``config`` with the arguments. It is not modified.
    custom_objects : dict, optional
        Classes of your own, by name.

    Raises
    ------
    ValueError
        If the class is not known, or `config` is not of this form.

    Examples
    --------
    >>> import ravine
    >>> data = ravine.schedules.serialize(ravine.schedules.CosineDecay(0.5, 100))
    >>> ravine.schedules.deserialize(data)(50)
    0.25
    """
    cls, arguments = class_and_config(
        config, "learning rate schedule", LearningRateSchedule, _KNOWN, custom_objects
    )
    return cls.from_config(arguments)
