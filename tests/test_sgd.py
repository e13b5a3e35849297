"""SGD: formula, values computed by hand, state, configuration."""

import numpy as np
import pytest
from checks import DTYPES, Pair, assert_config, assert_refused, assert_same, normal

import ravine

VARIANTS = ["sgd", "sgd_momentum", "sgd_nesterov"]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("rule", VARIANTS)
def test_sgd_equals_reference(rule, dtype):
    random = np.random.default_rng(1)
    shapes = [(40, 30), (17,), ()]
    pair = Pair(rule, [normal(random, shape, dtype) for shape in shapes])
    pair.run([[normal(random, shape, dtype) for shape in shapes] for _ in range(20)])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # Powers of two: every number on the way is exact, in each of the types.
        ({"learning_rate": 0.5}, [0.5, 0.0, -0.5]),
        ({"learning_rate": 0.5, "nesterov": True}, [0.5, 0.0, -0.5]),
        # velocity -1, -1.5, -1.75
        ({"learning_rate": 1.0, "momentum": 0.5}, [0.0, -1.5, -3.25]),
        # and half the velocity - 1: steps of -1.5, -1.75, -1.875
        ({"learning_rate": 1.0, "momentum": 0.5, "nesterov": True}, [-0.5, -2.25, -4.125]),
        # momentum 1 never forgets: velocity -1, -2, -3
        ({"learning_rate": 1.0, "momentum": 1.0}, [0.0, -2.0, -5.0]),
        ({"learning_rate": -1.0}, [2.0, 3.0, 4.0]),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_sgd_gives_values_computed_by_hand(arguments, expected, dtype):
    w, g = np.ones(3, dtype), np.ones(3, dtype)
    optimizer = ravine.SGD(**arguments)
    optimizer.build([w])
    history = []
    for _ in range(3):
        optimizer.apply([g])
        assert w[0] == w[1] == w[2]
        history.append(float(w[0]))
    assert history == expected


def test_sgd_velocity_holds_the_step_with_its_rate():
    w = np.zeros(1)
    optimizer = ravine.SGD(0.5, momentum=0.5)
    optimizer.apply([np.ones(1)], [w])
    optimizer.learning_rate = 8.0
    optimizer.apply([np.zeros(1)], [w])
    # The first step was 0.5; a later rate does not rescale what is left of it.
    assert optimizer.state_dict()["momentum/variable_0"].tolist() == [-0.25]
    assert w.tolist() == [-0.75]


def test_sgd_has_a_slot_only_with_momentum():
    variables = [np.ones(2, np.float32), np.ones(3)]
    plain, heavy = ravine.SGD(0.1), ravine.SGD(0.1, momentum=0.9)
    plain.build(variables)
    heavy.build(variables)
    assert [v.tolist() for v in plain.variables] == [0, 0.1]
    assert [v.tolist() for v in heavy.variables] == [0, 0.1, [0, 0], [0, 0, 0]]
    heavy.apply([np.ones(2), np.ones(3)])
    state = heavy.state_dict()
    assert heavy.variables[0] == 1
    assert_same(heavy.variables[2], state["momentum/variable_0"])
    assert_same(heavy.variables[3], state["momentum/variable_1"])


def test_sgd_config_round_trips():
    optimizer = ravine.SGD(0.25, momentum=0.5, nesterov=True, clipnorm=2, name="mine")
    assert_config(
        optimizer, name="mine", learning_rate=0.25, clipnorm=2.0, momentum=0.5, nesterov=True
    )


def test_sgd_defaults_are_those_of_keras():
    optimizer = ravine.SGD()
    assert (optimizer.learning_rate, optimizer.momentum, optimizer.nesterov) == (0.01, 0.0, False)
    assert optimizer.name == "SGD"


REFUSED = {
    # (setting, value): what is said of it, after its name
    ("momentum", -0.1): "must be in [0, 1]. Received: -0.1.",
    ("momentum", 1.5): "must be in [0, 1]. Received: 1.5.",
    ("momentum", np.nan): "must be in [0, 1]. Received: nan.",
    ("momentum", "0.9"): "must be a number. Received: '0.9'.",
    ("momentum", None): "must be a number. Received: None.",
    ("momentum", True): "must be a number. Received: True.",
    ("momentum", 1j): "must be a number. Received: 1j.",
    ("nesterov", 1): "must be True or False. Received: 1.",
    ("nesterov", None): "must be True or False. Received: None.",
}


@pytest.mark.parametrize(("setting", "value"), REFUSED)
def test_sgd_refuses_numbers_out_of_range(setting, value):
    assert_refused("SGD", setting, value, REFUSED[setting, value])
