"""Signatures, configurations and the order of the state, compared with those of Keras itself."""

import inspect
import json

import numpy as np
import pytest
from checks import RULES, each_rule, make
from keras_oracle import keras

import ravine

# Of NumPy, about how Keras reads its own variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# Those of the base class, none of them at its default.
OPTIONS = {
    "weight_decay": 0.01,
    "global_clipnorm": 2.0,
    "use_ema": True,
    "ema_momentum": 0.9,
    "ema_overwrite_frequency": 5,
    "loss_scale_factor": 8.0,
    "gradient_accumulation_steps": 2,
}
each_class = pytest.mark.parametrize("name", sorted({name for name, _ in RULES.values()}))


def of_keras(rule, **options):
    name, arguments = RULES[rule]
    return getattr(keras.optimizers, name)(**{**arguments, **options})


def parameters(library, name):
    given = inspect.signature(getattr(library, name)).parameters.values()
    return [p for p in given if p.kind is not inspect.Parameter.VAR_KEYWORD]


@each_class
def test_signature_is_that_of_keras(name):
    ours, theirs = parameters(ravine, name), parameters(keras.optimizers, name)
    assert [p.name for p in ours] == [p.name for p in theirs]
    # The default name of Keras counts up.
    assert [p.default for p in ours[:-1]] == [p.default for p in theirs[:-1]]
    assert ours[-1].default == getattr(ravine, name)().name
    # An option can be given by name only, unless it stands among those of the class.
    own = len(ours) - len([p for p in ours if p.kind is inspect.Parameter.KEYWORD_ONLY])
    assert {p.kind for p in ours[:own]} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert [p.name for p in ours[own:]][-9:] == [
        *("clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum"),
        *("ema_overwrite_frequency", "loss_scale_factor", "gradient_accumulation_steps", "name"),
    ]
    assert {p.name for p in ours[own:-9]} <= {"weight_decay"}


@each_rule
def test_config_of_keras_is_accepted(rule):
    optimizer = of_keras(rule, **OPTIONS)
    config = json.loads(json.dumps(optimizer.get_config()))
    again = getattr(ravine, type(optimizer).__name__).from_config(config)
    assert again.get_config() == config
    assert list(again.get_config()) == list(config)
    for setting, value in config.items():
        assert getattr(again, setting) == value


@each_rule
def test_config_of_keras_with_a_schedule_is_accepted(rule):
    name, arguments = RULES[rule]
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.25)
    config = getattr(keras.optimizers, name)(
        **{**arguments, "learning_rate": schedule}
    ).get_config()
    optimizer = getattr(ravine, name).from_config(json.loads(json.dumps(config)))
    assert optimizer.learning_rate == 0.5
    ours = optimizer.get_config().pop("learning_rate")
    assert ours["config"] == config["learning_rate"]["config"]


@each_rule
def test_variables_are_those_of_keras_in_their_order(rule):
    random = np.random.default_rng(5)
    start = [random.standard_normal(shape).astype(np.float32) for shape in ((3,), (2, 4))]
    # Keras also averages on micro-steps, which nobody sees if an average is a copy.
    options = {"use_ema": True, "ema_momentum": 0.0, "gradient_accumulation_steps": 2}
    ours, theirs = make(rule, **options), of_keras(rule, **options)
    kept = [keras.Variable(w) for w in start]
    ours.build(start)
    theirs.build(kept)
    # Two updates, the second smaller, and a half, so that no two variables are equal.
    for scale in (1, 1, 0.01, 0.01, 1):
        grads = [(random.standard_normal(w.shape) * scale).astype(np.float32) for w in start]
        ours.apply(grads)
        theirs.apply(grads, kept)
    expected = [np.asarray(v.value) for v in theirs.variables]
    assert len(ours.variables) == len(expected)
    for array, other in zip(ours.variables, expected, strict=True):
        assert array.shape == other.shape
        np.testing.assert_allclose(array, other, rtol=1e-4, atol=1e-6)
    distinct = {array.tobytes() for array in ours.variables}
    assert len(distinct) == len(expected)
