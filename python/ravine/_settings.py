"""Numbers and flags that live in native objects and are checked whenever they are set."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeGuard, TypeVar, overload

import numpy as np

from ravine._arrays import AnyArray, on_gpu, to_host
from ravine._cuda import is_capturing, is_dlpack

if TYPE_CHECKING:
    from ravine._configurable import Configurable

T = TypeVar("T")
Number: TypeAlias = float | np.integer[Any] | np.floating[Any] | AnyArray


class NotANumberError(ValueError):
    """A value is of no type that could be a number."""


def number(name: str, value: object) -> float:
    """Return a real number as a float; a ValueError names what was wrong.

    It may be one of Python or NumPy, or in an array without axes of NumPy or CuPy.
    """
    plain = _without_array(name, value)
    if isinstance(plain, (bool, np.bool_)) or not isinstance(plain, Real):
        raise NotANumberError(f"{name} must be a number. Received: {value!r}.")
    try:
        return float(plain)
    except OverflowError:
        raise ValueError(f"{name} must be a finite number. Received: {value!r}.") from None


def _without_array(name: str, value: object) -> object:
    """Return what is in an array without axes, and anything else as it is."""
    if isinstance(value, Real) or getattr(value, "shape", None) != ():
        return value
    if (on_gpu(value) or is_dlpack(value)) and is_capturing():
        raise ValueError(
            f"{name} cannot be read from a GPU while a CUDA graph is captured. Pass a number."
        )
    array = to_host(value)
    # NumPy counts bfloat16, which ml_dtypes brings, as none of its kinds of number.
    return float(array) if array.dtype.name == "bfloat16" else array[()]


def is_function(value: object) -> TypeGuard[Callable[[], Any]]:
    """Whether a value can be called without arguments, as far as it says."""
    if not callable(value):
        return False
    try:
        inspect.signature(value).bind()
    except TypeError:
        return False
    except ValueError:  # some that are written in C do not say
        pass
    return True


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
        value: T = getattr(getattr(optimizer._configured(), self.holder), self.name)
        return value

    def __set__(self, optimizer: Configurable, value: Any) -> None:
        self._store(optimizer._configured(), self._convert(self.name, value))

    def _store(self, optimizer: Configurable, value: T) -> None:
        with optimizer._lock:
            native = getattr(optimizer, self.holder)
            changed = native.copy()
            setattr(changed, self.name, value)
            changed.check()
            optimizer._check_change(self, changed)
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
        with optimizer._lock:
            if is_function(value):
                optimizer._callables[self.name] = value
            elif callable(value):
                raise ValueError(
                    f"{self.name} must be a number or a function without arguments. "
                    f"Received: {value!r}."
                )
            else:
                super().__set__(optimizer, value)
                optimizer._callables.pop(self.name, None)

    def resolve(self, optimizer: Configurable) -> None:
        """Ask the function for the value of this step."""
        value = optimizer._callables[self.name]()
        self._store(optimizer, number(f"{self.name}()", value))
