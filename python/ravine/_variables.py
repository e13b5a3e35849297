"""The variables of one optimizer: their names, their order, and finding them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any, TypeAlias

import numpy as np

from ravine._arrays import (
    AnyArray,
    bindable,
    copy,
    describe,
    memory_key,
    shape_and_type,
)
from ravine._cuda import ReadOnlyError

Variables: TypeAlias = Sequence[AnyArray] | Mapping[str, AnyArray]
Gradient: TypeAlias = AnyArray | float | None
Gradients: TypeAlias = Sequence[Gradient] | Mapping[str, Gradient]


class BuiltVariables:
    """Arrays in the order given to ``build``, each known by its memory and by a name.

    Parameters
    ----------
    variables : list, tuple or dict of arrays
        The keys of a dict are the names; otherwise they are ``variable_0``, ``variable_1``, ...

    Attributes
    ----------
    arrays : list of arrays
        As they were given.
    bound : list of arrays
        The same, but for arrays that only DLPack leads to: those are CuPy arrays here.
    names : list of str
    """

    def __init__(self, variables: Variables) -> None:
        self._has_keys = isinstance(variables, Mapping)
        if isinstance(variables, Mapping):
            self.arrays = list(variables.values())
            self._keys: list[Any] = list(variables)
        elif isinstance(variables, (list, tuple)):
            self.arrays = list(variables)
            self._keys = [f"variable_{i}" for i in range(len(variables))]
        else:
            raise TypeError(
                "The variables must be a list, a tuple or a dict of arrays. "
                f"Received: {type(variables).__name__}."
            )
        self.names = [str(key) for key in self._keys]
        if len(set(self.names)) < len(self.names):
            raise ValueError(
                "The keys of the variables are their names, as text, and no two may have the same "
                f"name. Received: {self._keys}."
            )
        self.bound = [self._bindable(index) for index in range(len(self.arrays))]
        self._index: dict[tuple[object, ...], int] = {}
        self._memory: list[tuple[object, ...]] = []

    def _bindable(self, index: int) -> Any:
        try:
            return bindable(self.arrays[index])
        except ReadOnlyError:
            raise ValueError(
                f"Variables are updated in place, and variable {index} ({self.names[index]!r}) is "
                "read-only. Pass a writable array."
            ) from None

    def __len__(self) -> int:
        return len(self.arrays)

    def as_given(self) -> Variables:
        """Return the arrays in a dict if they were given in one, else in a list."""
        return self._with_keys(self.arrays)

    def _with_keys(self, arrays: Sequence[AnyArray]) -> Variables:
        return dict(zip(self._keys, arrays, strict=True)) if self._has_keys else [*arrays]

    def counterparts(self, values: Variables) -> Variables:
        """Copy one array for each variable, of its shape and type, named as it is."""
        given = BuiltVariables(values)
        if len(given) != len(self) or (given._has_keys and given.names != self.names):
            raise ValueError(
                f"Pass a value for each variable, in the order given to build(): {self.names}. "
                f"Received: {given.names}."
            )
        for index, (own, value) in enumerate(zip(self.bound, given.bound, strict=True)):
            if shape_and_type(value) != shape_and_type(own):
                raise ValueError(
                    f"The value of variable {index} ({self.names[index]!r}) must be an "
                    f"{describe(own)}. Received: {describe(value)}."
                )
        return self._with_keys([copy(array) for array in given.bound])

    def remember(self) -> None:
        """Note where and how the arrays lie, which others may change."""
        self._memory = [*map(memory_key, self.bound)]

    def check_unchanged(self) -> None:
        """Raise a ValueError if an array lies elsewhere or otherwise than was noted."""
        for index, (array, memory) in enumerate(zip(self.bound, self._memory, strict=True)):
            if memory_key(array) != memory:
                raise ValueError(
                    f"Variable {index} ({self.names[index]!r}) was resized, or given another shape "
                    f"or type, after build(): it is an {describe(array)} now. Make a new optimizer."
                )

    def check_writable(self) -> None:
        """Raise a ValueError if an array of NumPy was made read-only."""
        for index, array in enumerate(self.bound):
            if isinstance(array, np.ndarray) and not array.flags.writeable:
                raise ValueError(
                    f"Variable {index} ({self.names[index]!r}) was made read-only after build(). "
                    "Make it writable."
                )

    def same_as(self, other: BuiltVariables) -> bool:
        """Whether both are the same arrays, in the same order, under the same names."""
        return self.names == other.names and [*map(memory_key, self.bound)] == [
            *map(memory_key, other.bound)
        ]

    def index(self, array: object) -> int:
        """Position of an array; ValueError if it is not one of these."""
        if not self._index:
            self._index = {memory_key(own): i for i, own in enumerate(self.bound)}
        found = self._index.get(memory_key(bindable(array)))
        if found is None:
            raise ValueError(
                f"Unknown variable: {describe(array)}. This optimizer was built for "
                f"{self.names}. Variables are updated in place and known by their memory: pass the "
                "arrays given to build(), or make a new optimizer."
            )
        return found

    def in_order(self, grads: Gradients, variables: Variables | None) -> list[Gradient]:
        """Gradients in the order of the variables, None for those without."""
        if is_nothing(grads):
            return []
        if variables is None:
            return self._values(grads)
        if isinstance(grads, Mapping) != isinstance(variables, Mapping):
            raise TypeError("Pass gradients and variables both as lists or both as dicts.")
        if isinstance(grads, Mapping) and isinstance(variables, Mapping):
            _require_same_keys(grads, variables)
            return self.in_order([grads[key] for key in variables], list(variables.values()))
        gradients, arrays = _listed(grads), list(variables)
        if len(gradients) != len(arrays):
            raise ValueError(
                "There must be as many gradients as variables. "
                f"Received: {len(gradients)} gradients, {len(arrays)} variables."
            )
        if len(arrays) == len(self) and all(map(is_, arrays, self.arrays)):
            return gradients
        return self._scatter(gradients, arrays)

    def _values(self, grads: Gradients) -> list[Gradient]:
        if not isinstance(grads, Mapping):
            return _listed(grads)
        _require_same_keys(grads, dict.fromkeys(self._keys))
        return [grads[key] for key in self._keys]

    def _scatter(self, gradients: list[Any], arrays: list[Any]) -> list[Gradient]:
        result: list[Gradient] = [None] * len(self)
        seen: set[int] = set()
        for gradient, array in zip(gradients, arrays, strict=True):
            index = self.index(array)
            if index in seen:
                raise ValueError(f"Variable {index} ({self.names[index]!r}) is listed twice.")
            seen.add(index)
            result[index] = gradient
        return result


def is_nothing(grads: Gradients) -> bool:
    """Whether these are gradients, and none: then a step does nothing."""
    return isinstance(grads, (list, tuple, Mapping)) and not grads


def unzipped(pairs: Sequence[Any]) -> tuple[list[Gradient], list[AnyArray]]:
    """Return gradients and variables, each in a list, of pairs."""
    try:
        grads, variables = zip(*pairs, strict=True)
    except (TypeError, ValueError):
        is_pair = [isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs]
        other = is_pair.index(False)
        raise ValueError(
            "apply_gradients() takes pairs of gradient and variable, as zip(gradients, variables) "
            f"makes them. Received, at place {other}: {type(pairs[other]).__name__}."
        ) from None
    return list(grads), list(variables)


def _listed(grads: object) -> list[Gradient]:
    if isinstance(grads, (list, tuple)):
        return list(grads)
    raise TypeError(
        f"The gradients must be a list, a tuple or a dict. Received: {type(grads).__name__}."
    )


def _require_same_keys(grads: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
    missing = [str(key) for key in variables if key not in grads]
    unknown = [str(key) for key in grads if key not in variables]
    if missing or unknown:
        raise ValueError(
            "The gradients must have the keys of the variables, with None for a missing gradient. "
            f"Missing: {missing}. Unknown: {unknown}."
        )
