"""RMSprop: formula, values computed by hand, state, configuration."""

import numpy as np
import pytest
from checks import DTYPES, Pair, assert_config, assert_refused, assert_same, normal

import ravine

VARIANTS = ["rmsprop", "rmsprop_momentum", "rmsprop_centered", "rmsprop_centered_momentum"]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("rule", VARIANTS)
def test_rmsprop_equals_reference(rule, dtype):
    random = np.random.default_rng(2)
    shapes = [(40, 30), (17,), ()]
    pair = Pair(rule, [normal(random, shape, dtype) for shape in shapes])
    pair.run([[normal(random, shape, dtype) for shape in shapes] for _ in range(20)])


@pytest.mark.parametrize(
    ("arguments", "gradients", "expected"),
    [
        # velocity 4, 4: steps 4 / 2 and 2 / 2
        ({"epsilon": 0.0}, [4, 2], [8, 7]),
        # epsilon inside the root: 4 / sqrt(4 + 12) and 2 / sqrt(4 + 12)
        ({"epsilon": 12.0}, [4, 2], [9, 8.5]),
        # momentum of the steps 1 and 0.5: 1, then 0.5 * 1 + 0.5
        ({"epsilon": 12.0, "momentum": 0.5}, [4, 2], [9, 8]),
        # velocity 4, 4 less the squares of the means 1, 0.25: roots 1.75 and 2 with epsilon
        ({"epsilon": 0.0625, "centered": True, "learning_rate": 1.75}, [4, -2], [6, 7.75]),
        # the same steps of 4 and -1.75, then 4, 0.5 * 4 - 1.75
        (
            {"epsilon": 0.0625, "centered": True, "learning_rate": 1.75, "momentum": 0.5},
            [4, -2],
            [6, 5.75],
        ),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_rmsprop_gives_values_computed_by_hand(arguments, gradients, expected, dtype):
    w = np.full(5, 10, dtype)
    optimizer = ravine.RMSprop(**{"learning_rate": 1.0, "rho": 0.75, **arguments})
    optimizer.build([w])
    history = []
    for g in gradients:
        optimizer.apply([np.full(5, g, dtype)])
        assert len(set(w.tolist())) == 1
        history.append(float(w[0]))
    assert history == expected


def test_rmsprop_example_of_the_documentation():
    w = np.array(10.0)
    ravine.RMSprop(learning_rate=0.1).minimize(lambda: (w * w / 2, [w * 1.0]), [w])
    assert f"{w:.6f}" == "9.683772"


def test_rmsprop_clamps_a_variance_that_rounding_makes_negative():
    half, g = np.float32(0.5), np.float32(12345.67)
    velocity = mean = lowest = np.float32(0)
    for _ in range(50):
        velocity = half * velocity + half * (g * g)
        mean = half * mean + half * g
        lowest = min(lowest, velocity - mean * mean)
    assert lowest < -1e-7  # without the clamp the root would be NaN
    w = np.zeros(3, np.float32)
    optimizer = ravine.RMSprop(0.1, rho=0.5, centered=True)
    optimizer.build([w])
    for _ in range(50):
        optimizer.apply([np.full(3, g)])
    assert np.isfinite(w).all()


def test_rmsprop_variables_are_in_the_order_of_keras():
    variables = [np.ones(2, np.float32), np.ones((3, 1), np.float32)]
    for arguments, kinds in [
        ({}, ["velocity"]),
        ({"momentum": 0.5}, ["velocity", "momentum"]),
        ({"centered": True}, ["velocity", "average_gradient"]),
        ({"momentum": 0.5, "centered": True}, ["velocity", "momentum", "average_gradient"]),
    ]:
        optimizer = ravine.RMSprop(0.5, epsilon=1.0, **arguments)
        optimizer.apply([np.full(2, 3.0), np.full((3, 1), 2.0)], variables)
        state = optimizer.state_dict()
        keys = [f"{kind}/variable_{i}" for kind in kinds for i in range(2)]
        assert len({state[key].flat[0] for key in keys}) == len(keys)
        assert optimizer.variables[0] == 1
        assert optimizer.variables[1] == 0.5
        for array, key in zip(optimizer.variables[2:], keys, strict=True):
            assert_same(array, state[key], key)


def test_rmsprop_config_round_trips():
    optimizer = ravine.RMSprop(
        0.25, rho=0.5, momentum=1, epsilon=0, centered=True, clipvalue=3.0, use_ema=True
    )
    assert_config(
        optimizer,
        name="rmsprop",
        learning_rate=0.25,
        clipvalue=3.0,
        use_ema=True,
        rho=0.5,
        momentum=1.0,
        epsilon=0.0,
        centered=True,
    )


def test_rmsprop_defaults_are_those_of_keras():
    rule = ravine.RMSprop()
    assert (rule.learning_rate, rule.rho, rule.momentum) == (0.001, 0.9, 0.0)
    assert (rule.epsilon, rule.centered, rule.name) == (1e-7, False, "rmsprop")


REFUSED = {
    # (setting, value): what is said of it, after its name
    ("rho", 1): "must be in [0, 1). Received: 1.",
    ("rho", -1e-300): "must be in [0, 1). Received: -1e-300.",
    ("momentum", 1.0000001): "must be in [0, 1]. Received: 1.0000001.",
    ("epsilon", -1e-9): "must be a finite number of at least 0. Received: -1e-09.",
    ("epsilon", np.inf): "must be a finite number of at least 0. Received: inf.",
    ("centered", "yes"): "must be True or False. Received: 'yes'.",
}


@pytest.mark.parametrize(("setting", "value"), REFUSED)
def test_rmsprop_refuses_numbers_out_of_range(setting, value):
    assert_refused("RMSprop", setting, value, REFUSED[setting, value])
