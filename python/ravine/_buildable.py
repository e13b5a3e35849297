"""What an optimizer keeps: its variables, and the state that goes with them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar

import numpy as np

from ravine import _core
from ravine._arrays import AnyArray, Array
from ravine._configurable import Configurable
from ravine._cuda import current_stream
from ravine._learning_rate import LearningRate, Rate
from ravine._missing_gradients import MissingGradients
from ravine._multipliers import METHOD, Multipliers
from ravine._options import levels_to_the_caller
from ravine._saved_state import load_state_dict, state_dict
from ravine._selection import DecayExclusions, Selection
from ravine._settings import Setting
from ravine._state import State, kinds_for, make_state
from ravine._variables import BuiltVariables, Gradient, Variables


class Buildable(Configurable):
    """Variables and state of an optimizer; `Optimizer` documents the whole."""

    _interleaved: ClassVar[tuple[str, ...]] = ()  # slots listed variable by variable
    _scalar_state: ClassVar[tuple[str, ...]] = ()

    def __init__(self, learning_rate: LearningRate, options: Mapping[str, Any]) -> None:
        self._unbind()
        self._on_missing: MissingGradients | None = MissingGradients(self)
        self._loss_scale: _core.LossScale | None = None  # of a LossScaleOptimizer around this one
        super().__init__(learning_rate, options)

    def _unbind(self) -> None:
        self._variables: BuiltVariables | None = None
        self._state: State | None = None
        self._plan: _core.Plan | None = None  # of the state, at hand for `apply`
        self._device: int | None = None  # that of the plan
        self._rates_end = 0  # the call up to which the device has the rates of a schedule
        self._kinds: AbstractSet[str] | None = None  # of state: in a copy those of the original
        self._copied_at: int | None = None  # the number of calls when this was made as a copy

    @property
    def built(self) -> bool:
        """Whether `build` was called."""
        return self._plan is not None

    def build(self, variables: Variables) -> None:
        """Bind the variables and make the state that goes with them.

        Parameters
        ----------
        variables : list, tuple or dict of arrays
            NumPy or CuPy arrays of type float32, float64, float16 or bfloat16 (ml_dtypes), of any
            shape. They are kept and updated in place. NumPy arrays may have any strides. In place
            of CuPy arrays those of any library do that have ``__cuda_array_interface__``, or
            ``__dlpack__``, and may be written; all are on one GPU and without gaps. The keys of a
            dict are their names in messages, exclusions and checkpoints.

        Raises
        ------
        TypeError
            If one is not an array of these types.
        ValueError
            If one is read-only or elsewhere than the first, two share memory, or the optimizer was
            built for others.
        ImportError
            If they are on a GPU and there is no CuPy.
        RuntimeError
            If they are on a GPU and this build or this machine has no CUDA.
        OSError
            If they are in files and there is no room in their folder.

        Notes
        -----
        The state of float64 variables is float64, that of all others float32. Where variables are
        of `numpy.memmap`, opened to be written, it lies where they lie: in a file without a name in
        their folder, that goes when the optimizer goes. To have it in memory, pass
        ``numpy.asarray(variable)``. Where the variables
        are on a GPU it is made by CuPy, in one piece; if the memory does not suffice, CuPy's
        exception says so and the optimizer is as it was. Building again for the same variables
        changes nothing. A copy of an optimizer, also an unpickled one, may be built for others of
        the same names and shapes until its first step: it takes its state there.
        """
        new = self._to_build(variables)
        with self._lock:
            if self._variables is not None:
                if new.same_as(self._variables):
                    return
                if new.names != self._variables.names or self._copied_at != self._calls:
                    raise ValueError(
                        f"This optimizer was built for the variables {self._variables.names}. Make "
                        "a new one for others."
                    )
                self._move(new)
            else:
                self._bind(new)

    def _bind(self, variables: BuiltVariables) -> None:
        excluded = self._exclusions.chosen(variables)
        multipliers = self._multipliers.of(variables)
        state = self._make_state(variables)
        if set(multipliers) != {Multipliers()}:
            state.plan.set_multipliers(multipliers)
        device, rate = state.plan.device, self._learning_rate
        if device is not None and isinstance(rate, float):
            state.plan.set_learning_rate(rate, current_stream(device))
        plan = state.plan
        _exclude(plan, excluded)
        plan.bind_step(self._rule, self._options, self._lock)
        variables.remember()
        # Stores alone, between which no interrupt comes. With an update of the dict of attributes
        # Python would make one, and find each of them more slowly from then on.
        self._state, self._variables, self._plan, self._device = state, variables, plan, device

    def _move(self, variables: BuiltVariables) -> None:
        """Go over to other variables of the same names and shapes, with all state."""
        before, state, kinds = dict(vars(self)), state_dict(self), self._kinds_made()
        self._unbind()
        self._kinds = kinds
        try:
            self.build(variables.as_given())
            load_state_dict(self, state)
        except BaseException:
            vars(self).update(before)
            raise

    @property
    def variables(self) -> list[Array]:
        """All state, in the order of Keras.

        The iteration, the learning rate if it is a number, the averages, the gradient accumulators,
        the slots, what `build` of a subclass has added, and Nadam's momentum product. Scalars are
        copies, of NumPy; the others are the arrays that steps update, CuPy's where the variables
        are on a GPU.
        """
        return list(self._entries().values())

    def exclude_from_weight_decay(
        self, var_list: Iterable[AnyArray] | None = None, var_names: Iterable[str] | None = None
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

        Notes
        -----
        Steps that were captured into a CUDA graph keep the choice of their capture.
        """
        exclusions = DecayExclusions(
            () if var_list is None else var_list, () if var_names is None else var_names
        )
        with self._lock:
            self._replace("_exclusions", exclusions, self._send_exclusions)

    def set_multipliers(
        self,
        var_list: Iterable[AnyArray] | None = None,
        var_names: Iterable[str] | None = None,
        *,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
    ) -> None:
        """Multiply the learning rate and the weight decay for some variables, from now on.

        Parameters
        ----------
        var_list : iterable of arrays, optional
        var_names : iterable of str, optional
            Regular expressions, searched for anywhere in the names of the variables. Without
            `var_list` and `var_names` all variables are meant.
        learning_rate, weight_decay : float, optional
            Finite numbers; 0 is none at all. The variable is updated as by an optimizer with these
            products, of which that with the rate is also a factor of its decay. What is not given
            stays as it was.

        Raises
        ------
        ValueError
            If neither number is given or one is not finite, an array is not one of the variables, a
            string is empty or no regular expression, or a step was captured into a CUDA graph.

        Notes
        -----
        Choices add up, and of two for the same variable the later one counts. Variables of the same
        multipliers are updated together, on a GPU by one launch for each distinct pair of numbers;
        once they are built a change waits for the GPU. Variables that shall not decay are better
        left to `exclude_from_weight_decay`, which costs nothing.

        Examples
        --------
        >>> import numpy as np, ravine
        >>> w = {"backbone": np.ones(2), "head": np.ones(2)}
        >>> optimizer = ravine.SGD(learning_rate=0.1)
        >>> optimizer.set_multipliers(var_names=["backbone"], learning_rate=0.5)
        >>> optimizer.apply({"backbone": np.ones(2), "head": np.ones(2)}, w)
        >>> w
        {'backbone': array([0.95, 0.95]), 'head': array([0.9, 0.9])}
        """
        selection = None
        if var_list is not None or var_names is not None:
            selection = Selection(
                METHOD,
                () if var_list is None else var_list,
                () if var_names is None else var_names,
            )
        with self._lock:
            multipliers = self._multipliers.then(selection, learning_rate, weight_decay)
            self._refuse_capture("Multipliers cannot be set", "Do it before the capture.")
            self._replace("_multipliers", multipliers, self._send_multipliers)

    @property
    def multipliers(self) -> dict[str, Multipliers]:
        """What `set_multipliers` has set: two numbers for each variable, by name, after `build`."""
        if self._variables is None:
            raise ValueError("The optimizer has no variables yet. Call build(variables) first.")
        with self._lock:
            factors = self._multipliers.of(self._variables)
        return dict(zip(self._variables.names, factors, strict=True))

    def _entries(self) -> dict[str, Array]:
        """Return all state by key, in the order of `variables`."""
        entries = {"iteration": np.array(self._calls, np.int64)}
        if isinstance(self._learning_rate, float):
            entries["learning_rate"] = np.array(self._learning_rate)
        if self._state is None or self._variables is None:
            return entries
        names, slots = self._variables.names, self._state.slots
        order = [(kind, i) for i in range(len(names)) for kind in self._interleaved]
        order += [(k, i) for k in slots if k not in self._interleaved for i in range(len(names))]
        for kind, made in self._state.passes.items():
            entries |= {f"{kind}/{n}": array for n, array in zip(names, made, strict=True)}
        entries |= {f"{kind}/{names[i]}": slots[kind][i] for kind, i in order}
        entries |= self._state.added
        return entries | {name: np.array(getattr(self._rule, name)) for name in self._scalar_state}

    def _to_build(self, variables: Variables) -> BuiltVariables:
        return BuiltVariables(variables)

    def _make_state(self, variables: BuiltVariables) -> State:
        return make_state(self._rule, self._kinds_to_make(), variables, self._loss_scale)

    def _kinds_to_make(self) -> AbstractSet[str]:
        """Return what is needed beside each variable, or what there was where this is a copy of."""
        return kinds_for(self._options) if self._kinds is None else self._kinds

    def _kinds_made(self) -> AbstractSet[str] | None:
        return None if self._state is None else {*self._state.passes}

    def _built_variables(self) -> BuiltVariables:
        """Return the variables, which must be as they were when they were bound."""
        self._built_state()
        assert self._variables is not None
        self._variables.check_unchanged()
        return self._variables

    def _built_state(self) -> State:
        if self._state is None:
            raise ValueError("The optimizer has no state yet. Call build(variables) first.")
        return self._state

    @property
    def _calls(self) -> int:
        self._read_progress()
        return self._rule.calls

    def _read_progress(self) -> None:
        """Ask the GPU, if replays of captured steps count there, how many steps there were."""
        plan = self._plan
        if plan is None or self._device is None or not plan.counts_on_device:
            return
        with self._lock:
            self._refuse_capture("The number of steps cannot be read")
            plan.read_progress(self._rule, self._loss_scale)

    def _announce_rate(self, rate: Rate) -> None:
        if self._plan is None or self._device is None:
            return
        self._refuse_capture("learning_rate cannot be set")
        self._rates_end = 0
        if isinstance(rate, float) or self._loss_scale is not None:
            number = rate if isinstance(rate, float) else 0.0  # until `_send_rates`
            self._plan.set_learning_rate(number, current_stream(self._device))
        elif self._plan.counts_on_device:
            raise ValueError(
                "learning_rate must be a number once a step was captured into a CUDA graph: "
                "replays ask no schedule and no function. Set optimizer.learning_rate to a number "
                f"between replays. Received: {rate!r}."
            )

    def _take_loss_scale(self, loss_scale: _core.LossScale) -> None:
        """Step with a loss scale from now on."""
        with self._lock:
            if self._plan is not None:
                self._refuse_capture("A loss scale cannot be added")
                self._read_progress()
                self._plan.prepare(self._rule, loss_scale)
            self.loss_scale_factor = None
            self._loss_scale = loss_scale

    def _refuse_capture(
        self, what: str, instead: str = "Do it before the capture, or after it between replays."
    ) -> None:
        """Raise a ValueError while CuPy's current stream is captured."""
        plan, device = self._plan, self._device
        if plan is not None and device is not None and plan.is_capturing(current_stream(device)):
            raise ValueError(f"{what} while a CUDA graph is captured. {instead}")

    def _check_change(self, setting: Setting[Any], changed: Any) -> None:
        """Refuse a second loss scale and, after `build`, what needs other state than was made."""
        options = changed if setting.holder == "_options" else self._options
        if self._loss_scale is not None and options.loss_scale_factor is not None:
            raise ValueError(
                "loss_scale_factor must stay None inside of a LossScaleOptimizer: the scale is its "
                f"own. Received: {options.loss_scale_factor}."
            )
        if self._state is None:
            return
        if setting.name == "gradient_accumulation_steps" and self._calls > 0:
            raise ValueError(
                "gradient_accumulation_steps cannot be changed after the first step: the number of "
                "updates is counted by it. Make a new optimizer."
            )
        rule = changed if setting.holder == "_rule" else self._rule
        if not self._state.serves(rule, options):
            raise ValueError(
                f"{setting.name} cannot be changed so after build(), which made the arrays of "
                "state for the old value. Make a new optimizer."
            )

    def _replace(self, name: str, value: object, send: Callable[[], None]) -> None:
        """Set an attribute that the plan has, too; also if an interrupt comes, both or neither."""
        before = getattr(self, name)
        try:
            setattr(self, name, value)
            send()
        except BaseException as error:
            setattr(self, name, before)
            if not isinstance(error, Exception):
                send()
            raise

    def _send_exclusions(self) -> None:
        if self._variables is not None:
            _exclude(self._built_state().plan, self._exclusions.chosen(self._variables))

    def _send_multipliers(self) -> None:
        if self._variables is not None:
            self._built_state().plan.set_multipliers(self._multipliers.of(self._variables))

    def _warn_about_missing(self, grads: list[Gradient]) -> None:
        assert self._variables is not None
        named = zip(self._variables.names, grads, strict=True)
        names = [name for name, grad in named if grad is None]
        self._on_missing = None
        warnings.warn(
            f"Some variables have no gradient and are not updated: {names}. This is said once.",
            stacklevel=levels_to_the_caller(),
        )


def _exclude(plan: _core.Plan, excluded: list[bool]) -> None:
    for index, is_excluded in enumerate(excluded):
        plan.set_decays(index, not is_excluded)
