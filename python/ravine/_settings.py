"""Numbers and flags that live in native objects and are checked whenever they are set."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

if TYPE_CHECKING:
    from ravine._configurable import Configurable

T = TypeVar("T")


def number(name: str, value: object) -> float:
    """Return a real number as a float; a ValueError names what was wrong."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise ValueError(f"{name} must be a number. Received: {value!r}.")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be a finite number. Received: {value!r}.") from None


def count(name: str, value: object) -> int:
    """Return a whole number as an int."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number. Received: {value!r}.")
    if abs(int(value)) >= 1 << 63:
        raise ValueError(f"{name} must be below 2**63. Received: {value!r}.")
    return int(value)


def flag(name: str, value: object) -> bool:
    """Return True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False. Received: {value!r}.")
    return bool(value)


def optional(convert: Callable[[str, object], T]) -> Callable[[str, object], T | None]:
    """Also accept None."""

    def convert_or_none(name: str, value: object) -> T | None:
        return None if value is None else convert(name, value)

    return convert_or_none


class Setting(Generic[T]):
    """An attribute of an optimizer that is kept by its native rule or its native options.

    Setting it checks it at once: a value that is refused leaves the old one in place.

    Parameters
    ----------
    holder : {"_rule", "_options"}
        The native object.
    convert : callable
        Checks the Python type; the native object checks the range.
    """

    def __init__(self, holder: str, convert: Callable[[str, object], T]) -> None:
        self.holder = holder
        self._convert = convert

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, optimizer: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, optimizer: Configurable, owner: type) -> T: ...
    def __get__(self, optimizer: Configurable | None, owner: type) -> Setting[T] | T:
        if optimizer is None:
            return self
        value: T = getattr(getattr(optimizer, self.holder), self.name)
        return value

    def __set__(self, optimizer: Configurable, value: Any) -> None:
        self._store(optimizer, self._convert(self.name, value))

    def _store(self, optimizer: Configurable, value: T) -> None:
        with optimizer._lock:
            native = getattr(optimizer, self.holder)
            changed = native.copy()
            setattr(changed, self.name, value)
            changed.check()
            optimizer._check_built_for(self, changed)
            setattr(native, self.name, value)


class CallableSetting(Setting[float]):
    """A number, or a function without arguments that is asked for it at every step."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder, number)

    def __get__(self, optimizer: Any, owner: type) -> Any:
        if optimizer is None:
            return self
        function = optimizer._callables.get(self.name)
        return super().__get__(optimizer, owner) if function is None else function

    def __set__(self, optimizer: Configurable, value: Any) -> None:
        if callable(value):
            optimizer._callables[self.name] = value
        else:
            super().__set__(optimizer, value)
            optimizer._callables.pop(self.name, None)

    def resolve(self, optimizer: Configurable) -> None:
        """Ask the function for the value of this step."""
        value = optimizer._callables[self.name]()
        self._store(optimizer, number(f"{self.name}()", value))
