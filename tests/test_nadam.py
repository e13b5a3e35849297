"""Nadam: formula, values computed by hand, state, configuration."""

import math

import numpy as np
import pytest
from checks import DTYPES, Pair, assert_config, assert_refused, assert_same, ignores_missing, normal

import ravine

VARIANTS = ["nadam", "nadam_betas"]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("rule", VARIANTS)
def test_nadam_equals_reference(rule, dtype):
    random = np.random.default_rng(3)
    shapes = [(40, 30), (17,), ()]
    pair = Pair(rule, [normal(random, shape, dtype) for shape in shapes])
    pair.run([[normal(random, shape, dtype) for shape in shapes] for _ in range(20)])


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_nadam_without_momentum_divides_by_root_plus_epsilon(dtype):
    # beta_1 = 0: the mean is the gradient; the corrected velocity after one step is its square.
    w = np.full(5, 10, dtype)
    optimizer = ravine.Nadam(4.0, beta_1=0.0, beta_2=0.75, epsilon=1.0)
    optimizer.apply([np.full(5, 3, dtype)], [w])
    assert w.tolist() == [7] * 5  # 10 - 4 * 3 / (3 + 1)


def test_nadam_follows_the_formula_of_its_documentation():
    rate, beta_1, beta_2, epsilon = 0.1, 0.9, 0.999, 1e-7
    w = np.array([1.0])
    optimizer = ravine.Nadam(rate)
    product, m, v, expected = 1.0, 0.0, 0.0, 1.0
    for t, g in enumerate([1.0, -2.0, 0.5, 4.0], start=1):
        optimizer.apply([np.array([g])], [w])
        now = beta_1 * (1 - 0.5 * 0.96**t)
        following = beta_1 * (1 - 0.5 * 0.96 ** (t + 1))
        product *= now
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        m_hat = following * m / (1 - product * following) + (1 - now) * g / (1 - product)
        expected -= rate * m_hat / (math.sqrt(v / (1 - beta_2**t)) + epsilon)
        assert w[0] == pytest.approx(expected, abs=1e-14)


def test_nadam_counts_updates_not_micro_steps():
    once, window = np.ones(3), np.ones(3)
    whole = ravine.Nadam(0.1)
    parts = ravine.Nadam(0.1, gradient_accumulation_steps=2)
    for g in (1.0, 3.0, -2.0):
        whole.apply([np.full(3, g)], [once])
        parts.apply([np.full(3, g - 0.5)], [window])
        parts.apply([np.full(3, g + 0.5)], [window])
    assert_same(window, once)
    product = whole.state_dict()["momentum_product"]
    assert parts.state_dict()["momentum_product"] == product


@ignores_missing
def test_nadam_product_advances_for_all_variables():
    # A variable that missed an update is corrected as if it had not: the product is one number.
    late, other = np.ones(1), np.ones(1)
    optimizer = ravine.Nadam(0.1)
    optimizer.build([late, other])
    optimizer.apply([None, np.ones(1)])
    optimizer.apply([np.ones(1), np.ones(1)])
    assert late.tolist() != [0.9]
    expected = 0.9 * (1 - 0.5 * 0.96) * (0.9 * (1 - 0.5 * (0.96 * 0.96)))
    assert optimizer.state_dict()["momentum_product"] == expected


def test_nadam_variables_are_interleaved_with_the_product_last():
    variables = [np.ones(2, np.float32), np.ones((3, 1), np.float32)]
    optimizer = ravine.Nadam(0.5)
    optimizer.apply([np.full(2, 3.0), np.full((3, 1), 2.0)], variables)
    state = optimizer.state_dict()
    keys = ["momentum/variable_0", "velocity/variable_0"]
    keys += ["momentum/variable_1", "velocity/variable_1", "momentum_product"]
    assert optimizer.variables[0] == 1
    assert optimizer.variables[1] == 0.5
    for array, key in zip(optimizer.variables[2:], keys, strict=True):
        assert_same(array, state[key], key)


def test_nadam_product_starts_at_one():
    optimizer = ravine.Nadam()
    assert [v.tolist() for v in optimizer.variables] == [0, 0.001]
    optimizer.build([np.ones(1)])
    assert [v.tolist() for v in optimizer.variables] == [0, 0.001, [0], [0], 1]


def test_nadam_config_round_trips():
    optimizer = ravine.Nadam(0.25, beta_1=0.5, beta_2=0, epsilon=1, weight_decay=0.5)
    assert_config(
        optimizer,
        name="nadam",
        learning_rate=0.25,
        weight_decay=0.5,
        beta_1=0.5,
        beta_2=0.0,
        epsilon=1.0,
    )


def test_nadam_defaults_are_those_of_keras():
    rule = ravine.Nadam()
    assert (rule.learning_rate, rule.beta_1, rule.beta_2) == (0.001, 0.9, 0.999)
    assert (rule.epsilon, rule.name) == (1e-7, "nadam")


REFUSED = {
    # (setting, value): what is said of it, after its name
    ("beta_1", 1.0): "must be in [0, 1). Received: 1.",
    ("beta_2", 1.0): "must be in [0, 1). Received: 1.",
    ("beta_2", "x"): "must be a number. Received: 'x'.",
    ("epsilon", np.nan): "must be a finite number of at least 0. Received: nan.",
}


@pytest.mark.parametrize(("setting", "value"), REFUSED)
def test_nadam_refuses_numbers_out_of_range(setting, value):
    assert_refused("Nadam", setting, value, REFUSED[setting, value])
