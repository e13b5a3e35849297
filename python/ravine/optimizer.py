"""What all optimizers do: bind variables, step, average, keep state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Any, ClassVar, TypeVar, Unpack

import numpy as np

from ravine import _core, _learning_rate
from ravine._arrays import Array
from ravine._configurable import Configurable
from ravine._learning_rate import LearningRate
from ravine._options import Options
from ravine._state import State, load_state_dict, make_state, state_dict
from ravine._variables import (
    BuiltVariables,
    DecayExclusions,
    Gradient,
    Gradients,
    Variables,
)

Loss = TypeVar("Loss")


class Optimizer(Configurable):
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

    _slots_interleaved: ClassVar[bool] = False
    _scalar_state: ClassVar[tuple[str, ...]] = ()

    def __init__(self, learning_rate: LearningRate, **options: Unpack[Options]) -> None:
        self._state: State | None = None
        super().__init__(learning_rate, options)
        self._plan: _core.Plan | None = None  # of the state, at hand for `apply`
        self._has_warned = False
        self._lock = RLock()  # two threads may step one optimizer

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
        excluded = self._exclusions.excluded(new)
        self._state = make_state(self._rule, self._options, new)
        self._plan, self._variables = self._state.plan, new
        self._set_exclusions(excluded)

    @property
    def variables(self) -> list[Array]:
        """All state, in the order of Keras.

        The iteration, the learning rate if it is a number, the averages, the gradient accumulators,
        the slots, and Nadam's momentum product. Scalars are copies; the others are the arrays that
        steps update.
        """
        rate = self._learning_rate
        state = [np.array(self._calls, np.int64)]
        if isinstance(rate, float):
            state.append(np.array(rate))
        if self._state is not None:
            slots = list(self._state.slots.values())
            if self._slots_interleaved:
                slots = [list(group) for group in zip(*slots, strict=True)]
            state += [*(self._state.averages or []), *(self._state.accumulators or [])]
            state += [array for group in slots for array in group]
            state += [np.array(getattr(self._rule, name)) for name in self._scalar_state]
        return state

    @property
    def iterations(self) -> int:
        """How many updates were made; with accumulation, of whole windows."""
        return self._calls // (self.gradient_accumulation_steps or 1)

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
        if trainable_variables is not None or type(grads) is not list or self._plan is None:
            grads = self._in_order(grads, trainable_variables)
        plan = self._plan
        if not grads or plan is None:
            return
        with self._lock:
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
        return loss if factor is None else loss * factor  # type: ignore[operator,return-value]

    def exclude_from_weight_decay(
        self, var_list: Iterable[Array] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Choose variables that weight decay leaves alone, from the next step on, and only those.

        Parameters
        ----------
        var_list : iterable of arrays, optional
        var_names : iterable of str, optional
            Regular expressions, searched for anywhere in the names of the variables.

        Raises
        ------
        ValueError
            If an array is not one of the variables, or a string is empty or no regular expression.
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
        averages = None if self._state is None else self._state.averages
        if not self.use_ema or self.iterations == 0 or self._variables is None or averages is None:
            return
        chosen = None if trainable_variables is None else BuiltVariables(trainable_variables).arrays
        if chosen is None:
            self._built_state().plan.overwrite_with_averages()
            return
        for index in [self._variables.index(array) for array in chosen]:
            self._variables.arrays[index][...] = averages[index]

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

    def state_dict(self) -> dict[str, Array]:
        """Copy the state into a flat dictionary of arrays, as `numpy.savez` stores them.

        Returns
        -------
        dict
            ``iteration``, ``learning_rate`` if it is a number, and slots, averages and accumulators
            as ``"<kind>/<name of the variable>"``. The variables themselves are not part of it.
        """
        return state_dict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Write back what `state_dict` returned.

        Parameters
        ----------
        state : mapping of arrays
            Of an optimizer of the same class, built for variables of the same names and shapes. A
            learning rate that is a schedule or a callable stays as it is here.

        Raises
        ------
        ValueError
            If it does not fit, or this optimizer was not built. Nothing has been changed then.
        """
        load_state_dict(self, state)

    def _in_order(self, grads: Gradients, variables: Variables | None) -> list[Gradient]:
        if self._variables is None:
            if isinstance(grads, (list, tuple, Mapping)) and not grads:
                return []
            if variables is None:
                raise ValueError(
                    "The optimizer does not know its variables yet. Call build(variables) or pass "
                    "them to apply()."
                )
            self.build(variables)
            assert self._variables is not None
        return self._variables.in_order(grads, variables)

    def _built_state(self) -> State:
        if self._state is None:
            raise ValueError("The optimizer has no state yet. Call build(variables) first.")
        return self._state

    def _check_built_for(self, setting: str) -> None:
        """Refuse a change, after `build`, that would need other state than was made there."""
        if self._state is not None and not self._state.serves(self._rule, self._options):
            raise ValueError(
                f"{setting} cannot be changed so after build(), which made the arrays of state "
                "for the old value. Make a new optimizer."
            )

    def _set_exclusions(self, excluded: list[bool]) -> None:
        for index, is_excluded in enumerate(excluded):
            self._built_state().plan.set_decays(index, not is_excluded)

    def _warn_about_missing(self, grads: list[Gradient]) -> None:
        assert self._variables is not None
        named = zip(self._variables.names, grads, strict=True)
        names = [name for name, grad in named if grad is None]
        self._has_warned = True
        warnings.warn(
            f"Some variables have no gradient and are not updated: {names}. This is said once.",
            stacklevel=3,
        )
