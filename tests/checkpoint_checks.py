"""What the tests of checkpoints share."""

import ml_dtypes
import numpy as np
import pytest
from checks import make

import ravine

each_ending = pytest.mark.parametrize("ending", [".npz", ".safetensors"])


def wrapped(rule, **options):
    return ravine.LossScaleOptimizer(make(rule, **options), 64.0, 2)


def saved(path, make_one=make, **options):
    weights = {
        "a/kernel": np.ones((2, 3), np.float32),
        "b c": np.full(2, 0.5, ml_dtypes.bfloat16),
    }
    optimizer = make_one("sgd_momentum", **options)
    optimizer.build(weights)
    optimizer.apply({"a/kernel": np.ones((2, 3)), "b c": np.ones(2)})
    optimizer.save(path)
    return optimizer, weights
