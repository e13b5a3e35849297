"""The optimizers inside Thinc and spaCy, for their configurations: ``ravine.Nadam.v1`` and so on.

Arguments that Thinc's own optimizers have too have Thinc's names, and each number may be a schedule
of Thinc, so that a configuration changes in one line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import ravine
from ravine._arrays import describe, shape_and_type
from ravine._variables import BuiltVariables

try:
    import thinc.optimizers
    from thinc.config import registry
except ImportError as error:
    raise ImportError(
        f"ravine.thinc needs Thinc, which cannot be imported ({error}). Install it: "
        "pip install 'ravine[thinc]'"
    ) from error

__all__ = ["SGD", "Adam", "AdamW", "Nadam", "Optimizer", "RMSprop"]


class Optimizer(thinc.optimizers.Optimizer):
    """Steps the parameters that Thinc calls it with, in place, one native call each.

    Parameters
    ----------
    make : callable
        Makes an optimizer of ravine for one parameter, from options.
    learn_rate : float, list, generator or Schedule
    L2 : float, list, generator or Schedule, default 0
        Weight decay, scaled by the rate, before the update.
    L2_is_weight_decay : bool, default True
        False: it is added to the gradient, times the parameter, before clipping.
    grad_clip : float, list, generator or Schedule, default 1
        Bound of the norm of each gradient; 0 is none. There is none for all of them together:
        Thinc calls an optimizer for one parameter after the other.
    use_averages : bool, default True
        Whether to keep averages, with Thinc's decay, ``(1 + t) / (10 + t)`` and 0.9999 at most, but
        started by the parameter after its first update.
    **numbers
        Of the rule: floats, lists, generators or schedules, under ravine's names.
    """

    def __init__(
        self,
        make: Callable[..., ravine.Optimizer],
        learn_rate: Any,
        *,
        L2: Any = 0.0,  # noqa: N803
        L2_is_weight_decay: bool = True,  # noqa: N803
        grad_clip: Any = 1.0,
        use_averages: bool = True,
        **numbers: Any,
    ) -> None:
        super().__init__(
            learn_rate,
            L2=L2,
            L2_is_weight_decay=L2_is_weight_decay,
            grad_clip=grad_clip,
            use_averages=use_averages,
        )
        self._make = make
        self._numbers = tuple(numbers)
        for name, value in numbers.items():
            self._set_attr_or_schedule(name, value)
        self._optimizers: dict[Any, ravine.Optimizer] = {}
        self._settings: dict[Any, dict[str, Any]] = {}

    def __call__(
        self, key: tuple[int, str], weights: Any, gradient: Any, *, lr_scale: float = 1.0
    ) -> tuple[Any, Any]:
        """Step one parameter, and set its gradient to zero.

        Parameters
        ----------
        key : tuple of int and str
            Which parameter it is: that of a node of a model, and its name.
        weights, gradient : array of NumPy or CuPy
        lr_scale : float, default 1
            Factor of the learning rate.

        Returns
        -------
        weights, gradient : array
            The same arrays.

        Raises
        ------
        ValueError
            If the parameter is of another shape or type than it was before, or the gradient does
            not fit it. Nothing has been changed.
        """
        if len(gradient) < 1:
            return weights, gradient
        settings = self._settings_now(key, lr_scale)
        stepped = gradient
        decay = settings.pop("L2")
        if self.L2_is_weight_decay:
            settings["weight_decay"] = decay or None
        elif decay:
            stepped = gradient + decay * weights
        optimizer = self._optimizer(key, weights, settings)
        optimizer.apply([stepped])
        self.nr_update[key] += 1
        gradient.fill(0)
        averages = optimizer._built_state().averages
        if self.averages is not None and averages is not None:
            self.averages[key] = averages[0]
        return weights, gradient

    def _settings_now(self, key: tuple[int, str], lr_scale: float) -> dict[str, Any]:
        """Return the options of a step, as the schedules say."""

        def now(name: str) -> Any:
            value = getattr(self, name)
            # Thinc 8 has set numbers itself, those of Thinc 9 have to be asked.
            return value(self.step, **self._schedule_args(key)) if callable(value) else value

        t = self.nr_update[key] + 1
        settings = {name: now(name) for name in self._numbers}
        settings["learning_rate"] = now("learn_rate") * lr_scale
        settings["clipnorm"] = now("grad_clip") or None
        settings["L2"] = now("L2")
        if self.averages is not None:
            settings["ema_momentum"] = min((1 + t) / (10 + t), 0.9999)
        return settings

    def _optimizer(
        self, key: tuple[int, str], weights: Any, settings: dict[str, Any]
    ) -> ravine.Optimizer:
        """Return the optimizer of a parameter, which is made for its first gradient."""
        found = self._optimizers.get(key)
        if found is None:
            found = self._make(use_ema=self.averages is not None, **settings)
            found.build({str(key): weights})
            self._optimizers[key] = found
        else:
            for name, value in settings.items():
                if value != self._settings[key][name]:
                    setattr(found, name, value)
            known = found._variables
            assert known is not None
            if known.arrays[0] is not weights:  # Thinc has put another array there
                _check_replacement(key, known.arrays[0], weights)
                variables = BuiltVariables({str(key): weights})
                if not variables.same_as(known):
                    found._move(variables)
        self._settings[key] = settings
        return found


def _check_replacement(key: tuple[int, str], known: Any, weights: Any) -> None:
    if shape_and_type(weights) != shape_and_type(known):
        raise ValueError(
            f"Parameter {key} was an {describe(known)} when it was first updated. Received: "
            f"{describe(weights)}. What is kept for it has that shape and type: make a new "
            "optimizer."
        )


def _registered(function: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    """Register a function; its signature, which Thinc asks for, gets the options of all."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[:-1]
    names = {parameter.name for parameter in own}
    common = [p for p in _COMMON if p.name not in names]
    function.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
    registered: Callable[..., Optimizer] = registry.optimizers(f"ravine.{function.__name__}.v1")(
        function
    )
    return registered


