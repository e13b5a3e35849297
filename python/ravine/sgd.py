"""Gradient descent with momentum."""

from __future__ import annotations

from typing import Unpack

from ravine import _core
from ravine._learning_rate import LearningRate
from ravine._options import Options
from ravine._settings import Setting, flag, number
from ravine.optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent, with or without momentum.

    https://keras.io/api/optimizers/sgd/. Without momentum::

        w = w - learning_rate * g

    with momentum::

        velocity = momentum * velocity - learning_rate * g
        w = w + velocity                                      # plain
        w = w + momentum * velocity - learning_rate * g       # nesterov

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable, default 0.01
        A callable takes no argument and returns the value for this step.
    momentum : float in [0, 1], default 0.0
    nesterov : bool, default False
        Has no effect without momentum.
    **options
        See `Optimizer`: clipping, weight decay, averaging, accumulation, loss scale, name.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    One slot a variable if there is momentum: ``momentum``. It holds the step itself, the rate
    included, so that a later change of the rate does not rescale it.

    Examples
    --------
    >>> import numpy as np, ravine
    >>> w = np.array([1.0, 2.0])
    >>> optimizer = ravine.SGD(learning_rate=0.1, momentum=0.9, nesterov=True)
    >>> optimizer.apply([np.array([1.0, -1.0])], [w])
    >>> w
    array([0.81, 2.19])
    """

    _native = _core.SGD
    _default_name = "SGD"

    momentum = Setting("_rule", number)
    nesterov = Setting("_rule", flag)

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum = momentum
        self.nesterov = nesterov
