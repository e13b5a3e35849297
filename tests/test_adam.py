"""Adam: formula, values computed by hand, state, configuration."""

import math

import numpy as np
import pytest
from checks import DTYPES, Pair, assert_config, assert_refused, assert_same, normal, raises

import ravine

VARIANTS = ["adam", "adam_amsgrad"]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)


@each_dtype
@pytest.mark.parametrize("rule", VARIANTS)
def test_adam_equals_reference(rule, dtype):
    random = np.random.default_rng(4)
    shapes = [(40, 30), (17,), ()]
    pair = Pair(rule, [normal(random, shape, dtype) for shape in shapes])
    pair.run([[normal(random, shape, dtype) for shape in shapes] for _ in range(20)])


@pytest.mark.parametrize(
    ("arguments", "gradients", "expected"),
    [
        # alpha is sqrt(1 - 0.75) / (1 - 0.5) = 1, the mean 4 / 2, the root of 16 / 4 is 2
        ({}, [4], [9]),
        # epsilon beside the root, which is not corrected: 2 / (2 + 2)
        ({"epsilon": 2.0}, [4], [9.5]),
        # beta_1 = 0: alpha is 0.5 and the mean the gradient
        ({"beta_1": 0.0}, [4], [9]),
        # beta_2 = 0: the corrected mean over the last gradient, 2 / 0.5 / 4, then 3 / 0.75 / 4
        ({"beta_2": 0.0}, [4, 4], [9, 8]),
        # the root of the largest square, 4, not of the last: steps 4 / 4, then 2 / 4
        ({"beta_1": 0.0, "beta_2": 0.0, "amsgrad": True}, [4, 2], [9, 8.5]),
        ({"beta_1": 0.0, "beta_2": 0.0, "amsgrad": True}, [2, 4, -2], [9, 8, 8.5]),
        ({"beta_1": 0.0, "beta_2": 0.0}, [4, 2], [9, 8]),
    ],
)
@each_dtype
def test_adam_gives_values_computed_by_hand(arguments, gradients, expected, dtype):
    w = np.full(5, 10, dtype)
    numbers = {"learning_rate": 1.0, "beta_1": 0.5, "beta_2": 0.75, "epsilon": 0.0}
    optimizer = ravine.Adam(**{**numbers, **arguments})
    optimizer.build([w])
    history = []
    for g in gradients:
        optimizer.apply([np.full(5, g, dtype)])
        assert len(set(w.tolist())) == 1
        history.append(float(w[0]))
    assert history == expected


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_follows_the_formula_of_its_documentation(amsgrad):
    rate, beta_1, beta_2, epsilon = 0.1, 0.9, 0.7, 1e-7
    w = np.array([1.0])
    optimizer = ravine.Adam(rate, beta_2=beta_2, amsgrad=amsgrad)
    m, v, v_hat, expected = 0.0, 0.0, 0.0, 1.0
    falls = 0
    for t, g in enumerate([1.0, -4.0, 0.5, 2.0], start=1):
        optimizer.apply([np.array([g])], [w])
        alpha = rate * math.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        falls += v < v_hat
        v_hat = max(v_hat, v) if amsgrad else v
        expected -= alpha * m / (math.sqrt(v_hat) + epsilon)
        assert w[0] == pytest.approx(expected, abs=1e-14)
    assert falls


@each_dtype
def test_adam_moves_16_bits_as_far_as_32(dtype):
    # In the type of the variable 1e-3 squared would be 0, and 0.999 would be 1.
    w = np.full(4, 1, dtype)
    optimizer = ravine.Adam(0.125, epsilon=0.0)
    optimizer.build([w])
    for _ in range(4):
        optimizer.apply([np.full(4, 1e-3, dtype)])
    np.testing.assert_allclose(w.astype(float), 0.5, rtol=0, atol=1e-5)


def test_adam_counts_updates_not_micro_steps():
    once, window = np.ones(3), np.ones(3)
    whole = ravine.Adam(0.1)
    parts = ravine.Adam(0.1, gradient_accumulation_steps=2)
    for g in (1.0, 3.0, -2.0):
        whole.apply([np.full(3, g)], [once])
        parts.apply([np.full(3, g - 0.5)], [window])
        parts.apply([np.full(3, g + 0.5)], [window])
    assert_same(window, once)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@each_dtype
def test_adam_largest_velocity_keeps_what_is_not_finite(value, dtype):
    w = np.ones(40, dtype)
    optimizer = ravine.Adam(0.1, amsgrad=True)
    optimizer.build([w])
    for g in (1.0, value, 1.0):
        optimizer.apply([np.full(40, g, dtype)])
    # inf - inf is NaN: from then on the velocity is, and so is the largest.
    assert np.isnan(optimizer.state_dict()["velocity_hat/variable_0"]).all()
    assert np.isnan(w.astype(float)).all()


