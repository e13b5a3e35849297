"""Constructors, configurations and the order of state, beside those of Keras."""

import copy
import inspect
import json

import numpy as np
import pytest
from checks import OPTIMIZERS, RULES, make
from keras_oracle import keras

import ravine

# NumPy's about what Keras's own variables do.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = sorted(set(OPTIMIZERS) - {"LossScaleOptimizer"})
OPTIONS = {
    "plain": {},
    "clipnorm": {"clipnorm": 0.5, "weight_decay": 0.25},
    "global_clipnorm": {"global_clipnorm": 2.0, "loss_scale_factor": 8.0},
    "clipvalue": {"clipvalue": 0.5, "gradient_accumulation_steps": 2},
    "ema": {"use_ema": True, "ema_momentum": 0.75, "ema_overwrite_frequency": 3},
}
RATES = {
    "number": (0.125, 0.125),
    "schedule": tuple(
        library.schedules.CosineDecay(0.0, 100, 0.25, warmup_target=0.5, warmup_steps=10)
        for library in (ravine, keras.optimizers)
    ),
}
each_name = pytest.mark.parametrize("name", NAMES)
each_rule = pytest.mark.parametrize("rule", RULES)
each_option = pytest.mark.parametrize("option", OPTIONS)
each_rate = pytest.mark.parametrize("rate", RATES)


def pair(rule, rate, **options):
    """Return our optimizer and that of Keras, with the same settings."""
    name, arguments = RULES[rule]
    ours, theirs = RATES[rate]
    arguments = {**arguments, "name": "same", **options}
    return (
        OPTIMIZERS[name](**{**arguments, "learning_rate": ours}),
        getattr(keras.optimizers, name)(**{**arguments, "learning_rate": theirs}),
    )


def parameters(cls):
    found = inspect.signature(cls).parameters.values()
    return {p.name: p.default for p in found if p.kind is not inspect.Parameter.VAR_KEYWORD}


def test_every_optimizer_is_compared():
    assert {RULES[rule][0] for rule in RULES} == set(NAMES)


@each_name
def test_constructor_is_that_of_keras(name):
    # Keras 3.15 makes up a name, as "sgd_1". Those of ours are the names that it documents.
    ours, theirs = parameters(OPTIMIZERS[name]), parameters(getattr(keras.optimizers, name))
    assert list(ours) == list(theirs)
    assert ours | {"name": None} == theirs | {"name": None}
    assert ours["name"] == OPTIMIZERS[name]().name


def test_constructor_of_the_loss_scale_is_that_of_keras():
    theirs = parameters(keras.optimizers.LossScaleOptimizer)
    assert parameters(ravine.LossScaleOptimizer).items() >= {
        (key, theirs[key]) for key in ("inner_optimizer", "initial_scale", "dynamic_growth_steps")
    }


@each_rate
@each_option
@each_rule
def test_config_is_that_of_keras_and_goes_both_ways(rule, option, rate):
    ours, theirs = pair(rule, rate, **OPTIONS[option])
    stored, expected = ravine.serialize(ours), keras.optimizers.serialize(theirs)
    assert stored == expected
    assert list(stored["config"]) == list(expected["config"])
    again = ravine.get(json.loads(json.dumps(expected)))
    assert (type(again), again.get_config()) == (type(ours), stored["config"])
    back = keras.optimizers.get(json.loads(json.dumps(stored)))
    assert (type(back), back.get_config()) == (type(theirs), expected["config"])
    scaled = ravine.LossScaleOptimizer(ours, 64, 7, name="scale")
    theirs_scaled = keras.optimizers.LossScaleOptimizer(theirs, 64.0, 7, name="scale")
    stored, expected = ravine.serialize(scaled), keras.optimizers.serialize(theirs_scaled)
    assert stored == expected
    assert ravine.get(json.loads(json.dumps(expected))).get_config() == stored["config"]
    back = keras.optimizers.get(json.loads(json.dumps(stored)))
    assert back.get_config() == expected["config"]


@each_name
def test_config_of_the_torch_backend_is_accepted(name):
    data = keras.optimizers.serialize(getattr(keras.optimizers, name)(0.125, name="same"))
    # There each optimizer has a subclass, which nothing exports.
    data["module"] = f"keras.src.backend.torch.optimizers.torch_{name.lower()}"
    data["registered_name"] = name
    again = ravine.get(data)
    assert (type(again), again.get_config()) == (OPTIMIZERS[name], data["config"])


@pytest.mark.parametrize("options", [{}, {"use_ema": True}, {"gradient_accumulation_steps": 2}])
@each_rule
def test_variables_are_in_the_order_of_keras(rule, options):
    random = np.random.default_rng(5)
    ours, theirs = pair(rule, "number", **options)
    arrays = [random.standard_normal(shape).astype(np.float32) for shape in [(2,), (3, 4), ()]]
    variables = [keras.Variable(array) for array in arrays]
    ours.build(arrays)
    theirs.build(variables)
    for _ in range(3):
        grads = [random.standard_normal(array.shape).astype(np.float32) for array in arrays]
        ours.apply(grads)
        theirs.apply(grads, variables)
    state = [np.array(variable.value) for variable in theirs.variables]
    assert len(ours.variables) == len(state)
    for actual, expected in zip(ours.variables, state, strict=True):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_rate_may_be_the_variable_that_keras_has():
    rate = keras.optimizers.SGD(0.125).learning_rate
    assert ravine.SGD(rate).learning_rate == 0.125


# --- Where we differ


def test_get_leaves_a_dictionary_alone():
    rate = keras.optimizers.schedules.serialize(RATES["schedule"][1])
    data = {"class_name": "SGD", "config": {"learning_rate": rate}}
    before = copy.deepcopy(data)
    ravine.get(data)
    assert data == before
    keras.optimizers.get(data)
    assert data["class_name"] == "sgd"
    assert data["config"]["learning_rate"] is not rate


def test_function_that_needs_arguments_is_refused_at_once():
    optimizer = keras.optimizers.SGD(lambda step: 0.1)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        optimizer.apply([np.ones(2)], [keras.Variable(np.ones(2))])
    with pytest.raises(ValueError, match=r"^learning_rate must be a number"):
        ravine.SGD(lambda step: 0.1)


def test_function_is_not_stored():
    optimizer = keras.optimizers.SGD(lambda: 0.1)
    with pytest.warns(UserWarning, match="lambda"):
        data = keras.optimizers.serialize(optimizer)
    with pytest.raises(ValueError, match="lambda"):
        keras.optimizers.deserialize(data)
    with pytest.raises(ValueError, match=r"^A function given as learning_rate cannot be stored"):
        ravine.serialize(ravine.SGD(lambda: 0.1))


def test_class_of_another_module_is_not_one_of_keras():
    data = {"module": "mine", "class_name": "SGD", "config": {"learning_rate": 0.5}}
    assert type(keras.optimizers.deserialize(dict(data))) is keras.optimizers.SGD
    with pytest.raises(ValueError, match=r"^Unknown optimizer 'SGD' of module 'mine'"):
        ravine.deserialize(data)


def test_array_is_a_rate():
    with pytest.raises(ValueError, match="learning_rate"):
        keras.optimizers.SGD(np.array(0.5))
    assert ravine.SGD(np.array(0.5)).learning_rate == 0.5


def test_rate_of_a_config_may_be_whole():
    config = make("sgd").get_config() | {"learning_rate": 1}
    with pytest.raises(ValueError, match="learning_rate"):
        keras.optimizers.SGD.from_config(dict(config))
    assert ravine.SGD.from_config(config).learning_rate == 1.0
