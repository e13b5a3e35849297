"""What an optimizer keeps: its variables, the state that goes with them, the averages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from ravine import _core
from ravine._arrays import Array
from ravine._configurable import Configurable
from ravine._learning_rate import LearningRate
from ravine._settings import Setting
from ravine._state import State, load_state_dict, make_state, state_dict
from ravine._variables import BuiltVariables, DecayExclusions, Variables


class Buildable(Configurable):
    """Variables and state of an optimizer; `Optimizer` documents the whole."""

    _slots_interleaved: ClassVar[bool] = False
    _scalar_state: ClassVar[tuple[str, ...]] = ()

    def __init__(self, learning_rate: LearningRate, options: Mapping[str, Any]) -> None:
        self._state: State | None = None
        self._plan: _core.Plan | None = None  # of the state, at hand for `apply`
        super().__init__(learning_rate, options)

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
        with self._lock:
            if self._variables is not None:
                if new.same_as(self._variables):
                    return
                raise ValueError(
                    f"This optimizer was built for the variables {self._variables.names}. Make a "
                    "new one for others."
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
        exclusions = DecayExclusions(
            () if var_list is None else var_list, () if var_names is None else var_names
        )
        with self._lock:
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
        with self._lock:
            built = self._variables
            if not self.use_ema or self.iterations == 0 or built is None:
                return
            indices = list(range(len(built)))
            if trainable_variables is not None:
                chosen = BuiltVariables(trainable_variables).arrays
                indices = [built.index(array) for array in chosen]
            self._built_state().plan.overwrite_with_averages(indices)

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
        with self._lock:
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
        with self._lock:
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
        with self._lock:
            load_state_dict(self, state)

    def _built_state(self) -> State:
        if self._state is None:
            raise ValueError("The optimizer has no state yet. Call build(variables) first.")
        return self._state

    def _check_built_for(self, setting: Setting[Any], changed: Any) -> None:
        """Refuse a change, after `build`, that would need other state than was made there."""
        if self._state is None:
            return
        if setting.name == "gradient_accumulation_steps" and self._calls > 0:
            raise ValueError(
                "gradient_accumulation_steps cannot be changed after the first step: the number of "
                "updates is counted by it. Make a new optimizer."
            )
        rule = changed if setting.holder == "_rule" else self._rule
        options = changed if setting.holder == "_options" else self._options
        if not self._state.serves(rule, options):
            raise ValueError(
                f"{setting.name} cannot be changed so after build(), which made the arrays of "
                "state for the old value. Make a new optimizer."
            )

    def _set_exclusions(self, excluded: list[bool]) -> None:
        for index, is_excluded in enumerate(excluded):
            self._built_state().plan.set_decays(index, not is_excluded)