_COMMON = [
    p
    for p in inspect.signature(Optimizer, eval_str=True).parameters.values()
    if p.default is not inspect.Parameter.empty
]


@_registered
def SGD(  # noqa: N802
    learn_rate: Any = 0.01, *, momentum: Any = 0.0, nesterov: bool = False, **options: Any
) -> Optimizer:
    """Make a `ravine.SGD` for Thinc; `Optimizer` says what all have."""
    make = partial(ravine.SGD, nesterov=nesterov)
    return Optimizer(make, learn_rate, momentum=momentum, **options)


@_registered
def RMSprop(  # noqa: N802
    learn_rate: Any = 0.001,
    *,
    rho: Any = 0.9,
    momentum: Any = 0.0,
    eps: Any = 1e-7,
    centered: bool = False,
    **options: Any,
) -> Optimizer:
    """Make a `ravine.RMSprop` for Thinc; `Optimizer` says what all have."""
    make = partial(ravine.RMSprop, centered=centered)
    return Optimizer(make, learn_rate, rho=rho, momentum=momentum, epsilon=eps, **options)


@_registered
def Adam(  # noqa: N802
    learn_rate: Any = 0.001,
    *,
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    eps: Any = 1e-7,
    amsgrad: bool = False,
    **options: Any,
) -> Optimizer:
    """Make a `ravine.Adam` for Thinc; `Optimizer` says what all have."""
    make = partial(ravine.Adam, amsgrad=amsgrad)
    return Optimizer(make, learn_rate, beta_1=beta1, beta_2=beta2, epsilon=eps, **options)


@_registered
def AdamW(  # noqa: N802
    learn_rate: Any = 0.001,
    *,
    L2: Any = 0.004,  # noqa: N803
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    eps: Any = 1e-7,
    amsgrad: bool = False,
    **options: Any,
) -> Optimizer:
    """Make a `ravine.AdamW` for Thinc: `Adam`, with a decay if none is given."""
    numbers = {"beta1": beta1, "beta2": beta2, "eps": eps}
    return Adam(learn_rate, L2=L2, amsgrad=amsgrad, **numbers, **options)


@_registered
def Nadam(  # noqa: N802
    learn_rate: Any = 0.001,
    *,
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    eps: Any = 1e-7,
    **options: Any,
) -> Optimizer:
    """Make a `ravine.Nadam` for Thinc; `Optimizer` says what all have.

    Examples
    --------
    >>> import numpy as np, ravine.thinc
    >>> optimizer = ravine.thinc.Nadam(0.1, use_averages=False)
    >>> w, g = np.array([1.0, 2.0], "float32"), np.array([0.5, -0.5], "float32")
    >>> w, g = optimizer((0, "W"), w, g)
    >>> w.round(4), g
    (array([0.8937, 2.1063], dtype=float32), array([0., 0.], dtype=float32))
    """
    return Optimizer(ravine.Nadam, learn_rate, beta_1=beta1, beta_2=beta2, epsilon=eps, **options)
