"""Optimizers by name and as dictionaries."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any

from ravine._serialized import CustomObjects, class_and_config, serialized
from ravine.optimizer import Optimizer


def get(identifier: str | Mapping[str, Any] | Optimizer | None) -> Optimizer | None:
    """Return the optimizer that is meant.

    Parameters
    ----------
    identifier : str, dict, Optimizer or None
        The name of a class, in upper or lower case: one with its defaults is made. A dict: see
        `deserialize`. An optimizer and None are returned as they are.

    Raises
    ------
    ValueError
        If it is anything else, or the class is not known.

    Examples
    --------
    >>> import ravine
    >>> ravine.get("rmsprop").learning_rate
    0.001
    """
    if identifier is None or isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, str):
        return deserialize({"class_name": identifier})
    if isinstance(identifier, Mapping):
        return deserialize(identifier)
    raise ValueError(
        f"An optimizer must be given as an Optimizer, as one of the names {sorted(_known())}, as a "
        f"dict that serialize() returned, or as None. Received: {identifier!r}."
    )


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Return the class and configuration of an optimizer, without its state, as JSON can hold them.

    Parameters
    ----------
    optimizer : Optimizer

    Returns
    -------
    dict
        In the form of Keras: ``module``, ``class_name``, ``config`` and ``registered_name``. Keras
        reads it too, if there are no exclusions from weight decay.

    Raises
    ------
    ValueError
        If it is no optimizer, or its configuration cannot be stored: see `Optimizer.get_config`.

    Examples
    --------
    >>> import ravine
    >>> data = ravine.serialize(ravine.SGD(learning_rate=0.5, momentum=0.9))
    >>> data["class_name"], data["config"]["momentum"]
    ('SGD', 0.9)
    """
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"Only an Optimizer can be serialized. Received: {optimizer!r}.")
    return serialized(optimizer, "keras.optimizers")


def deserialize(
    config: Mapping[str, Any], custom_objects: CustomObjects | None = None
) -> Optimizer:
    """Make an optimizer from what `serialize`, or Keras's, returned.

    Parameters
    ----------
    config : dict
        With the key ``class_name``, in upper or lower case, and ``config`` with the arguments: the
        defaults are taken if it is not there. It is not modified.
    custom_objects : dict, optional
        Classes of your own, by name: optimizers and schedules. They do not take the place of a
        class that the configuration says to be Keras's.

    Raises
    ------
    ValueError
        If a class is not known, an argument is out of its range, or `config` is not of this form.

    Examples
    --------
    >>> import ravine
    >>> data = ravine.serialize(ravine.SGD(learning_rate=0.5, momentum=0.9))
    >>> ravine.deserialize(data).momentum
    0.9
    """
    cls, arguments = class_and_config(
        config, "optimizer", Optimizer, _known(), custom_objects, any_case=True
    )
    if "custom_objects" in inspect.signature(cls.from_config).parameters:
        return cls.from_config(arguments, custom_objects)
    return cls.from_config(arguments)  # a user's own may do without


def _known() -> dict[str, type[Optimizer]]:
    """Return the optimizers that the package exports, by name: a new one needs no line here."""
    classes = [each for each in vars(sys.modules["ravine"]).values() if isinstance(each, type)]
    return {
        cls.__name__: cls for cls in classes if issubclass(cls, Optimizer) and cls is not Optimizer
    }
