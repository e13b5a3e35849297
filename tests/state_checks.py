"""What the tests of state, copies and checkpoints share."""

import numpy as np
import pytest
from checks import make, normal

import ravine

# Every kind of state; a LossScaleOptimizer takes the place of the factor.
EVERYTHING = {
    "weight_decay": 0.1,
    "global_clipnorm": 1.0,
    "use_ema": True,
    "ema_overwrite_frequency": 2,
    "loss_scale_factor": 3.0,
    "gradient_accumulation_steps": 3,
}


def scaled(rule, **options):
    """Return the optimizer of a rule inside one with a loss scale."""
    return ravine.LossScaleOptimizer(make(rule, **options), 64.0, 2)


def through_dict(state, path):
    return state


def through_file(state, path):
    np.savez(path / "state.npz", **state)
    with np.load(path / "state.npz") as file:
        return dict(file)


plain_and_everything = pytest.mark.parametrize(
    "options", [{}, EVERYTHING], ids=["plain", "everything"]
)
plain_and_scaled = pytest.mark.parametrize("make_one", [make, scaled])
each_storage = pytest.mark.parametrize("way", [through_dict, through_file])
each_ending = pytest.mark.parametrize("ending", [".npz", ".safetensors"])


def steps_for(weights, random, count):
    """Return the gradients of so many steps."""
    return [
        {name: normal(random, w.shape, np.float32) for name, w in weights.items()}
        for _ in range(count)
    ]


def saved(path, make_one=make, **options):
    """Return an optimizer that was saved after a step, and its variables."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")
    weights = {
        "a/kernel": np.ones((2, 3), np.float32),
        "b c": np.full(2, 0.5, ml_dtypes.bfloat16),
    }
    optimizer = make_one("sgd_momentum", **options)
    optimizer.build(weights)
    optimizer.apply({"a/kernel": np.ones((2, 3)), "b c": np.ones(2)})
    optimizer.save(path)
    return optimizer, weights
