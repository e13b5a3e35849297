"""A plan whose formula is a Python function; the passes around it stay native."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import RLock
from typing import Any, NamedTuple
from weakref import WeakMethod

from ravine import _core
from ravine._arrays import copy_beside, zeros_like_each
from ravine._cuda import on_stream

_TYPES = {"float32", "float64", "float16", "bfloat16"}  # of gradients


class _Call(NamedTuple):
    """The arguments of a step that are handed on as they came."""

    learning_rate: float
    gradients: list[Any]
    on_missing: Callable[[list[Any]], None] | None
    stream: int
    producer: int | None
    loss_scale: _core.LossScale | None


class PythonPlan(_core.Plan):
    """Steps variables by a function, ``update_step(gradient, variable, learning_rate)``.

    The function works on copies of the variables, of their arithmetic type: a native step decays
    these, and hands over the gradients unscaled, accumulated and clipped. When it has been called
    for all, the variables are taken back from the copies, and averaged. So only what it keeps
    itself has to be put back if it raises.

    Parameters
    ----------
    names, variables, slots, averages, accumulators
        As `_core.Plan` takes them; the slots are those of the native rule, if the function
        overrides one and may call it.
    device : int, optional
        The GPU that all are on.
    update_step : WeakMethod
        Of the optimizer that has this plan, which is not kept alive by it.
    """

    def __init__(
        self,
        names: Sequence[str],
        variables: list[Any],
        slots: Sequence[list[Any]],
        averages: list[Any] | None,
        accumulators: list[Any] | None,
        device: int | None,
        update_step: WeakMethod[Any],
    ) -> None:
        self._copies, self._gradients = zeros_like_each(variables, 2, device)
        super().__init__(names, self._copies, [self._gradients], None, accumulators)
        self._copying = _core.Plan(names, self._copies, [], None, None)
        self._taking_back = _core.Plan(names, variables, [], averages, None)
        self._variables = variables
        self._update_step = update_step
        self._indices = {id(copy): i for i, copy in enumerate(self._copies)}
        self._names, self._slots = names, slots
        self._native: dict[int, _core.Plan] = {}  # of one variable each, made when asked for
        self._rule = _core.HandedOver()
        self._before: _core.Rule | None = None  # the rule of the optimizer, during a step
        self._after: _core.Rule | None = None  # and what the native step has made of it
        self._stream = 0
        self._kept: list[tuple[Any, Any]] = []
        self._rates = [1.0] * len(names)  # the multipliers of the learning rate
        for index, variable in enumerate(variables):
            self.guard(variable, self._label(index))
        for array in accumulators or []:
            self._keep(array)
        for arrays in slots:
            for index, array in enumerate(arrays):
                self.add(array, index)
        for index, array in enumerate(averages or []):
            self.guard(array, f"the state of {self._label(index)}")

    def _label(self, index: int) -> str:
        return f"variable {index} ({self._names[index]!r})"

    def add(self, array: Any, index: int | None = None) -> None:
        """Take in an array that the function may change, of a variable or of none.

        It is put back if a step fails, and no gradient may share memory with it.
        """
        self._keep(array)
        if array.dtype.isnative and array.dtype.name in _TYPES:
            of = "the optimizer" if index is None else self._label(index)
            self.guard(array, f"the state of {of}")

    def _keep(self, array: Any) -> None:
        self._kept.append((array, copy_beside(array)))

    def index(self, copy: object) -> int | None:
        """Return the position of a variable that `update_step` got, None if it is none of them."""
        return self._indices.get(id(copy))

    @property
    def counts_on_device(self) -> bool:
        """Never, as seen from outside: where the device counts, each step asks it."""
        return False

    def set_multipliers(self, multipliers: Sequence[tuple[float, float]]) -> None:
        """See `_core.Plan`."""
        super().set_multipliers(multipliers)
        self._rates = [rate for rate, _ in multipliers]

    def prepare(self, rule: _core.Rule, loss_scale: _core.LossScale | None = None) -> None:
        """See `_core.Plan`; of the rule only its calls matter."""
        self._rule.calls = rule.calls
        super().prepare(self._rule, loss_scale)

    write_progress = prepare

    def update_natively(self, gradient: Any, copy: Any, learning_rate: float) -> None:
        """Update the copy of a variable by the native rule, inside a step."""
        index = self.index(copy)
        if self._before is None or index is None:
            raise ValueError(
                "The update_step() of a native class takes the variable that the one overriding it "
                "got, while that runs."
            )
        if index not in self._native:
            slots = [[slot[index]] for slot in self._slots]
            self._native[index] = _core.Plan([self._names[index]], [copy], slots, None, None)
        rule, rate = self._before.copy(), float(learning_rate)
        self._native[index].step(rule, _core.Options(), rate, [gradient], None, self._stream)
        self._after = rule

    def overwrite_with_averages(self, indices: Sequence[int], stream: int = 0) -> None:
        """See `_core.Plan`."""
        self._taking_back.overwrite_with_averages(indices, stream)

    def bind_step(self, rule: _core.Rule, options: _core.Options, lock: RLock) -> None:
        """Bind nothing: a step is more than a native one."""

    def step(
        self,
        rule: _core.Rule,
        options: _core.Options,
        learning_rate: float,
        gradients: Sequence[Any],
        on_missing: Callable[[list[Any]], None] | None,
        stream: int = 0,
        producer: int | None = None,
        loss_scale: _core.LossScale | None = None,
    ) -> None:
        """See `_core.Plan`; of the rule only its calls matter."""
        if self._before is not None:
            raise ValueError("update_step() must not call apply(): its own step is not done yet.")
        if self.is_capturing(stream):
            raise ValueError(
                "A step with an update_step() in Python cannot be captured into a CUDA graph. Make "
                "it outside of the capture."
            )
        self._taking_back.check_variables()
        call = _Call(learning_rate, list(gradients), on_missing, stream, producer, loss_scale)
        self._rule.calls = rule.calls
        if (rule.calls + 1) % (options.gradient_accumulation_steps or 1):

            def count() -> None:
                rule.calls = self._rule.calls

            try:
                self._hand_over(options, call)
            finally:
                try:
                    count()
                except BaseException:
                    count()
                    raise
        else:
            with on_stream(stream, self.device):
                self._update(rule, options, call)

    def _hand_over(self, options: _core.Options, call: _Call) -> None:
        passes = options.copy()
        passes.use_ema = False
        super().step(self._rule, passes, *call)
        if call.loss_scale is not None:
            super().read_progress(self._rule, call.loss_scale)  # a GPU alone knows: left out?

    def _update(self, rule: _core.Rule, options: _core.Options, call: _Call) -> None:
        received = self.received
        scale = None if call.loss_scale is None else call.loss_scale.copy()
        taking = _core.HandedOver()
        taking.takes_back = True
        taking.calls = updates = rule.calls // (options.gradient_accumulation_steps or 1)
        is_left_out = False

        self._taking_back.let_wait(call.stream)
        copying = taking.copy(), _core.Options(), 0.0
        self._copying.step(*copying, self._variables, None, call.stream)
        for array, kept in self._kept:
            kept[...] = array
        self._stream = call.stream

        def finish() -> None:
            self._before = None
            # What counts is one call, that which takes back.
            if self._after is not None and taking.calls > updates:
                rule.take_state(self._after, self._rule.calls)
            elif not is_left_out:
                self._put_back(rule, received, scale, call.loss_scale)

        try:
            self._before = self._after = rule.copy()
            self._before.calls = updates
            self._hand_over(options, call)
            is_left_out = self._rule.calls == rule.calls
            if not is_left_out:
                updated = self._call_update_step(call, received)
                averages = _averages_of(options)
                self._taking_back.step(taking, averages, 0.0, updated, None, call.stream)
        finally:
            try:
                finish()
            except BaseException:  # an interrupt: none comes before this `try`
                finish()
                raise

    def _call_update_step(self, call: _Call, received: list[bool]) -> list[Any]:
        """Update the copies; return them, None for those that had no gradient."""
        update_step = self._update_step()
        assert update_step is not None
        updated: list[Any] = [None] * len(self._copies)
        for i, gradient in enumerate(call.gradients):
            if gradient is not None or received[i]:
                copy = updated[i] = self._copies[i]
                rate = call.learning_rate * self._rates[i]
                returned = update_step(self._gradients[i], copy, rate)
                if returned is not None:  # a new value, which would be lost
                    raise TypeError(
                        "update_step() must change the variable in place, as assign_sub() does, "
                        f"and return nothing. Received: {type(returned).__name__}."
                    )
        return updated

    def _put_back(
        self,
        rule: _core.Rule,
        received: list[bool],
        scale: _core.LossScale | None,
        loss_scale: _core.LossScale | None,
    ) -> None:
        for array, kept in self._kept:
            array[...] = kept
        self.received = received
        if scale is not None and loss_scale is not None:
            loss_scale.dynamic_scale = scale.dynamic_scale
            loss_scale.step_counter = scale.step_counter
        self.prepare(rule, loss_scale)  # waits for the device


def _averages_of(options: _core.Options) -> _core.Options:
    """Return the options of which only averaging is left."""
    result = _core.Options()
    result.use_ema = options.use_ema
    result.ema_momentum = options.ema_momentum
    result.ema_overwrite_frequency = options.ema_overwrite_frequency
    return result
