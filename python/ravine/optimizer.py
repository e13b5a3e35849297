"""What all optimizers share: options, the call that steps, averages, configuration, state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self, TypeVar, Unpack

import numpy as np

from ravine import _core, _learning_rate, _state, schedules
from ravine._arrays import Array, zeros_like_each
from ravine._learning_rate import LearningRate
from ravine._options import Options, complete, full_signature
from ravine._settings import CallableSetting, Setting, count, flag, number, optional
from ravine._variables import (
    BuiltVariables,
    DecayExclusions,
    Gradient,
    Gradients,
    Variables,
)

Loss = TypeVar("Loss")


class Optimizer:
    """Base of all optimizers, with the options that they share.

    Semantics and names are those of Keras 3 (https://keras.io/api/optimizers/). Variables are the
    caller's own NumPy arrays and are updated in place, in one pass over memory and one native call
    for all of them.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
        A schedule is called with the number of calls of `apply` so far, a callable without
        arguments; both once a step. Any finite number.
    weight_decay : float, optional
        Decay of the variables, ``w -= w * weight_decay * learning_rate``, before each update.
    clipnorm : float above 0, optional
        Upper bound of the Euclidean norm of each gradient.
    clipvalue : float above 0, optional
        Bound, on both sides, of each element of each gradient.
    global_clipnorm : float above 0, optional
        Upper bound of the norm of all gradients together. At most one way of clipping is given.
    use_ema : bool, default False
        Whether to keep an exponential moving average of each variable,
        ``average = ema_momentum * average + (1 - ema_momentum) * w``, started by the value after
        the first update.
    ema_momentum : float in [0, 1], default 0.99
    ema_overwrite_frequency : int of at least 1, optional
        After every so many updates the variables are overwritten by their averages.
    loss_scale_factor : float in [1e-37, 1e37], optional
        Factor that the caller multiplies the loss by (`scale_loss`); gradients are divided by it.
    gradient_accumulation_steps : int of at least 1, optional
        Calls of `apply` that make one update, by the mean of their gradients. A variable is updated
        if it received a gradient in any of them.
    name : str, optional
        Must not contain a slash.

    Raises
    ------
    ValueError
        If a number is out of its range, more than one way of clipping or an unknown argument is
        given.
    """

    _native: ClassVar[type[_core.Rule]]
    _default_name: ClassVar[str] = "optimizer"
    _slots_interleaved: ClassVar[bool] = False
    _scalar_state: ClassVar[tuple[str, ...]] = ()

    weight_decay = Setting("_options", optional(number))
    clipnorm = Setting("_options", optional(number))
    clipvalue = Setting("_options", optional(number))
    global_clipnorm = Setting("_options", optional(number))
    use_ema = Setting("_options", flag)
    ema_momentum = Setting("_options", number)
    ema_overwrite_frequency = Setting("_options", optional(count))
    loss_scale_factor = Setting("_options", optional(number))
    gradient_accumulation_steps = Setting("_options", optional(count))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__signature__ = full_signature(cls, cls._default_name)  # type: ignore[attr-defined]

    def __init__(self, learning_rate: LearningRate, **options: Unpack[Options]) -> None:
        if not hasattr(type(self), "_native"):
            raise TypeError("Optimizer is the base of all optimizers: use SGD, RMSprop or Nadam.")
        self._rule = self._native()
        self._options = _core.Options()
        self._callables: dict[str, Callable[[], float]] = {}
        self._calls = 0
        self._plan: _core.Plan | None = None
        self._variables: BuiltVariables | None = None
        self._slots: dict[str, list[Array]] = {}
        self._averages: list[Array] = []
        self._accumulators: list[Array] = []
        self._exclusions = DecayExclusions()
        self._has_warned = False

        values = complete(options)
        name = values.pop("name")
        self.name = self._default_name if name is None else name
        if not isinstance(self.name, str) or "/" in self.name:
            raise ValueError(f"name must be a string without a slash. Received: {name!r}.")
        for option, value in values.items():
            setattr(self, option, value)
        self._learning_rate = _learning_rate.checked(learning_rate)

    # -- variables and state ------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether `build` was called."""
        return self._plan is not None

    def build(self, variables: Variables) -> None:
        """Bind the variables and make the state that goes with them.

        Parameters
        ----------
        variables : list, tuple or dict of arrays
            NumPy arrays of type float32, float64, float16 or bfloat16 (ml_dtypes), of any shape and
            strides. They are kept and updated in place. The keys of a dict are their names in
            messages, exclusions and checkpoints.

        Raises
        ------
        TypeError
            If one is not an array of these types.
        ValueError
            If one is read-only, two share memory, or the optimizer was built for others.

        Notes
        -----
        The state of float64 variables is float64, that of all others float32. Building again for
        the same variables changes nothing.
        """
        new = BuiltVariables(variables)
        if self._variables is not None:
            if new.same_as(self._variables):
                return
            raise ValueError(
                f"This optimizer was built for the variables {self._variables.names}. Make a new "
                "one for others."
            )
        _core.Plan(new.names, new.arrays, [], None, None)  # checks them, before any memory is taken
        excluded = self._exclusions.excluded(new)
        kinds = list(self._rule.slots)
        has_accumulators = (self.gradient_accumulation_steps or 1) > 1
        made = zeros_like_each(new.arrays, len(kinds) + self.use_ema + has_accumulators)
        slots = made[: len(kinds)]
        averages = made[len(kinds)] if self.use_ema else []
        accumulators = made[-1] if has_accumulators else []
        plan = _core.Plan(
            new.names,
            new.arrays,
            slots,
            averages if self.use_ema else None,
            accumulators if has_accumulators else None,
        )
        self._plan, self._variables = plan, new
        self._slots = dict(zip(kinds, slots, strict=True))
        self._averages, self._accumulators = averages, accumulators
        self._set_exclusions(excluded)

    @property
    def variables(self) -> list[Array]:
        """All state, in the order of Keras.

        The iteration, the learning rate if it is a number, the averages, the gradient accumulators,
        the slots, and Nadam's momentum product. Scalars are copies; the others are the arrays that
        steps update.
        """
        rate = self._learning_rate
        slots = list(self._slots.values())
        if self._slots_interleaved:
            slots = [list(group) for group in zip(*slots, strict=True)]
        return [
            np.array(self._calls, np.int64),
            *([np.array(rate)] if isinstance(rate, float) else []),
            *self._averages,
            *self._accumulators,
            *(array for group in slots for array in group),
            *(np.array(getattr(self._rule, name)) for name in self._scalar_state if self.built),
        ]

    @property
    def iterations(self) -> int:
        """How many updates were made; with accumulation, of whole windows."""
        return self._calls // (self.gradient_accumulation_steps or 1)

    @property
    def learning_rate(self) -> float:
        """The rate of the next step. May be set to a number, a schedule or a callable at any time."""
        return _learning_rate.at_step(self._learning_rate, self._calls)

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        self._learning_rate = _learning_rate.checked(value)

    # -- stepping -----------------------------------------------------------------------------

    def apply(self, grads: Gradients, trainable_variables: Variables | None = None) -> None:
        """Make one step: update the variables in place, or accumulate.

        Parameters
        ----------
        grads : list, tuple or dict of arrays
            One gradient for each variable, of its shape and any floating type, in the order given
            to `build`, or a dict with the same keys. None for a missing one: that variable is left
            alone, but still averaged. Gradients are only read. Empty: nothing happens.
        trainable_variables : list, tuple or dict of arrays, optional
            The variables that the gradients belong to: some or all of those given to `build`, in
            any order. Builds the optimizer on first use.

        Raises
        ------
        TypeError
            If a gradient is not an array of a floating type.
        ValueError
            If a gradient does not fit its variable or shares memory with what is written, if all
            are None, or if the optimizer was not built. Nothing has been changed then.

        Examples
        --------
        >>> import numpy as np, ravine
        >>> w = np.array([1.0, 2.0], np.float32)
        >>> optimizer = ravine.SGD(learning_rate=0.5)
        >>> optimizer.build([w])
        >>> optimizer.apply([np.array([1.0, 1.0], np.float32)])
        >>> w
        array([0.5, 1.5], dtype=float32)
        """
        plan = self._plan
        if trainable_variables is not None or type(grads) is not list or plan is None:
            grads = self._in_order(grads, trainable_variables)
            plan = self._plan
        if not grads or plan is None:
            return
        rate = self._learning_rate
        if type(rate) is not float:
            rate = _learning_rate.at_step(rate, self._calls)
        if self._callables:
            self._resolve_callables()
        present = plan.step(self._rule, self._options, rate, self._calls, grads)
        self._calls += 1
        if present != len(grads) and not self._has_warned:
            self._warn_about_missing(grads)

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Gradient, Array]]) -> int:
        """Make one step from pairs of gradient and variable.

        Parameters
        ----------
        grads_and_vars : iterable of pairs
            As `apply` takes them, paired.

        Returns
        -------
        int
            Calls so far, this one included.

        Raises
        ------
        ValueError
            As `apply`; also if there are no pairs.
        """
        pairs = list(grads_and_vars)
        if not pairs:
            raise ValueError("apply_gradients() needs at least one pair of gradient and variable.")
        grads, variables = zip(*pairs, strict=True)
        self.apply(list(grads), list(variables))
        return self._calls

    def minimize(
        self,
        loss: Callable[[], tuple[Loss, Gradients]] | None = None,
        variables: Variables | None = None,
        *,
        value_and_grad: Callable[[Variables], tuple[Loss, Gradients]] | None = None,
    ) -> Loss:
        """Compute a loss and its gradients, and make one step.

        Parameters
        ----------
        loss : callable
            Without arguments; returns the loss and the gradients.
        variables : list, tuple or dict of arrays
        value_and_grad : callable, instead of `loss`
            Called with the variables; returns the loss and the gradients, as the functions do that
            automatic differentiation makes.

        Returns
        -------
        The loss.

        Examples
        --------
        >>> import numpy as np, ravine
        >>> w = np.array(10.0)
        >>> ravine.RMSprop(learning_rate=0.1).minimize(lambda: (w**2 / 2, [w * 1.0]), [w])
        np.float64(50.0)
        >>> round(float(w), 6)
        9.683772
        """
        if variables is None or (loss is None) == (value_and_grad is None):
            raise ValueError("minimize() needs variables, and either loss or value_and_grad.")
        if loss is not None:
            value, grads = loss()
        elif value_and_grad is not None:
            value, grads = value_and_grad(variables)
        self.apply(grads, variables)
        return value

    def scale_loss(self, loss: Loss) -> Loss:
        """Multiply a loss by `loss_scale_factor`, if there is one."""
        factor = self.loss_scale_factor
        return loss if factor is None else loss * factor  # type: ignore[operator,no-any-return]

    # -- weight decay and averages ------------------------------------------------------------

    def exclude_from_weight_decay(
        self, var_list: Iterable[Array] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Choose variables that weight decay leaves alone, from the next step on.

        Parameters
        ----------
        var_list : iterable of arrays, optional
        var_names : iterable of str, optional
            Regular expressions, searched for anywhere in the names of the variables.

        Raises
        ------
        ValueError
            If an array is not one of the variables, or a string is empty or no regular expression.

        Notes
        -----
        Each call replaces the choice of the last.
        """
        exclusions = DecayExclusions(var_list or (), var_names or ())
        excluded = exclusions.excluded(self._variables) if self._variables is not None else []
        self._exclusions = exclusions
        self._set_exclusions(excluded)

    def finalize_variable_values(self, trainable_variables: Variables | None = None) -> None:
        """Overwrite variables by their averages, at the end of training.

        Parameters
        ----------
        trainable_variables : list, tuple or dict of arrays, optional
            Some of the variables; all if not given.

        Notes
        -----
        Does nothing without `use_ema`, and before the first update, when there are no averages.
        """
        if not self.use_ema or self.iterations == 0 or self._variables is None:
            return
        if trainable_variables is None:
            self._plan_or_raise().overwrite_with_averages()
            return
        for index in map(self._variables.index, BuiltVariables(trainable_variables).arrays):
            self._variables.arrays[index][...] = self._averages[index]

    @contextmanager
    def averaged_variables(self) -> Iterator[None]:
        """Let the variables hold their averages inside a ``with`` block, to evaluate them.

        Examples
        --------
        >>> import numpy as np, ravine
        >>> w = np.array([1.0])
        >>> optimizer = ravine.SGD(learning_rate=1.0, use_ema=True, ema_momentum=0.5)
        >>> optimizer.apply([np.array([1.0])], [w])
        >>> optimizer.apply([np.array([1.0])], [w])
        >>> with optimizer.averaged_variables():
        ...     print(w)
        [-0.5]
        >>> w
        array([-1.])
        """
        arrays = [] if self._variables is None else self._variables.arrays
        before = [array.copy() for array in arrays]
        self.finalize_variable_values()
        try:
            yield
        finally:
            for array, value in zip(arrays, before, strict=True):
                array[...] = value

    # -- configuration and state --------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, by name, as JSON can hold them.

        Returns
        -------
        dict
            In the form of Keras; with ``exclude_from_weight_decay`` if there are exclusions.
        """
        config: dict[str, Any] = {
            "name": self.name,
            "learning_rate": _learning_rate.serialize(self._learning_rate),
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }
        for setting in self._hyperparameters():
            config[setting.name] = getattr(self._rule, setting.name)
        exclusions = self._exclusions.get_config(self._variables)
        if exclusions is not None:
            config["exclude_from_weight_decay"] = exclusions
        return config

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        custom_objects: dict[str, type[schedules.LearningRateSchedule]] | None = None,
    ) -> Self:
        """Make an optimizer from what `get_config`, or that of Keras's optimizer, returned.

        Parameters
        ----------
        config : dict
            It is not modified.
        custom_objects : dict, optional
            Classes of learning rate schedules of your own, by name.
        """
        arguments = dict(config)
        exclusions = arguments.pop("exclude_from_weight_decay", None)
        if isinstance(arguments.get("learning_rate"), Mapping):
            arguments["learning_rate"] = schedules.deserialize(
                arguments["learning_rate"], custom_objects
            )
        optimizer = cls(**arguments)
        if exclusions is not None:
            optimizer._exclusions = DecayExclusions((), **exclusions)
        return optimizer

    def state_dict(self) -> dict[str, Array]:
        """Copy the state into a flat dictionary of arrays, as `numpy.savez` stores them.

        Returns
        -------
        dict
            ``iteration``, ``learning_rate`` if it is a number, and for each variable its slots,
            average and accumulator as ``"<kind>/<name of the variable>"``. The variables themselves
            are the caller's and not part of it.
        """
        return _state.state_dict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Write back what `state_dict` returned.

        Parameters
        ----------
        state : mapping of arrays
            Of an optimizer of the same class, built for variables of the same names and shapes.

        Raises
        ------
        ValueError
            If it does not fit, or this optimizer was not built. Nothing has been changed then.

        Notes
        -----
        A learning rate that is a schedule or a callable stays as it is.
        """
        _state.load_state_dict(self, state)

    # -- inside -------------------------------------------------------------------------------

    def _in_order(self, grads: Gradients, variables: Variables | None) -> list[Gradient]:
        if self._variables is None:
            if len(grads) == 0:
                return []
            if variables is None:
                raise ValueError(
                    "The optimizer does not know its variables yet. Call build(variables) or pass "
                    "them to apply()."
                )
            self.build(variables)
        assert self._variables is not None
        return self._variables.in_order(grads, variables)

    def _plan_or_raise(self) -> _core.Plan:
        if self._plan is None:
            raise ValueError("The optimizer has no state yet. Call build(variables) first.")
        return self._plan

    def _check_built_for(self, setting: str) -> None:
        """Refuse a change, after `build`, that would need other state than was made there."""
        if self._plan is None:
            return
        if (
            self._rule.slots != tuple(self._slots)
            or (self._options.use_ema and not self._averages and self._variables)
            or (
                (self._options.gradient_accumulation_steps or 1) > 1
                and not self._accumulators
                and self._variables
            )
        ):
            raise ValueError(
                f"{setting} cannot be changed so after build(), which made the arrays of state "
                "for the old value. Make a new optimizer."
            )

    def _resolve_callables(self) -> None:
        for setting in self._hyperparameters():
            if setting.name in self._callables and isinstance(setting, CallableSetting):
                setting.resolve(self)

    def _set_exclusions(self, excluded: list[bool]) -> None:
        for index, is_excluded in enumerate(excluded):
            self._plan_or_raise().set_decays(index, not is_excluded)

    def _warn_about_missing(self, grads: list[Gradient]) -> None:
        assert self._variables is not None
        names = [
            name for name, grad in zip(self._variables.names, grads, strict=True) if grad is None
        ]
        self._has_warned = True
        warnings.warn(
            f"Some variables have no gradient and are not updated: {names}. This is said once.",
            stacklevel=3,
        )

    @classmethod
    def _hyperparameters(cls) -> list[Setting[Any]]:
        """Settings of the rule, in the order in which the class names them."""
        return [
            setting
            for setting in vars(cls).values()
            if isinstance(setting, Setting) and setting.holder == "_rule"
        ]
