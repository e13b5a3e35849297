"""What makes one of Keras's optimizers ours: its step is one native call, in place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from operator import attrgetter, is_
from typing import Any, ClassVar

import keras

from ravine import _core
from ravine.keras._settings import Settings

_BACKENDS = ("torch", "jax", "numpy")
_backend = keras.backend.backend()
_values: Any = import_module(
    f"ravine.keras._{_backend if _backend in _BACKENDS else 'numpy'}_values"
)
_is_overwritten = attrgetter("overwrite_with_gradient")


def _check_backend(name: str) -> None:
    if _backend not in _BACKENDS:
        raise RuntimeError(
            f"ravine.keras needs Keras's backend torch, jax or numpy. Received: {_backend}, whose "
            "variables cannot be updated in place. Set the environment variable "
            "KERAS_BACKEND=torch before Keras is imported, or use "
            f"keras.optimizers.{name}."
        )
    if _backend == "jax" and not _core.jax_handlers:
        raise RuntimeError(
            "This build of ravine has no step for JAX. Build one with jaxlib's headers: "
            "RAVINE_JAX=1 pip install --force-reinstall --no-deps --no-cache-dir --no-binary "
            "ravine ravine. Or use "
            f"keras.optimizers.{name}."
        )


class Native(keras.optimizers.Optimizer):
    """To be mixed into a class of Keras's, which keeps configuration, variables and checks."""

    _rule: ClassVar[type[_core.Rule]]
    _numbers: ClassVar[tuple[str, ...]]  # of the rule, each an attribute of the optimizer
    _slots: ClassVar[dict[str, str]]  # from the slots of the rule to attributes
    _watched: frozenset[str] = frozenset()  # attributes that the settings are made of

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _check_backend(type(self).__name__)
        super().__init__(*args, **kwargs)
        self._settings = Settings(self, self._rule, self._numbers)
        self._watched = self._settings.names
        self._settings()  # refuses numbers that are out of range
        self._bound: Any = None
        self._bound_slots: tuple[str, ...] = ()
        self._is_stateless = False

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in self._watched:
            self._settings.forget()

    # --- State

    def build(self, variables: Sequence[Any]) -> None:
        """Make the variables of the optimizer, as Keras does.

        Parameters
        ----------
        variables : list of keras.Variable
            Of type float32, float64, float16 or bfloat16. The slots of 16-bit variables are
            float32.
        """
        if self.built:
            return
        super().build(variables)
        self._positions: dict[int, int] = {}  # in the plan, by the id of the variable
        for variable in variables:
            if not _is_overwritten(variable):
                self._positions[id(variable)] = len(self._positions)

    def add_variable(
        self, shape: Any, initializer: Any = "zeros", dtype: Any = None, **options: Any
    ) -> Any:
        """Add a variable to the optimizer, as Keras does, but of at least 32 bits."""
        if dtype is not None and keras.backend.standardize_dtype(dtype) in ("float16", "bfloat16"):
            dtype = "float32"
        return super().add_variable(shape, initializer, dtype, **options)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the values of `variables`, as Keras does."""
        super().set_weights(weights)
        self._bound = None

    def load_own_variables(self, store: Any) -> None:
        """Take up state that was saved, of this class or of Keras's own."""
        super().load_own_variables(store)
        self._bound = None

    def exclude_from_weight_decay(
        self, var_list: Iterable[Any] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Choose variables that weight decay leaves alone, as Keras does, at any time."""
        super().exclude_from_weight_decay(var_list, var_names)
        self._bound = None

    def finalize_variable_values(self, var_list: Iterable[Any]) -> None:
        """Overwrite variables by their averages, unless there was no update yet.

        Parameters
        ----------
        var_list : iterable of keras.Variable
            Some or all of those that the optimizer was built for.
        """
        var_list = list(var_list)
        self._check_variables_are_known(var_list)
        if not self.use_ema or int(self.iterations) == 0:
            return
        for variable in var_list:
            average = self._model_variables_moving_average[self._get_variable_index(variable)]
            if average is not None:
                # Of its own: on jax an array that two variables have cannot be donated.
                variable.assign(_values.copy(average.value))

    # --- Steps

    @_values.outside_of_graphs
    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Make one step, by one native call: update the variables in place, or accumulate.

        Parameters
        ----------
        grads : list of tensors or arrays
            One for each variable, of its shape and any floating type; None for a missing one.
        trainable_variables : list of keras.Variable, optional
            Those that the gradients belong to; builds the optimizer on first use.

        Raises
        ------
        TypeError
            If a gradient is not of a floating type.
        ValueError
            If a gradient does not fit its variable, or all are missing. Nothing has been changed.
        """
        grads = list(grads)
        if not grads:
            return
        variables = self._variables_of(grads, trainable_variables)
        stepped, ordered = variables, grads
        if not self._is_in_order(grads, variables):
            grads, variables = self._filter_empty_gradients(grads, variables)
            pairs = [
                (grad, variable)
                for grad, variable in zip(grads, variables, strict=True)
                if not _is_overwritten(variable)
            ]
            stepped, ordered = [variable for _, variable in pairs], self._ordered(pairs)
        options, rule = self._settings()
        bound = self._bind(rule)
        calls = bound.number(self._iterations)
        if stepped:
            taken = bound.gradients(ordered)
            bound.step(rule, options, calls, self._rate(bound), taken, self._product())
        if len(stepped) < len(variables):
            self._overwrite_variables_directly_with_gradients(grads, variables)
        for variable in stepped:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))
        bound.set_number(self._iterations, calls + 1)

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Sequence[Any], trainable_variables: Any
    ) -> tuple[list[Any], list[Any]]:
        """Compute a step as `apply` does, and return it instead.

        Parameters
        ----------
        optimizer_variables : list of tensors or arrays
            Values of `variables`.
        grads : list of tensors or arrays
        trainable_variables : list of tensors or arrays
            Values of the variables that the optimizer was built for.

        Returns
        -------
        trainable_variables, optimizer_variables : list
            New values. Nothing has been changed.
        """
        self._is_stateless = True
        try:
            result: tuple[list[Any], list[Any]] = super().stateless_apply(
                optimizer_variables, grads, trainable_variables
            )
        finally:
            self._is_stateless = False
        return result

    def _variables_of(self, grads: list[Any], variables: Sequence[Any] | None) -> list[Any]:
        """Return the variables that gradients belong to; build for them if that is yet to do."""
        if variables is None:
            if not self.built:
                raise ValueError(
                    "The optimizer does not know its variables. Call build(trainable_variables), "
                    "or pass them to apply()."
                )
            variables = self._trainable_variables
        variables = list(variables)
        if len(grads) != len(variables):
            raise ValueError(
                f"Expected {len(variables)} gradients, one for each variable, with None for a "
                f"missing one. Received: {len(grads)}."
            )
        if not self.built:
            with keras.name_scope(self.name, caller=self):
                self.build(variables)
        if not self._are_all(variables):
            self._check_variables_are_known(variables)
        return variables

    def _are_all(self, variables: list[Any]) -> bool:
        """Whether these are the variables that the optimizer was built for, in their order."""
        built = self._trainable_variables
        return len(variables) == len(built) and all(map(is_, variables, built))

    def _is_in_order(self, grads: list[Any], variables: list[Any]) -> bool:
        """Whether the gradients are those that the plan takes, as they nearly always are."""
        return (
            len(grads) == len(self._positions)
            and self._are_all(variables)
            and not any(map(_is_overwritten, variables))
            and not any(grad is None for grad in grads)
        )

    def _ordered(self, pairs: list[tuple[Any, Any]]) -> list[Any]:
        """Return the gradients in the order of the plan, None for those that are missing."""
        ordered: list[Any] = [None] * len(self._positions)
        for grad, variable in pairs:
            position = self._positions.get(id(variable))
            if position is None or ordered[position] is not None:
                raise ValueError(
                    f"Variable {variable.path!r} cannot be stepped: it was given twice, or the "
                    "optimizer was built while its overwrite_with_gradient was set."
                )
            ordered[position] = grad
        return ordered

    def _rate(self, bound: Any) -> Any:
        rate = self._learning_rate
        if isinstance(rate, keras.Variable):
            return bound.number(rate)
        return self._get_current_learning_rate()

    def _product(self) -> Any:
        """Return the variable with the product of the momenta, if the rule has one."""
        return None

    def _bind(self, rule: _core.Rule) -> Any:
        """Return the plan over the variables as they are now, made anew if that must be."""
        if self._is_stateless:
            return self._make_plan(rule)
        if self._bound is None or self._bound_slots != rule.slots or not self._bound.is_bound():
            self._bound = self._make_plan(rule)
            self._bound_slots = rule.slots
        return self._bound

    def _make_plan(self, rule: _core.Rule) -> Any:
        variables = self._stepped(self._trainable_variables)
        slots = [self._stepped(getattr(self, self._slots[name], [])) for name in rule.slots]
        for name, found in zip(rule.slots, slots, strict=True):
            if len(found) != len(variables):
                raise ValueError(
                    f"The optimizer was built without the slot {name!r}, which it needs as its "
                    "attributes are now. Make a new optimizer."
                )
        groups = [
            variables,
            slots,
            self._stepped(getattr(self, "_model_variables_moving_average", None)),
            self._stepped(getattr(self, "_accumulated_gradients", None)),
        ]
        names = [variable.path for variable in variables]
        bound = (_values.Stateless if self._is_stateless else _values.Bound)(names, *groups)
        bound.start(rule, [self._use_weight_decay(variable) for variable in variables])
        return bound

    def _stepped(self, kept: Any) -> Any:
        """Of a list with an entry for each variable, choose those of variables with slots."""
        if not kept:
            return kept
        pairs = zip(kept, self._trainable_variables, strict=True)
        return [each for each, variable in pairs if id(variable) in self._positions]
