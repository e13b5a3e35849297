#!/usr/bin/env python3
"""An installed wheel works where there is nothing but NumPy."""

import importlib.metadata
import sys

import numpy as np

import ravine
from ravine import _core

others = {d.name for d in importlib.metadata.distributions()} - {"pip", "setuptools"}
assert others == {"numpy", "ravine"}, others
assert ravine.__file__.startswith(sys.prefix), ravine.__file__
assert ravine.__version__ == importlib.metadata.version("ravine")
w = {"kernel": np.ones((3, 2), np.float32), "bias": np.ones(2, np.float64)}
for optimizer in (ravine.SGD(0.5), ravine.RMSprop(0.5), ravine.Nadam(0.5)):
    for array in w.values():
        array[...] = 1
    optimizer.build(w)
    optimizer.apply({name: np.ones_like(array) for name, array in w.items()})
    assert optimizer.iterations == 1
    assert all((array < 1).all() for array in w.values()), w
# With CUDA in it or without: arrays of NumPy ask nothing of it.
assert set(_core.cuda_counts().values()) == {0}, _core.cuda_counts()
print(f"installed: ravine {ravine.__version__} with {ravine.instruction_set()} works")
