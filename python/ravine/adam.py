"""Adam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from ravine import _core
from ravine._learning_rate import LearningRate
from ravine._options import Options
from ravine._settings import CallableSetting, Number, Setting, flag, number
from ravine.optimizer import Optimizer


class Adam(Optimizer):
    """Steps by running means of the gradient and of its square.

    Kingma and Ba (2014), https://arxiv.org/abs/1412.6980, in the form of Keras 3,
    https://keras.io/api/optimizers/adam/: the corrections of the bias of both means stand in the
    rate, and epsilon is added to a root that is not corrected. t counts the updates from 1::

        alpha = learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t)
        momentum = beta_1 * momentum + (1 - beta_1) * g
        velocity = beta_2 * velocity + (1 - beta_2) * g**2
        velocity_hat = max(velocity_hat, velocity)            # amsgrad; else velocity itself
        w = w - alpha * momentum / (sqrt(velocity_hat) + epsilon)

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable, default 0.001
        A callable takes no argument and returns the value for this step.
    beta_1, beta_2 : float in [0, 1) or callable, default 0.9 and 0.999
        Decay, per step, of the first and second moment. A callable takes no argument.
    epsilon : float of at least 0, default 1e-7
        Added to the root of the second moment, in units of the gradient.
    amsgrad : bool, default False
        Divide by the root of the largest second moment so far (Reddi, Kale and Kumar, 2018,
        https://openreview.net/forum?id=ryQu7f-RZ).
    **options
        See `Optimizer`: clipping, weight decay, averaging, accumulation, loss scale, name.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Two slots a variable: ``momentum`` and ``velocity``; with `amsgrad` also ``velocity_hat``.

    Examples
    --------
    >>> import numpy as np, ravine
    >>> w = np.array([1.0, 2.0])
    >>> optimizer = ravine.Adam(learning_rate=0.1)
    >>> optimizer.build([w])
    >>> for gradient in ([1.0, -1.0], [3.0, -1.0]):
    ...     optimizer.apply([np.array(gradient)])
    >>> w.round(4)
    array([0.8082, 2.2   ])
    """

    _native = _core.Adam
    _default_name = "adam"
    _interleaved = ("momentum", "velocity")

    beta_1 = CallableSetting("_rule")
    beta_2 = CallableSetting("_rule")
    epsilon = Setting("_rule", number)
    amsgrad = Setting("_rule", flag)

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number | Callable[[], Number] = 0.9,
        beta_2: Number | Callable[[], Number] = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad
