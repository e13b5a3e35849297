"""The optimizers: Keras's classes with a native step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras

from ravine import _core
from ravine.keras._native import Native

_register = keras.saving.register_keras_serializable(package="ravine")


@_register
class SGD(Native, keras.optimizers.SGD):
    """Gradient descent with momentum: `keras.optimizers.SGD` with a native step.

    Takes its arguments, has its attributes, configuration and variables.

    Examples
    --------
    >>> import keras, numpy as np, ravine.keras
    >>> w = keras.Variable(np.array([1.0, 2.0], "float32"))
    >>> optimizer = ravine.keras.SGD(learning_rate=0.5)
    >>> optimizer.apply([np.array([1.0, 1.0], "float32")], [w])
    >>> w.numpy()
    array([0.5, 1.5], dtype=float32)
    """

    _rule = _core.SGD
    _numbers = ("momentum", "nesterov")
    _slots: ClassVar = {"momentum": "momentums"}


@_register
class RMSprop(Native, keras.optimizers.RMSprop):
    """RMSprop, with momentum or centered: `keras.optimizers.RMSprop` with a native step.

    Takes its arguments, has its attributes, configuration and variables.

    Examples
    --------
    >>> import keras, numpy as np, ravine.keras
    >>> w = keras.Variable(np.array([1.0, 2.0], "float32"))
    >>> optimizer = ravine.keras.RMSprop(learning_rate=0.1)
    >>> optimizer.apply([np.array([1.0, -1.0], "float32")], [w])
    >>> w.numpy().round(4)
    array([0.6838, 2.3162], dtype=float32)
    """

    _rule = _core.RMSprop
    _numbers = ("rho", "momentum", "epsilon", "centered")
    _slots: ClassVar = {
        "velocity": "_velocities",
        "momentum": "_momentums",
        "average_gradient": "_average_gradients",
    }


@_register
class Adam(Native, keras.optimizers.Adam):
    """Adam, or AMSGrad: `keras.optimizers.Adam` with a native step.

    Takes its arguments, has its attributes, configuration and variables.

    Examples
    --------
    >>> import keras, numpy as np, ravine.keras
    >>> w = keras.Variable(np.array([1.0, 2.0], "float32"))
    >>> optimizer = ravine.keras.Adam(learning_rate=0.1)
    >>> optimizer.apply([np.array([1.0, -1.0], "float32")], [w])
    >>> w.numpy().round(4)
    array([0.9, 2.1], dtype=float32)
    """

    _rule = _core.Adam
    _numbers = ("beta_1", "beta_2", "epsilon", "amsgrad")
    _slots: ClassVar = {
        "momentum": "_momentums",
        "velocity": "_velocities",
        "velocity_hat": "_velocity_hats",
    }


@_register
class AdamW(Native, keras.optimizers.AdamW):
    """Adam with weight decay: `keras.optimizers.AdamW` with a native step.

    Takes its arguments, has its attributes, configuration and variables.

    Examples
    --------
    >>> import keras, numpy as np, ravine.keras
    >>> w = keras.Variable(np.array([1.0, 2.0], "float32"))
    >>> optimizer = ravine.keras.AdamW(learning_rate=0.1, weight_decay=0.1)
    >>> optimizer.apply([np.array([1.0, -1.0], "float32")], [w])
    >>> w.numpy().round(4)
    array([0.89, 2.08], dtype=float32)
    """

    _rule = _core.Adam
    _numbers = Adam._numbers
    _slots = Adam._slots


@_register
class Nadam(Native, keras.optimizers.Nadam):
    """Adam with Nesterov momentum: `keras.optimizers.Nadam` with a native step.

    Takes its arguments, has its attributes, configuration and variables.

    Examples
    --------
    >>> import keras, numpy as np, ravine.keras
    >>> w = keras.Variable(np.array([1.0, 2.0], "float32"))
    >>> optimizer = ravine.keras.Nadam(learning_rate=0.1)
    >>> optimizer.apply([np.array([1.0, -1.0], "float32")], [w])
    >>> w.numpy().round(4)
    array([0.8937, 2.1063], dtype=float32)
    """

    _rule = _core.Nadam
    _numbers = ("beta_1", "beta_2", "epsilon")
    _slots: ClassVar = {"momentum": "_momentums", "velocity": "_velocities"}
    _u_product: Any

    def build(self, var_list: Sequence[Any]) -> None:
        """Make the variables of the optimizer, as Keras does; see `SGD.build`."""
        if self.built:
            return
        super().build(var_list)
        product = self._u_product
        if product.dtype in ("float16", "bfloat16"):  # which would round it to 3 digits or less
            self._untrack_variable(product)
            self._u_product = keras.Variable(1.0, dtype="float32")

    def _product(self) -> Any:
        return self._u_product


for _class in (SGD, RMSprop, Adam, AdamW, Nadam):
    _class.__module__ = "ravine.keras"  # the public one, for configurations
