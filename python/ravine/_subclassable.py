"""What an optimizer of the user's own is written with; `Optimizer` documents the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from types import MappingProxyType
from typing import Any
from weakref import WeakMethod

import numpy as np

from ravine import _attributes, _core
from ravine._arrays import (
    Array,
    initialize,
    is_numeric,
    on_gpu,
    widest_dtype,
    zeros,
    zeros_like_each,
)
from ravine._buildable import Buildable
from ravine._cuda import synchronize
from ravine._python_plan import PythonPlan
from ravine._savable import Savable
from ravine._state import State, make_state
from ravine._variables import BuiltVariables, Variables

Build = Callable[[Any, Any], None]

# Keys of the state, whether or not these settings have it: beside variables, and on their own.
_KINDS = ("average", "gradient_accumulator")
_SCALARS = (
    *("class_name", "iteration", "learning_rate", "received", "gradient_accumulation_steps"),
    *("dynamic_scale", "step_counter"),
)


class Subclassable(Savable):
    """Variables of its own, and a rule in Python, for a subclass."""

    _building: BuiltVariables | None = None  # while the `build` of a subclass runs
    _set_by_build: Mapping[str, Any] = MappingProxyType({})  # attributes as they were before it

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "build" in vars(cls):
            cls.build = _whole(vars(cls)["build"])  # type: ignore[assignment]
        if cls._has_own_rule() and not hasattr(cls, "_native"):
            cls._native = _core.HandedOver

    @classmethod
    def _has_own_rule(cls) -> bool:
        return cls.update_step is not Subclassable.update_step

    def update_step(self, gradient: Any, variable: Any, learning_rate: float) -> None:
        """Update one variable in place: for subclasses to override.

        That of a native class, `SGD` for instance, may be called from there, by ``super()``.

        Parameters
        ----------
        gradient : array
            Unscaled, accumulated and clipped. Of the arithmetic type of the variable: float64 for
            float64, otherwise float32. It lasts until the step is done.
        variable : array
            A copy of the variable, of its shape and arithmetic type, decayed. What it holds when
            the step is done is written to the variable, rounded once.
        learning_rate : float
            That of this call times the multiplier of the variable, in double: `ravine.ops.cast`
            rounds it.

        Notes
        -----
        It returns nothing: if it does, the step is a TypeError.
        """
        if not self._has_own_rule() or self._native is _core.HandedOver:
            raise TypeError(
                f"update_step() of {type(self).__name__} cannot be called: only that of a native "
                "class can, by the one that overrides it in a subclass. Call apply()."
            )
        if not isinstance(self._plan, PythonPlan):
            raise ValueError("The optimizer has no variables yet. Call build(variables) first.")
        self._plan.update_natively(gradient, variable, learning_rate)

    def add_variable(
        self,
        shape: int | Sequence[int],
        initializer: Any = "zeros",
        dtype: Any = None,
        *,
        name: str | None = None,
    ) -> Array:
        """Make an array that is part of the state of the optimizer, in `build`.

        Parameters
        ----------
        shape : int or sequence of int
            ``()`` for a number.
        initializer : {"zeros", "ones"}, number or array, default "zeros"
            What it holds at first.
        dtype : dtype, optional
            Of integers, floats or booleans. If not given, float64 where a variable is float64,
            otherwise float32.
        name : str, optional
            Its key in `state_dict`, "variable" if not given. With a number behind it if it is
            taken.

        Returns
        -------
        array
            Of NumPy, or of CuPy where the variables are on a GPU.

        Raises
        ------
        ValueError
            If it is not called in `build`, after ``super().build(variables)``, or an argument does
            not fit.
        """
        state, variables = self._state_in_build("add_variable")
        kind = widest_dtype(variables.bound) if dtype is None else np.dtype(dtype)
        if not is_numeric(kind):
            raise ValueError(
                f"dtype must be one of booleans, integers or floats. Received: {kind.name}."
            )
        array = zeros(shape, kind, state.plan.device)
        return self._add("variable" if name is None else name, None, array, initializer)

    def add_variable_from_reference(
        self, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Array:
        """Make a slot, an array beside a variable, in `build`.

        Parameters
        ----------
        reference_variable : array
            One of the variables.
        name : str, optional
            What the slot is: its key in `state_dict` is this, a slash and the name of the variable.
            "var" if not given. With a number behind it if it is taken.
        initializer : {"zeros", "ones"}, number or array, default "zeros"
            What it holds at first.

        Returns
        -------
        array
            Of the shape and the arithmetic type of the variable: float64 for float64, otherwise
            float32.

        Raises
        ------
        ValueError
            As `add_variable`; also if the reference is none of the variables.
        """
        state, variables = self._state_in_build("add_variable_from_reference")
        index = variables.index(reference_variable)
        ((array,),) = zeros_like_each([variables.bound[index]], 1, state.plan.device)
        return self._add("var" if name is None else name, index, array, initializer)

    def add_optimizer_variables(
        self,
        trainable_variables: Sequence[Any],
        name: str | Sequence[str],
        initializer: Any = "zeros",
    ) -> list[Array] | tuple[list[Array], ...]:
        """Make one or more slots for each of some variables, in `build`.

        Parameters
        ----------
        trainable_variables : sequence of arrays
        name : str or sequence of str
            As `add_variable_from_reference` takes it; several for several slots.
        initializer : {"zeros", "ones"}, number, array, or list or tuple of these, default "zeros"
            One for all, or one for each name.

        Returns
        -------
        list of arrays, or tuple of such lists
            A list for a name.

        Raises
        ------
        ValueError
            As `add_variable_from_reference`; also if there are not as many initializers as names.
        """
        names = [name] if isinstance(name, str) else list(name)
        several = isinstance(initializer, (list, tuple))
        initializers = list(initializer) if several else [initializer] * len(names)
        if len(initializers) != len(names):
            raise ValueError(
                "There must be one initializer, or one for each name. "
                f"Received: {len(names)} names, {len(initializers)} initializers."
            )
        slots: tuple[list[Array], ...] = tuple([] for _ in names)
        for variable in trainable_variables:
            for made, kind, value in zip(slots, names, initializers, strict=True):
                made.append(self.add_variable_from_reference(variable, kind, value))
        return slots[0] if isinstance(name, str) else slots

    def assign(self, variable: Any, value: Any) -> None:
        """Write a value into an array, rounded to its type.

        Parameters
        ----------
        variable : array
            A slot, or what `update_step` got.
        value : array or number
            Of the shape of `variable`, or a number.

        Raises
        ------
        TypeError
            If `variable` is no array.
        ValueError
            If the shape is another.
        """
        _check_assignable(variable, value)
        variable[...] = value

    def assign_add(self, variable: Any, value: Any) -> None:
        """Add a value to an array: see `assign`."""
        _check_assignable(variable, value)
        variable[...] = variable + value

    def assign_sub(self, variable: Any, value: Any) -> None:
        """Subtract a value from an array: see `assign`."""
        _check_assignable(variable, value)
        variable[...] = variable - value

    def _get_variable_index(self, variable: Any) -> int:
        """Position of a variable, or of what `update_step` got of it, in the order of `build`."""
        plan, variables = self._plan, self._variables
        if plan is None or variables is None:
            raise ValueError("The optimizer has no variables yet. Call build(variables) first.")
        index = plan.index(variable) if isinstance(plan, PythonPlan) else None
        return variables.index(variable) if index is None else index

    # --- Building

    def _build_whole(self, build: Build, variables: Variables) -> None:
        """Run the `build` of a subclass: once, and in such a way that it is done or not."""
        with self._lock:
            if self._building is not None:  # the subclass of a subclass has called it
                return build(self, variables)
            new = BuiltVariables(variables)
            if self._variables is not None:
                return Buildable.build(self, variables)
            _attributes.set_back(vars(self), self._set_by_build)
            before = _attributes.keep(self._attributes())
            self._building = new
            try:
                build(self, list(new.arrays))
                if self._plan is None:
                    raise ValueError(
                        f"build() of {type(self).__name__} must call super().build(variables)."
                    )
                if self._device is not None:
                    synchronize(self._device)  # the first step may be on any stream
            except BaseException:
                self._unbind()
                raise
            finally:
                self._building = None
                self._set_by_build = _attributes.changes(before, self._attributes())
        return None

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        _attributes.set_back(settings["attributes"], self._set_by_build)  # its `build` sets them
        return settings

    def _to_build(self, variables: Variables) -> BuiltVariables:
        given, building = super()._to_build(variables), self._building
        if building is not None and [*map(id, given.arrays)] == [*map(id, building.arrays)]:
            return building  # it has their names
        return given

    def _make_state(self, variables: BuiltVariables) -> State:
        update_step = WeakMethod(self.update_step) if self._has_own_rule() else None
        return make_state(
            self._rule, self._kinds_to_make(), variables, self._loss_scale, update_step
        )

    def _state_in_build(self, method: str) -> tuple[State, BuiltVariables]:
        if self._building is None or self._state is None or self._variables is None:
            raise ValueError(
                f"{method}() is for the build() of a subclass, after super().build(variables): "
                "the state is complete when that returns."
            )
        return self._state, self._variables

    def _add(self, name: str, index: int | None, array: Array, initializer: Any) -> Array:
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(f"name must be a string without a slash. Received: {name!r}.")
        initialize(array, initializer)
        state, variables = self._state_in_build("add_variable")
        of = "" if index is None else f"/{variables.names[index]}"
        reserved = (*_KINDS, *state.slots) if of else (*_SCALARS, *self._scalar_state)
        numbered, number = name, 0
        while numbered in reserved or f"{numbered}{of}" in state.added:
            number += 1
            numbered = f"{name}_{number}"
        state.added[f"{numbered}{of}"] = array
        if isinstance(state.plan, PythonPlan):
            state.plan.add(array, index)
        return array


def _whole(build: Build) -> Build:
    @wraps(build)
    def whole(self: Subclassable, variables: Variables) -> None:
        self._build_whole(build, variables)

    return whole


def _check_assignable(variable: Any, value: Any) -> None:
    if not isinstance(variable, np.ndarray) and not on_gpu(variable):
        raise TypeError(f"Only arrays can be assigned to. Received: {type(variable).__name__}.")
    shape = tuple(value.shape) if hasattr(value, "shape") else np.shape(value)
    if shape not in ((), tuple(variable.shape)):
        raise ValueError(
            f"What is assigned to an array of shape {tuple(variable.shape)} must have that shape, "
            f"or be a number. Received: shape {shape}."
        )