def test_adam_largest_velocity_that_was_loaded_stays():
    w = np.ones(3)
    optimizer = ravine.Adam(0.5, beta_1=0.0, beta_2=0.0, epsilon=0.0, amsgrad=True)
    optimizer.build([w])
    state = optimizer.state_dict()
    state["velocity_hat/variable_0"] = np.array([16.0, 0.25, np.nan])
    optimizer.load_state_dict(state)
    optimizer.apply([np.full(3, 2.0)])
    np.testing.assert_array_equal(w, [0.75, 0.5, np.nan])
    largest = optimizer.state_dict()["velocity_hat/variable_0"]
    np.testing.assert_array_equal(largest, [16, 4, np.nan])


def test_adam_asks_for_betas_at_every_step():
    betas = iter([0.5, 0.25, 0.125])
    called, set_by_hand = np.ones(3), np.ones(3)
    optimizer = ravine.Adam(0.1, beta_1=lambda: next(betas), beta_2=lambda: 0.75)
    other = ravine.Adam(0.1, beta_2=0.75)
    for g, beta_1 in ((1.0, 0.5), (-2.0, 0.25), (4.0, 0.125)):
        other.beta_1 = beta_1
        optimizer.apply([np.full(3, g)], [called])
        other.apply([np.full(3, g)], [set_by_hand])
    assert_same(called, set_by_hand)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_variables_are_interleaved_with_the_largest_last(amsgrad):
    variables = [np.ones(2, np.float32), np.ones((3, 1), np.float32)]
    optimizer = ravine.Adam(0.5, amsgrad=amsgrad)
    optimizer.build(variables)
    for g in (3.0, 2.0):
        optimizer.apply([np.full(2, g), np.full((3, 1), g + 2)])
    state = optimizer.state_dict()
    keys = ["momentum/variable_0", "velocity/variable_0"]
    keys += ["momentum/variable_1", "velocity/variable_1"]
    keys += ["velocity_hat/variable_0", "velocity_hat/variable_1"] if amsgrad else []
    assert optimizer.variables[0] == 2
    assert optimizer.variables[1] == 0.5
    for array, key in zip(optimizer.variables[2:], keys, strict=True):
        assert_same(array, state[key], key)


def test_adam_slots_are_decided_when_it_is_built():
    optimizer = ravine.Adam()
    optimizer.amsgrad = True
    optimizer.build([np.ones(2)])
    assert "velocity_hat/variable_0" in optimizer.state_dict()
    message = (
        "amsgrad cannot be changed so after build(), which made the arrays of state for the old "
        "value. Make a new optimizer."
    )
    with raises(ValueError, message):
        optimizer.amsgrad = False
    assert optimizer.amsgrad is True


def test_adam_config_round_trips():
    optimizer = ravine.Adam(0.25, beta_1=0.5, beta_2=0, epsilon=1, amsgrad=True)
    assert_config(
        optimizer,
        name="adam",
        learning_rate=0.25,
        beta_1=0.5,
        beta_2=0.0,
        epsilon=1.0,
        amsgrad=True,
    )


def test_adam_defaults_are_those_of_keras():
    rule = ravine.Adam()
    assert (rule.learning_rate, rule.beta_1, rule.beta_2) == (0.001, 0.9, 0.999)
    assert (rule.epsilon, rule.amsgrad, rule.name) == (1e-7, False, "adam")


REFUSED = {
    # (setting, value): what is said of it, after its name
    ("beta_1", 1.0): "must be in [0, 1). Received: 1.",
    ("beta_1", -0.1): "must be in [0, 1). Received: -0.1.",
    ("beta_2", 1): "must be in [0, 1). Received: 1.",
    ("beta_2", np.nan): "must be in [0, 1). Received: nan.",
    ("beta_2", "x"): "must be a number. Received: 'x'.",
    ("epsilon", -1e-9): "must be a finite number of at least 0. Received: -1e-09.",
    ("epsilon", np.inf): "must be a finite number of at least 0. Received: inf.",
    ("amsgrad", 1): "must be True or False. Received: 1.",
    ("amsgrad", None): "must be True or False. Received: None.",
}


@pytest.mark.parametrize(("setting", "value"), REFUSED)
def test_adam_refuses_numbers_out_of_range(setting, value):
    assert_refused("Adam", setting, value, REFUSED[setting, value])
