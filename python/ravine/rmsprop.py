"""RMSprop, with momentum and centering."""

from __future__ import annotations

from typing import Unpack

from ravine import _core
from ravine._learning_rate import LearningRate
from ravine._options import Options
from ravine._settings import Setting, flag, number
from ravine.optimizer import Optimizer


class RMSprop(Optimizer):
    """Divides the gradient by a running root mean square of it.

    https://keras.io/api/optimizers/rmsprop/, after Hinton's lecture 6e (2012)::

        velocity = rho * velocity + (1 - rho) * g**2
        average_gradient = rho * average_gradient + (1 - rho) * g         # if centered
        denominator = velocity - average_gradient**2 + epsilon            # no middle if not
        increment = learning_rate * g / sqrt(denominator)
        momentum_slot = momentum * momentum_slot + increment              # if momentum > 0
        w = w - momentum_slot                                             # or w - increment

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable, default 0.001
        A callable takes no argument and returns the value for this step.
    rho : float in [0, 1), default 0.9
        Decay, per step, of the running averages.
    momentum : float in [0, 1], default 0.0
    epsilon : float of at least 0, default 1e-7
        Added to the mean square, inside the root: in units of the gradient squared.
    centered : bool, default False
        Divide by the estimated variance instead of the mean square. Where rounding would make the
        variance negative, it is taken as 0.
    **options
        See `Optimizer`: clipping, weight decay, averaging, accumulation, loss scale, name.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    One to three slots a variable: ``velocity``, ``momentum``, ``average_gradient``.

    Examples
    --------
    >>> import numpy as np, ravine
    >>> w = np.array([10.0])
    >>> ravine.RMSprop(learning_rate=0.1).apply([w * 1.0], [w])
    >>> w.round(6)
    array([9.683772])
    """

    _native = _core.RMSprop
    _default_name = "rmsprop"

    rho = Setting("_rule", number)
    momentum = Setting("_rule", number)
    epsilon = Setting("_rule", number)
    centered = Setting("_rule", flag)

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered
