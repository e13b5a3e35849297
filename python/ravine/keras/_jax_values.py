"""The values of Keras's variables on its jax backend: arrays that never change.

A step makes others. In a compiled program that is given them to keep ("donated"), as that of `fit`,
these have the memory of the old ones: the step is in place. There its numbers are known only as it
runs, and are operands like the arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.experimental.sparse import JAXSparse

from ravine import _core

_TARGET = "ravine_step"
for _platform, _handler in _core.jax_handlers.items():
    jax.ffi.register_ffi_target(_TARGET, _handler, platform=_platform)

_DTYPES = ("float32", "float64", "float16", "bfloat16")


def outside_of_graphs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function: a native step is a part of what is compiled."""
    return function


def copy(value: Any) -> Any:
    """Return an array with the same elements and memory of its own."""
    return jnp.array(value, copy=True)


class Bound:
    """Variables of Keras, to be stepped together.

    Parameters
    ----------
    names : sequence of str
    variables : list of variables
    slots : list of lists of variables
    averages, accumulators : list of variables, optional
    """

    def __init__(
        self,
        names: Sequence[str],
        variables: list[Any],
        slots: list[list[Any]],
        averages: list[Any] | None,
        accumulators: list[Any] | None,
    ) -> None:
        self._names = names
        self._variables = variables
        state = [*slots, *(each for each in (averages, accumulators) if each is not None)]
        self._written = [*variables, *(v for group in state for v in group)]
        self._decays = ""

    def start(self, rule: _core.Rule, decays: Sequence[bool]) -> None:
        """Prepare for steps by a rule, with weight decay of these variables."""
        self._decays = _letters(decays)

    def is_bound(self) -> bool:
        """Whether the next step may be made: it asks the variables for their arrays."""
        return True

    def gradients(self, grads: list[Any]) -> list[Any]:
        """Return gradients as `step` takes them, None for those that are missing."""
        return [None if g is None else self._gradient(i, g) for i, g in enumerate(grads)]

    def _gradient(self, index: int, grad: Any) -> Any:
        if isinstance(grad, JAXSparse):
            kind = type(grad).__name__
            raise TypeError(f"A gradient must be dense. Received: a {kind}. Pass todense() of it.")
        grad = jnp.asarray(grad)
        shape, name = tuple(self._variables[index].shape), self._names[index]
        if grad.dtype.name not in _DTYPES:
            raise TypeError(
                f"Gradient {index} ({name!r}) must have dtype float32, float64, float16 or "
                f"bfloat16. Received: {grad.dtype.name}."
            )
        if grad.shape != shape:
            raise ValueError(
                f"Gradient {index} has shape {grad.shape}, variable {index} ({name!r}) has shape "
                f"{shape}. Pass the gradients in the order of the variables."
            )
        return grad

    def step(
        self,
        rule: _core.Rule,
        options: _core.Options,
        calls: Any,
        learning_rate: Any,
        grads: Sequence[Any],
        product: Any,
    ) -> None:
        """Step all variables: assign to each what it is after the step.

        Parameters
        ----------
        rule : rule
        options : options
        calls : array
            How many steps there were.
        learning_rate : float or array
        grads : sequence
            What `gradients` returns.
        product : variable, optional
            Of the product of the momenta of Nadam.
        """
        written = [*([] if product is None else [product]), *self._written]
        values = [variable.value for variable in written]
        numbers = calls, _rate(learning_rate)
        call = jax.ffi.ffi_call(
            _TARGET,
            [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in values],
            input_output_aliases={len(numbers) + i: i for i in range(len(values))},
        )
        results = call(
            *numbers,
            *values,
            *(grad for grad in grads if grad is not None),
            rule=type(rule).__name__,
            decays=self._decays,
            gradients=_letters(grad is not None for grad in grads),
            **_attributes({**rule.numbers(), **options.numbers()}),
        )
        for variable, value in zip(written, results, strict=True):
            variable.assign(value)

    def number(self, variable: Any) -> Any:
        """Return the number that a variable without axes holds, as an array."""
        return variable.value

    def set_number(self, variable: Any, number: Any) -> None:
        """Set the number that a variable without axes holds, rounded to its type."""
        variable.assign(number)


Stateless = Bound  # in one of Keras's stateless scopes, values come from lists and go to lists


def _letters(flags: Any) -> str:
    return "".join("1" if flag else "0" for flag in flags)


def _attributes(numbers: dict[str, Any]) -> dict[str, Any]:
    """Return numbers in the types that the step expects, whatever JAX's defaults are."""
    types = {float: np.float64, int: np.int64, bool: bool}
    return {name: types[type(number)](number) for name, number in numbers.items()}


def _rate(rate: Any) -> Any:
    """Return a learning rate as an operand: without rounding a number of Python's to 32 bits."""
    if not isinstance(rate, jax.core.Tracer) and not np.isfinite(float(rate)):
        raise ValueError("learning_rate must be finite.")
    if isinstance(rate, float | int | np.generic):
        return np.array([rate], np.float64).view(np.uint32)
    rate = keras.ops.convert_to_tensor(rate)
    return rate if rate.dtype in (np.float32, np.float64) else rate.astype(np.float32)
