"""`fit` of a network on images, with Keras's own optimizer and with ours."""

import numpy as np
import pytest
from keras_checks import (
    BACKEND,
    NAMES,
    RULES,
    assert_near,
    compiled,
    each_name,
    each_name_in_fit,
    each_rule,
    fit,
    keras,
    make,
    ravine,
    trained,
    values,
)

OPTIONS = {
    "clipnorm": {"clipnorm": 0.1},
    "clipvalue": {"clipvalue": 0.01},
    "global clipnorm": {"global_clipnorm": 0.5},
    "decay": {"weight_decay": 0.05},
    "average": {"use_ema": True, "ema_momentum": 0.9},
    "overwriting": {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 4},
    "accumulation": {"gradient_accumulation_steps": 3},
    "loss scale": {"loss_scale_factor": 128.0},
    "most": {
        "global_clipnorm": 0.5,
        "weight_decay": 0.05,
        "use_ema": True,
        "ema_overwrite_frequency": 4,
        "loss_scale_factor": 128.0,
    },
}


def assert_same_training(ours, theirs, **options):
    """Train with both; return the model that ours has trained."""
    model, other = (trained(optimizer, **options) for optimizer in (ours, theirs))
    assert_near(model.weights, other.weights)
    assert_near(ours.variables, theirs.variables, 1e-5)
    return model


@each_rule
def test_weights_are_those_of_keras(rule):
    assert_same_training(make(ravine.keras, rule), make(keras.optimizers, rule))


# On jax the rules take turns.
CASES = [
    (name, option)
    for i, option in enumerate(OPTIONS)
    for name in (NAMES if BACKEND == "torch" else [NAMES[i % len(NAMES)]])
]


@pytest.mark.parametrize(("name", "option"), CASES)
def test_weights_are_those_of_keras_with(name, option):
    ours, theirs = (make(x, name, **OPTIONS[option]) for x in (ravine.keras, keras.optimizers))
    assert_same_training(ours, theirs)


@each_rule
def test_variables_have_the_names_and_the_order_of_keras(rule):
    options = {"use_ema": True, "gradient_accumulation_steps": 2, "name": "same"}
    optimizers = [make(x, rule, **options) for x in (ravine.keras, keras.optimizers)]
    variables = [keras.Variable(np.ones(3), name=name) for name in ("a", "b")]
    for optimizer in optimizers:
        optimizer.build(variables)
    ours, theirs = ([(v.path, v.dtype) for v in each.variables] for each in optimizers)
    if RULES[rule][0] == "Nadam":  # the last has a name that counts up
        ours, theirs = ours[:-1], theirs[:-1]
    assert ours == theirs


@each_name
def test_classes_are_subclasses_of_keras(name):
    optimizer = make(ravine.keras, name)
    assert isinstance(optimizer, getattr(keras.optimizers, name))
    assert optimizer.get_config() == {
        **make(keras.optimizers, name).get_config(),
        "name": optimizer.name,
    }


@each_name_in_fit
def test_optimizer_by_its_name(name):
    model = compiled(f"ravine>{name}")
    assert type(model.optimizer) is getattr(ravine.keras, name)
    before = values(model.weights)
    fit(model, epochs=1)
    assert all((v.numpy() != w).any() for v, w in zip(model.weights, before, strict=True))
