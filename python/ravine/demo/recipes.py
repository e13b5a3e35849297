"""The optimizers of the demo: both implementations, their arguments, the bytes that they move."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import ravine
from ravine.demo import plain
from ravine.demo.training import Optimizer

GLOBAL_CLIPNORM = 1.0
EMA_MOMENTUM = 0.99


@dataclass(frozen=True)
class Recipe:
    """An optimizer in both implementations.

    Attributes
    ----------
    plain, ravine : callable
        Make the optimizer from Keras's arguments.
    learning_rate : float
        For batches of 32 images or more.
    arguments : mapping
        What both take beside the learning rate.
    arrays_moved : int
        How many times an array of the size of the parameters must cross the memory bus in one pass.
    """

    plain: Callable[..., Optimizer]
    ravine: Callable[..., Optimizer]
    learning_rate: float
    arguments: Mapping[str, float]
    arrays_moved: int

    def learning_rate_for(self, batch_size: int) -> float:
        """Return the learning rate, below 32 images in proportion (Goyal et al., 2017).

        Without this, small batches would leave the range where training is stable, and there any
        difference grows as far as it can.
        """
        return self.learning_rate * min(1.0, batch_size / 32)


SHARED = {"global_clipnorm": GLOBAL_CLIPNORM, "ema_momentum": EMA_MOMENTUM}

# The norm reads g once more, before the update may start; the average is read and written.
SHARED_ARRAYS_MOVED = 3

# In the update w is read and written, g is read, and each slot is read and written.
RECIPES = {
    "nadam": Recipe(
        plain.Nadam,
        partial(ravine.Nadam, use_ema=True),
        5e-4,
        SHARED,
        arrays_moved=7 + SHARED_ARRAYS_MOVED,
    ),
    "rmsprop": Recipe(
        plain.RMSprop,
        partial(ravine.RMSprop, use_ema=True),
        3e-4,
        SHARED,
        arrays_moved=5 + SHARED_ARRAYS_MOVED,
    ),
    "sgd": Recipe(
        plain.SGD,
        partial(ravine.SGD, nesterov=True, use_ema=True),
        0.03,
        {"momentum": 0.9, **SHARED},
        arrays_moved=5 + SHARED_ARRAYS_MOVED,
    ),
}
