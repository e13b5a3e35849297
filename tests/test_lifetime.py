"""An optimizer and its arrays go with the last reference: no circle waits for the collector."""

import gc
import weakref

import numpy as np
import pytest
from own_rules import OwnSGD

import ravine

EVERYTHING = {"use_ema": True, "gradient_accumulation_steps": 2, "global_clipnorm": 1.0}


def excluding(**options):
    optimizer = ravine.AdamW(0.1, **options)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.set_multipliers(var_names=["bias"], learning_rate=2.0)
    return optimizer


MAKE = {
    "sgd": lambda: ravine.SGD(0.1, momentum=0.9),
    "rmsprop": lambda: ravine.RMSprop(0.1, **EVERYTHING),
    "nadam": lambda: ravine.Nadam(ravine.schedules.ExponentialDecay(0.1, 10, 0.9)),
    "adam": lambda: ravine.Adam(lambda: 0.1, beta_1=lambda: 0.9),
    "excluding": lambda: excluding(**EVERYTHING),
    "own": lambda: OwnSGD(0.1, **EVERYTHING),
    "loss_scale": lambda: ravine.LossScaleOptimizer(ravine.Adam(0.1)),
}


def step(optimizer, w):
    optimizer.apply({"kernel": np.ones(3), "bias": np.ones(2)}, w)


def step_without_a_gradient(optimizer, w):
    with pytest.warns(UserWarning, match="Some variables have no gradient"):
        optimizer.apply({"kernel": np.ones(3), "bias": None}, w)


def fail(optimizer, w):
    with pytest.raises(ValueError, match="shape"):
        optimizer.apply({"kernel": np.ones(3), "bias": np.ones(4)}, w)


def save_and_copy(optimizer, w):
    step(optimizer, w)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.stateless_apply(optimizer.variables, {"kernel": np.ones(3), "bias": np.ones(2)}, w)


def show_averages(optimizer, w):
    step(optimizer, w)
    if getattr(optimizer, "use_ema", False):
        with optimizer.averaged_weights():
            pass
        optimizer.finalize_variable_values()


@pytest.fixture(autouse=True)
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize(
    "use",
    [step, step_without_a_gradient, fail, save_and_copy, show_averages],
    ids=lambda f: f.__name__,
)
def test_optimizer_and_its_arrays_go_with_the_last_reference(kind, use):
    w = {"kernel": np.ones(3), "bias": np.ones(2)}
    optimizer = MAKE[kind]()
    use(optimizer, w)
    alive = [weakref.ref(optimizer), *map(weakref.ref, w.values())]
    alive += [weakref.ref(array) for array in optimizer.variables if array.ndim]
    del optimizer, w
    assert [reference() for reference in alive] == [None] * len(alive)


@pytest.mark.parametrize("kind", MAKE)
def test_optimizer_without_variables_goes_with_the_last_reference(kind):
    optimizer = MAKE[kind]()
    alive = weakref.ref(optimizer)
    del optimizer
    assert alive() is None
