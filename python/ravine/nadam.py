"""Adam with Nesterov momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from ravine import _core
from ravine._learning_rate import LearningRate
from ravine._options import Options
from ravine._settings import CallableSetting, Number, Setting, number
from ravine.optimizer import Optimizer


class Nadam(Optimizer):
    """Adam with Nesterov momentum.

    Equations of Dozat (2015), http://cs229.stanford.edu/proj2015/054_report.pdf, in the form of
    Keras 3, https://keras.io/api/optimizers/nadam/; t counts the updates from 1::

        mu(t) = beta_1 * (1 - 0.5 * 0.96**t)
        product = mu(1) * mu(2) * ... * mu(t)
        momentum = beta_1 * momentum + (1 - beta_1) * g
        velocity = beta_2 * velocity + (1 - beta_2) * g**2
        m_hat = mu(t + 1) * momentum / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
        v_hat = velocity / (1 - beta_2**t)
        w = w - learning_rate * m_hat / (sqrt(v_hat) + epsilon)

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable, default 0.001
        A callable takes no argument and returns the value for this step.
    beta_1, beta_2 : float in [0, 1) or callable, default 0.9 and 0.999
        Decay, per step, of the first and second moment. A callable takes no argument and is asked
        once a step.
    epsilon : float of at least 0, default 1e-7
        Added to the root of the second moment, in units of the gradient.
    **options
        See `Optimizer`: clipping, weight decay, averaging, accumulation, loss scale, name.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Two slots a variable: ``momentum`` and ``velocity``. The product is part of the state.
    PyTorch's NAdam has another schedule of momentum and gives other numbers.

    Examples
    --------
    >>> import numpy as np, ravine
    >>> w = np.array([1.0, 2.0])
    >>> ravine.Nadam(learning_rate=0.1).apply([np.array([1.0, -1.0])], [w])
    >>> w.round(4)
    array([0.8937, 2.1063])
    """

    _native = _core.Nadam
    _default_name = "nadam"
    _interleaved = ("momentum", "velocity")
    _scalar_state = ("momentum_product",)

    beta_1 = CallableSetting("_rule")
    beta_2 = CallableSetting("_rule")
    epsilon = Setting("_rule", number)

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number | Callable[[], Number] = 0.9,
        beta_2: Number | Callable[[], Number] = 0.999,
        epsilon: float = 1e-7,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
