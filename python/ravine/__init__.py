"""Keras 3 optimizers for NumPy and CuPy arrays: in place, in one pass, the same bits everywhere.

Examples
--------
>>> import numpy as np, ravine
>>> w = {"kernel": np.ones((3, 2), np.float32), "bias": np.zeros(2, np.float32)}
>>> optimizer = ravine.Nadam(learning_rate=0.01, global_clipnorm=1.0)
>>> optimizer.build(w)
>>> optimizer.apply({"kernel": np.ones((3, 2), np.float32), "bias": np.ones(2, np.float32)})
>>> optimizer.iterations
1
"""

from ravine import ops, schedules
from ravine._core import __version__
from ravine._identity import deserialize, get, serialize
from ravine._threads import get_num_threads, instruction_set, set_num_threads
from ravine.adam import Adam
from ravine.adamw import AdamW
from ravine.loss_scale_optimizer import LossScaleOptimizer
from ravine.nadam import Nadam
from ravine.optimizer import Optimizer
from ravine.rmsprop import RMSprop
from ravine.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "LossScaleOptimizer",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "__version__",
    "deserialize",
    "get",
    "get_num_threads",
    "instruction_set",
    "ops",
    "schedules",
    "serialize",
    "set_num_threads",
]
