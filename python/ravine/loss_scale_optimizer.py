"""A loss scale that follows the gradients, around any optimizer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from typing import Any, Self, TypeVar

import numpy as np

from ravine import _core
from ravine._arrays import AnyArray, Array, device_scalar
from ravine._identity import deserialize, serialize
from ravine._learning_rate import LearningRate
from ravine._multipliers import Multipliers
from ravine._options import DEFAULTS
from ravine._saved_state import check_weights, wrong_number
from ravine._serialized import CustomObjects, arguments_in
from ravine._settings import Number, count, number
from ravine._variables import Gradient, Gradients, Variables
from ravine.optimizer import Optimizer

Loss = TypeVar("Loss")


class LossScaleOptimizer(Optimizer):
    """Train with a loss scale that grows while gradients are finite and shrinks when they are not.

    Gradients of 16 bits vanish where they are small, unless the loss is multiplied by a large
    number. `scale_loss` does that by `dynamic_scale`, and `apply` divides the gradients by it
    again. After `dynamic_growth_steps` steps with finite gradients the scale is doubled. A step
    whose gradients are not finite changes nothing but the scale, which is halved. Semantics of
    Keras 3, https://keras.io/api/mixed_precision/loss_scale_optimizer/, but that the scale stays
    an ordinary number, from 2**-126 to 2**126, and that `iterations` counts.

    Parameters
    ----------
    inner_optimizer : Optimizer
        It is used by this one from now on, with all its options; its `loss_scale_factor` becomes
        None.
    initial_scale : float, default 2**15
        The scale of the first steps, in [2**-126, 2**126].
    dynamic_growth_steps : int of at least 1, default 2000
        Finite steps after which the scale is doubled.
    name : str, optional
        Must not contain a slash.
    **options
        The options of `Optimizer` are those of the inner optimizer: here only their defaults. As
        attributes they are read and set here, too.

    Raises
    ------
    TypeError
        If `inner_optimizer` is no optimizer, or already has a loss scale of this kind.
    ValueError
        If a number is out of its range or an option is given that belongs to the inner optimizer.

    Notes
    -----
    Whether gradients are finite is found in the pass that takes their norms: they are read once
    more, if the inner optimizer does not clip to a norm anyway. On a GPU nothing waits for the
    result: the device leaves the step out and counts, and `scale_loss` multiplies by what it has.
    It is asked for the count once in 256 steps if the learning rate is a schedule, and in each step
    if `update_step` is written in Python.

    A gradient whose square is not finite in the type of the arithmetic counts as not finite.

    Examples
    --------
    >>> import numpy as np, ravine
    >>> w = np.array([1.0, 2.0], np.float16)
    >>> optimizer = ravine.LossScaleOptimizer(ravine.SGD(learning_rate=0.5), initial_scale=1024)
    >>> gradient = np.array([1024.0, np.inf], np.float16)  # of the scaled loss
    >>> optimizer.apply([gradient], [w])
    >>> w, optimizer.dynamic_scale, optimizer.iterations
    (array([1., 2.], dtype=float16), 512.0, 0)
    """

    _default_name = "loss_scale_optimizer"

    def __init__(
        self,
        inner_optimizer: Optimizer,
        initial_scale: Number = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **options: Any,
    ) -> None:
        # Nothing of the base is set up: all of it is the inner optimizer's.
        if not isinstance(inner_optimizer, Optimizer) or _has_loss_scale(inner_optimizer):
            raise TypeError(
                "inner_optimizer must be an optimizer of ravine that is no LossScaleOptimizer and "
                f"that none has yet. Received: {inner_optimizer!r}."
            )
        _refuse(options)
        self.name = self._default_name if name is None else name
        scale = _core.LossScale()
        scale.dynamic_scale = number("initial_scale", initial_scale)
        scale.dynamic_growth_steps = count("dynamic_growth_steps", dynamic_growth_steps)
        try:
            scale.check()
        except ValueError as error:  # which knows the scale by the name that it has from now on
            raise ValueError(str(error).replace("dynamic_scale", "initial_scale")) from None
        self.initial_scale = scale.dynamic_scale
        self.inner_optimizer = inner_optimizer
        inner_optimizer._take_loss_scale(scale)

    @property
    def dynamic_scale(self) -> float:
        """The scale of the next step. Reading it waits for a GPU."""
        return self._progress().dynamic_scale

    @property
    def step_counter(self) -> int:
        """Steps with finite gradients since the scale changed. Reading it waits for a GPU."""
        return self._progress().step_counter

    @property
    def dynamic_growth_steps(self) -> int:
        """Steps with finite gradients after which the scale is doubled."""
        return self._scale().dynamic_growth_steps

    def scale_loss(self, loss: Loss) -> Loss:
        """Multiply a loss by the scale.

        Where the variables are on a GPU the product is an array there, also that of a number:
        nothing waits for the scale.
        """
        plan = self.inner_optimizer._plan
        if plan is not None and plan.device is not None:
            scale = device_scalar(plan.loss_scale_address, plan.device)
        else:
            scale = self.dynamic_scale
        return loss * scale  # type: ignore[no-any-return]

    # --- Handed on

    @property
    def built(self) -> bool:
        """Whether `build` was called."""
        return self.inner_optimizer.built

    def build(self, variables: Variables) -> None:
        """Bind the variables: see `Optimizer.build`."""
        self.inner_optimizer.build(variables)

    def apply(
        self,
        grads: Gradients,
        trainable_variables: Variables | None = None,
        *,
        stream: object = None,
    ) -> None:
        """Make one step with the gradients of the scaled loss: see `Optimizer.apply`.

        If they are not all finite, nothing is changed but the scale.
        """
        self.inner_optimizer.apply(grads, trainable_variables, stream=stream)

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[Gradient, AnyArray]], *, stream: object = None
    ) -> int:
        """Make one step from pairs: see `Optimizer.apply_gradients`.

        Returns
        -------
        int
            Calls so far that were not left out; on a GPU, the most that they can be.
        """
        return self.inner_optimizer.apply_gradients(grads_and_vars, stream=stream)

    @property
    def iterations(self) -> int:
        """How many updates were made: those that were left out are not counted."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> float:
        """That of the inner optimizer."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        self.inner_optimizer.learning_rate = value

    def exclude_from_weight_decay(
        self, var_list: Iterable[AnyArray] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """See `Optimizer.exclude_from_weight_decay`."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def set_multipliers(
        self,
        var_list: Iterable[AnyArray] | None = None,
        var_names: Iterable[str] | None = None,
        *,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
    ) -> None:
        """See `Optimizer.set_multipliers`."""
        self.inner_optimizer.set_multipliers(
            var_list, var_names, learning_rate=learning_rate, weight_decay=weight_decay
        )

    @property
    def multipliers(self) -> dict[str, Multipliers]:
        """See `Optimizer.multipliers`."""
        return self.inner_optimizer.multipliers

    def finalize_variable_values(self, trainable_variables: Variables | None = None) -> None:
        """See `Optimizer.finalize_variable_values`."""
        self.inner_optimizer.finalize_variable_values(trainable_variables)

    def averaged_weights(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """See `Optimizer.averaged_weights`."""
        return self.inner_optimizer.averaged_weights()

    # --- State and configuration

    @property
    def variables(self) -> list[Array]:
        """All state, in the order of Keras.

        The iteration, a learning rate of 0 that is not used, the step counter and the scale, and
        the state of the inner optimizer.
        """
        return [*self._own_entries().values(), *self.inner_optimizer.variables]

    def _own_entries(self) -> dict[str, Array]:
        progress = self._progress()
        return {
            "iteration": np.array(self.inner_optimizer._calls, np.int64),
            "learning_rate": np.array(0.0),
            "step_counter": np.array(progress.step_counter, np.int64),
            "dynamic_scale": np.array(progress.dynamic_scale, np.float32),
        }

    def state_dict(self) -> dict[str, Array]:
        """Copy the state: that of the inner optimizer, ``dynamic_scale`` and ``step_counter``."""
        return self.inner_optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Write back what `state_dict` returned: see `Optimizer.load_state_dict`."""
        self.inner_optimizer.load_state_dict(state)

    def get_weights(self) -> list[Array]:
        """Copy the state into a list of NumPy arrays, in the order of `variables`."""
        with self.inner_optimizer._lock:
            return [*self._own_entries().values(), *self.inner_optimizer.get_weights()]

    def set_weights(self, weights: Sequence[AnyArray]) -> None:
        """Write back what `get_weights` returned: see `Optimizer.set_weights`.

        The first two, the iteration and the learning rate, are not used: the inner optimizer has
        its own.
        """
        check_weights(weights)
        own, inner = self._own_entries(), self.inner_optimizer
        expected = [*own, *inner._entries()]
        if len(weights) != len(expected):
            raise ValueError(wrong_number(expected, len(weights)))
        given = dict(zip(own, weights[: len(own)], strict=True))
        scale = {key: given[key] for key in ("step_counter", "dynamic_scale")}
        inner._set_weights([*weights[len(own) :]], scale)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write variables, state and configuration into a file: see `Optimizer.save`."""
        self.inner_optimizer._save(path, self)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take up what `save` wrote: see `Optimizer.load`."""
        self.inner_optimizer._load(path, self)

    # --- Copies

    def __getstate__(self) -> dict[str, Any]:
        """Return everything, the inner optimizer included, for `pickle` and `deepcopy`."""
        return dict(vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become the optimizer that `__getstate__` described."""
        vars(self).update(state)

    def __copy__(self) -> Self:
        """Copy the inner optimizer too: each belongs to one loss scale."""
        result = type(self).__new__(type(self))
        result.__setstate__({**vars(self), "inner_optimizer": copy(self.inner_optimizer)})
        return result

    def _twin(self, values: Variables) -> tuple[Self, list[Any]]:
        inner, arrays = self.inner_optimizer._twin(values)
        twin = type(self).__new__(type(self))
        twin.__setstate__({**vars(self), "inner_optimizer": inner})
        return twin, arrays

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, as JSON can hold them. The scale is state."""
        return {
            "name": self.name,
            "inner_optimizer": serialize(self.inner_optimizer),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
        }

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        custom_objects: CustomObjects | None = None,
    ) -> Self:
        """Make an optimizer from what `get_config`, or that of Keras's optimizer, returned.

        See `Optimizer.from_config`.
        """
        given = arguments_in(config)
        inner = given.pop("inner_optimizer", None)
        if not isinstance(inner, Mapping):
            raise ValueError(
                f"'inner_optimizer' must be a dict that serialize() returned. Received: {inner!r}."
            )
        return cls(deserialize(inner, custom_objects), **given)

    def _build_whole(self, build: Callable[[Any, Any], None], variables: Variables) -> None:
        build(self, variables)  # the inner optimizer sees to it

    def _configured(self) -> Optimizer:
        return self.inner_optimizer

    def _scale(self) -> _core.LossScale:
        scale = self.inner_optimizer._loss_scale
        assert scale is not None
        return scale

    def _progress(self) -> _core.LossScale:
        with self.inner_optimizer._lock:
            self.inner_optimizer._read_progress()
            return self._scale().copy()


def _has_loss_scale(optimizer: Optimizer) -> bool:
    return isinstance(optimizer, LossScaleOptimizer) or optimizer._loss_scale is not None


def _refuse(options: dict[str, Any]) -> None:
    """Refuse what belongs to the inner optimizer, unless it says nothing."""
    for name, value in options.items():
        if name == "dynamic":
            if not value:
                raise ValueError("LossScaleOptimizer has no scale that is not dynamic.")
        elif name not in DEFAULTS:
            raise ValueError(
                f"LossScaleOptimizer has no argument {name!r}. Give it to the inner optimizer."
            )
        elif value != DEFAULTS[name]:  # type: ignore[literal-required]
            raise ValueError(
                f"{name} is an option of the inner optimizer: give it to that. Received: {value!r}."
            )
