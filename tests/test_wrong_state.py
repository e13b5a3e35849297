"""What is loaded is no state at all: an error that says what was expected, and nothing changed."""

import numpy as np
import pytest
from checks import config_and, make, raises
from state_checks import plain_and_scaled

import ravine

RECEIVED = " Received: {}. Nothing was loaded."
STATE = "load_state_dict() takes what state_dict() returned, a dict of arrays."
WEIGHTS = "set_weights() takes what get_weights() returned, a list of arrays."
STORE = "load_own_variables() takes a store that save_own_variables() has filled, a mapping."
OTHERS = {
    "load_state_dict": (STATE, [None, 5, "abc", [np.ones(1)], np.ones(1), iter(())]),
    "set_weights": (WEIGHTS, [None, 5, "abc", b"abc", {}, {"0": np.ones(1)}, iter(())]),
    "load_own_variables": (STORE, [None, 5, "abc", [np.ones(1)], np.ones(1)]),
}


@pytest.mark.parametrize(
    ("name", "message", "other"),
    [(name, text, other) for name, (text, others) in OTHERS.items() for other in others],
)
@plain_and_scaled
def test_loading_it_is_a_type_error(make_one, name, message, other):
    optimizer, w = make_one("nadam"), np.ones(3)
    optimizer.apply([np.ones(3)], [w])
    before = config_and(optimizer, w)
    with raises(TypeError, message + RECEIVED.format(type(other).__name__)):
        getattr(optimizer, name)(other)
    assert config_and(optimizer, w) == before


def test_stateless_apply_refuses_it_too():
    optimizer = make("sgd")
    optimizer.build([np.ones(2)])
    with raises(TypeError, WEIGHTS + RECEIVED.format("NoneType")):
        optimizer.stateless_apply(None, [np.ones(2)], [np.ones(2)])


def test_keys_of_several_types_are_named():
    optimizer = make("sgd")
    optimizer.build([np.ones(2)])
    state = optimizer.state_dict()
    with raises(
        ValueError,
        "The state does not fit this optimizer, nothing was loaded. Missing: []. "
        "Unknown: [3, 'momentum'].",
    ):
        optimizer.load_state_dict({**state, "momentum": np.ones(2), 3: np.ones(2)})


@pytest.mark.parametrize("path", [None, 5, ["last.npz"]])
@plain_and_scaled
def test_path_of_a_checkpoint_has_to_be_one(make_one, path):
    optimizer = make_one("sgd")
    optimizer.build([np.ones(2)])
    for call in (optimizer.save, optimizer.load):
        with raises(
            TypeError,
            "The path of a checkpoint must be a str or a path, as of pathlib. Received: "
            f"{type(path).__name__}.",
        ):
            call(path)


@pytest.mark.parametrize(
    "cls", [ravine.SGD, ravine.LossScaleOptimizer, ravine.schedules.CosineDecay]
)
@pytest.mark.parametrize("config", [None, 5, "abc", [("name", "x")]])
def test_configuration_has_to_be_a_dict(cls, config):
    text = "from_config() takes what get_config() returned, a dict"
    with raises(TypeError, f"{text}. Received: {type(config).__name__}."):
        cls.from_config(config)
    with raises(TypeError, f"{text} whose keys are strings. Received, as a key: 1."):
        cls.from_config({"name": "x", 1: 2})
