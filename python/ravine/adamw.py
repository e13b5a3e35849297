"""Adam with weight decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from ravine._learning_rate import LearningRate
from ravine._options import OptionsButDecay
from ravine._settings import Number, Setting, number
from ravine.adam import Adam


class AdamW(Adam):
    """Adam with weight decay that is decoupled from the gradient.

    Loshchilov and Hutter (2017), https://arxiv.org/abs/1711.05101, in the form of Keras 3,
    https://keras.io/api/optimizers/adamw/: before the update of `Adam`::

        w = w - w * weight_decay * learning_rate

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable, default 0.001
        A callable takes no argument and returns the value for this step.
    weight_decay : float, default 0.004
        Must be a number, 0 for none. `exclude_from_weight_decay` chooses the variables.
    beta_1, beta_2 : float in [0, 1) or callable, default 0.9 and 0.999
        Decay, per step, of the first and second moment. A callable takes no argument.
    epsilon : float of at least 0, default 1e-7
        Added to the root of the second moment, in units of the gradient.
    amsgrad : bool, default False
        Divide by the root of the largest second moment so far: see `Adam`.
    **options
        See `Optimizer`: clipping, averaging, accumulation, loss scale, name.

    Raises
    ------
    ValueError
        If a number is out of its range, or `weight_decay` is None.

    Notes
    -----
    Two slots a variable: ``momentum`` and ``velocity``; with `amsgrad` also ``velocity_hat``.

    Examples
    --------
    >>> import numpy as np, ravine
    >>> w = np.array([1.0, 2.0])
    >>> ravine.AdamW(learning_rate=0.1, weight_decay=0.5).apply([np.array([1.0, 0.0])], [w])
    >>> w.round(4)
    array([0.85, 1.9 ])
    """

    _default_name = "adamw"

    weight_decay = Setting[float | None]("_options", number)

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float = 0.004,
        beta_1: Number | Callable[[], Number] = 0.9,
        beta_2: Number | Callable[[], Number] = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Unpack[OptionsButDecay],
    ) -> None:
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
            weight_decay=weight_decay,
            **options,
        )
