"""What all optimizers do: make a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, Unpack

from ravine import _learning_rate
from ravine._arrays import AnyArray, Array
from ravine._cuda import current_stream, stream_handle
from ravine._learning_rate import LearningRate, Rate
from ravine._options import Options
from ravine._subclassable import Subclassable
from ravine._variables import Gradient, Gradients, Variables, is_nothing, unzipped
from ravine.schedules import LearningRateSchedule

Loss = TypeVar("Loss")

_RATES_AHEAD = 256


class Optimizer(Subclassable):
    """Base of all optimizers, with the options that they share.

    Semantics and names are those of Keras 3 (https://keras.io/api/optimizers/). Variables are the
    caller's own NumPy or CuPy arrays and are updated in place, in one pass over memory and one
    native call for all of them. NumPy arrays and arrays on a GPU do not go together.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable, default 0.01
        A schedule is called with the number of calls of `apply` so far, a callable without
        arguments; both once a step. Any finite number, of Python, NumPy, or in an array without
        axes; that is read at once, and waited for if it is on a GPU.
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
    TypeError
        If the class has no rule: it is not one of those of ravine and has no `update_step`.
    ValueError
        If a number is out of its range, more than one way of clipping or an unknown argument is
        given.

    Notes
    -----
    A subclass with a formula of its own overrides `update_step`, `build` if it keeps slots, and
    `get_config`; all options work for it. If its `update_step` raises, nothing has been changed:
    therefore it works on copies of the variables, and what `build` has made is copied before each
    step. On a GPU it is called with CuPy arrays, on the stream of the step.

    Examples
    --------
    >>> import numpy as np, ravine
    >>> class Momentum(ravine.Optimizer):
    ...     def build(self, variables):
    ...         super().build(variables)
    ...         self.momentums = self.add_optimizer_variables(variables, "momentum")
    ...
    ...     def update_step(self, gradient, variable, learning_rate):
    ...         m = self.momentums[self._get_variable_index(variable)]
    ...         self.assign(m, m * 0.5 - gradient * learning_rate)
    ...         self.assign_add(variable, m)
    >>> w = np.array([1.0, 2.0], np.float32)
    >>> optimizer = Momentum(0.5, clipvalue=1.0)
    >>> for _ in range(2):
    ...     optimizer.apply_gradients([(np.array([1.0, 3.0], np.float32), w)])
    1
    2
    >>> w
    array([-0.25,  0.75], dtype=float32)
    """

    def __init__(self, learning_rate: LearningRate = 0.01, **options: Unpack[Options]) -> None:
        super().__init__(learning_rate, options)

    def apply(
        self,
        grads: Gradients,
        trainable_variables: Variables | None = None,
        *,
        stream: object = None,
    ) -> None:
        """Make one step: update the variables in place, or accumulate.

        Parameters
        ----------
        grads : list, tuple or dict of arrays
            One gradient for each variable, of its shape and any floating type, in the order given
            to `build`, or a dict with the same keys. None for a missing one: that variable is left
            alone, but still averaged. Gradients are only read. Empty: nothing happens. They are
            where the variables are; on a GPU without gaps, in the memory order of the variable.
        trainable_variables : list, tuple or dict of arrays, optional
            The variables that the gradients belong to: some or all of those given to `build`, in
            any order. Builds the optimizer on first use.
        stream : int or CUDA stream, optional
            For variables on a GPU, the stream that the step is put on: its handle, or an object
            with ``__cuda_stream__`` or ``ptr``. CuPy's current stream if not given. The host does
            not wait for it. A gradient that names another stream is waited for, on the GPU.

        Raises
        ------
        TypeError
            If a gradient is not an array of a floating type.
        ValueError
            If a gradient does not fit its variable or shares memory with what is written, if all
            are None, or if the optimizer was not built. Nothing has been changed then.

        Notes
        -----
        On a GPU a step can be captured into a CUDA graph, after `build`, on a stream other than the
        default one, unless it calls an `update_step` in Python. Replays use the gradients and
        settings of the capture, but for `learning_rate`: that must be a number, and acts on replays
        when it is set. They count: `iterations` and the state are right after them. With
        accumulation the first step that is captured begins a window.

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
        if self._plan is None or self._variables is None:
            return self._build_and_apply(grads, trainable_variables, stream)
        rate = self._learning_rate
        if (  # nothing to be found out first: the plan takes the lock itself, in half the time
            trainable_variables is None
            and type(grads) is list
            and grads
            and type(rate) is float
            and not self._callables
            and self._loss_scale is None
            and self._device is None
            and stream is None
            and self._plan.step_bound(grads, rate, self._on_missing)
        ):
            return None
        if trainable_variables is not None or type(grads) is not list:
            grads = self._variables.in_order(grads, trainable_variables)
        if not grads:
            return None
        with self._lock:
            self._refuse_averages_shown("A step cannot be made")
            step_stream = producer = 0
            if self._device is not None or stream is not None:
                step_stream, producer = self._streams(stream)
            rate = self._learning_rate
            if type(rate) is not float:
                rate = self._rate_of_this_call(rate, step_stream)
            before = self._resolve_callables() if self._callables else {}
            gradients = grads, self._on_missing, step_stream, producer
            try:
                self._plan.step(self._rule, self._options, rate, *gradients, self._loss_scale)
            except Exception:
                self._take_back(before)
                raise
        return None

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[Gradient, AnyArray]], *, stream: object = None
    ) -> int:
        """Make one step from pairs of gradient and variable.

        Parameters
        ----------
        grads_and_vars : iterable of pairs
            As `apply` takes them, paired.
        stream : int or CUDA stream, optional
            As `apply` takes it.

        Returns
        -------
        int
            Calls so far, this one included; replays of captured steps are counted once something
            else, such as `iterations`, has asked the GPU for them.

        Raises
        ------
        TypeError
            As `apply`; also if it is no iterable.
        ValueError
            As `apply`; also if there are no pairs, or something else than pairs.
        """
        if not isinstance(grads_and_vars, Iterable):
            raise TypeError(
                "apply_gradients() takes pairs of gradient and variable, as zip(gradients, "
                f"variables) makes them. Received: {type(grads_and_vars).__name__}."
            )
        pairs = list(grads_and_vars)
        if not pairs:
            raise ValueError("apply_gradients() needs at least one pair of gradient and variable.")
        grads, variables = unzipped(pairs)
        self.apply(grads, variables, stream=stream)
        return self._rule.calls

    def minimize(
        self,
        loss: Callable[[], tuple[Loss, Gradients]] | None = None,
        variables: Variables | None = None,
        *,
        value_and_grad: Callable[[Variables], tuple[Loss, Gradients]] | None = None,
        stream: object = None,
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
        stream : int or CUDA stream, optional
            As `apply` takes it.

        Returns
        -------
        The loss.

        Raises
        ------
        TypeError
            As `apply`; also if it is no function.
        ValueError
            As `apply`; also if there are no variables, not one function, or it returns something
            else than two values.

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
        function = value_and_grad if loss is None else loss
        if not callable(function):
            raise TypeError(
                "minimize() needs a function that returns the loss and the gradients. Received: "
                f"{type(function).__name__}."
            )
        if loss is not None:
            value, grads = _both("loss", loss())
        elif value_and_grad is not None:
            value, grads = _both("value_and_grad", value_and_grad(variables))
        self.apply(grads, variables, stream=stream)
        return value

    def stateless_apply(
        self,
        optimizer_variables: Sequence[AnyArray],
        grads: Gradients,
        trainable_variables: Variables,
    ) -> tuple[Any, list[Array]]:
        """Make the step of `apply` with values that are given, and change nothing.

        Parameters
        ----------
        optimizer_variables : sequence of arrays
            State, in the order of `variables`, as `set_weights` takes it.
        grads : list, tuple or dict of arrays
            As `apply` takes them.
        trainable_variables : list, tuple or dict of arrays
            Values for all variables, of the shapes and types given to `build`, in their order.

        Returns
        -------
        trainable_variables : list or dict of arrays
            The new values, in new arrays, NumPy's or CuPy's, where the given ones are.
        optimizer_variables : list of arrays
            The new state.

        Raises
        ------
        ValueError
            If something does not fit, or this optimizer was not built.

        Notes
        -----
        It makes the arrays of state anew at every call: `apply` is the fast way.

        Examples
        --------
        >>> import numpy as np, ravine
        >>> w = np.array([1.0, 2.0])
        >>> optimizer = ravine.SGD(learning_rate=0.5)
        >>> optimizer.build([w])
        >>> new_w, new_state = optimizer.stateless_apply(optimizer.variables, [np.ones(2)], [w])
        >>> new_w, w, new_state[0], optimizer.iterations
        ([array([0.5, 1.5])], array([1., 2.]), array(1), 0)
        """
        twin, arrays = self._twin(trainable_variables)
        twin.set_weights(optimizer_variables)
        twin.apply(grads)
        if isinstance(trainable_variables, Mapping):
            return dict(zip(trainable_variables, arrays, strict=True)), twin.variables
        return arrays, twin.variables

    def scale_loss(self, loss: Loss) -> Loss:
        """Multiply a loss by `loss_scale_factor`, if there is one."""
        factor = self.loss_scale_factor
        return loss if factor is None else loss * factor  # type: ignore[operator,return-value]

    def _streams(self, stream: object) -> tuple[int, int]:
        """Return the handles of the stream to step on and of that on which CuPy makes gradients."""
        if self._plan is None or self._device is None:
            raise ValueError(
                "stream is for variables on a GPU, and these are NumPy arrays. Leave it out."
            )
        producer = current_stream(self._device)
        handle = producer if stream is None else stream_handle(stream)
        changing = [] if isinstance(self._learning_rate, float) else ["learning_rate"]
        changing += self._callables
        if changing and self._plan.is_capturing(handle):
            raise ValueError(
                f"A step cannot be captured into a CUDA graph where {' and '.join(changing)} comes "
                "from a schedule or a function: replays would repeat the value of the capture. Use "
                "a number, and set optimizer.learning_rate between replays."
            )
        return handle, producer

    def _rate_of_this_call(self, rate: Rate, stream: int) -> float:
        """Ask a schedule or a function for the rate.

        With a loss scale only the GPU knows the number of the call. It gets the rates of many ahead
        and is asked for the number when they come to an end, not at every step.
        """
        plan = self._plan
        if plan is None or not plan.counts_on_device or not isinstance(rate, LearningRateSchedule):
            return _learning_rate.at_step(rate, self._rule.calls)
        if self._rule.calls >= self._rates_end:
            begin = self._calls
            rates = [_learning_rate.at_step(rate, begin)]
            with suppress(Exception):  # it may end sooner: it is asked again then, and says so
                while len(rates) < _RATES_AHEAD:
                    rates.append(_learning_rate.at_step(rate, begin + len(rates)))
            plan.set_learning_rates(begin, rates, stream)
            self._rates_end = begin + len(rates)
        return 0.0  # not asked for: those on the device go before it

    def _build_and_apply(
        self, grads: Gradients, variables: Variables | None, stream: object
    ) -> None:
        if is_nothing(grads):
            return
        if variables is None:
            raise ValueError(
                "The optimizer does not know its variables yet. Call build(variables) or pass "
                "them to apply()."
            )
        with self._lock:
            calls, was_built = self._rule.calls, self.built
            try:
                self.build(variables)
                self.apply(grads, variables, stream=stream)
            except BaseException:
                if not was_built and self._rule.calls == calls:
                    self._unbind()
                raise


def _both(name: str, returned: tuple[Loss, Gradients]) -> tuple[Loss, Gradients]:
    """Return what should be a loss with gradients; ValueError if it is something else."""
    if isinstance(returned, (tuple, list)) and len(returned) == 2:
        return returned
    raise ValueError(
        f"{name}() must return two values, the loss and the gradients. Received: {returned!r}."
    )
