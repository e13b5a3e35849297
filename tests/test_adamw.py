"""AdamW: Adam with weight decay, which it must have; state, configuration."""

import numpy as np
import pytest
from checks import DTYPES, Pair, assert_config, assert_refused, assert_same, normal, raises

import ravine

VARIANTS = ["adamw", "adamw_amsgrad"]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)


@each_dtype
@pytest.mark.parametrize("rule", VARIANTS)
def test_adamw_equals_reference(rule, dtype):
    random = np.random.default_rng(5)
    shapes = [(40, 30), (17,), ()]
    pair = Pair(rule, [normal(random, shape, dtype) for shape in shapes], excluded=(1,))
    pair.run([[normal(random, shape, dtype) for shape in shapes] for _ in range(20)])


@each_dtype
def test_adamw_decays_by_the_rate_before_the_step(dtype):
    # 16 - 16 * 0.5 * 0.5 = 12, less a step of the rate; without a gradient only the decay.
    moved, still = np.full(5, 16, dtype), np.full(5, 16, dtype)
    optimizer = ravine.AdamW(0.5, 0.5, beta_1=0.5, beta_2=0.75, epsilon=2.0)
    optimizer.apply([np.full(5, 4, dtype), np.zeros(5, dtype)], [moved, still])
    assert moved.tolist() == [11.75] * 5  # 12 - 0.5 * 2 / (2 + 2)
    assert still.tolist() == [12] * 5


@pytest.mark.parametrize("amsgrad", [False, True])
@each_dtype
def test_adamw_is_adam_with_weight_decay(amsgrad, dtype):
    random = np.random.default_rng(6)
    start = normal(random, (70,), dtype)
    one, other = start.copy(), start.copy()
    adamw = ravine.AdamW(0.1, amsgrad=amsgrad)
    adam = ravine.Adam(0.1, amsgrad=amsgrad, weight_decay=0.004)
    without = ravine.AdamW(0.1, 0, amsgrad=amsgrad)
    bare, plain = ravine.Adam(0.1, amsgrad=amsgrad), [start.copy(), start.copy()]
    for _ in range(5):
        g = normal(random, (70,), dtype)
        adamw.apply([g], [one])
        adam.apply([g], [other])
        without.apply([g], plain[:1])
        bare.apply([g], plain[1:])
    assert_same(one, other)
    assert_same(*plain)
    assert not np.array_equal(one, plain[0])


def test_adamw_leaves_excluded_variables_undecayed():
    variables = {"kernel": np.ones(2), "bias": np.ones(2)}
    optimizer = ravine.AdamW(1.0, 0.25)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(variables)
    optimizer.apply({name: np.zeros(2) for name in variables})
    assert [w.tolist() for w in variables.values()] == [[0.75, 0.75], [1, 1]]


def test_adamw_must_have_a_weight_decay():
    said = "must be a number. Received: None."
    assert_refused("AdamW", "weight_decay", None, said)
    config = {**ravine.AdamW().get_config(), "weight_decay": None}
    with raises(ValueError, f"weight_decay {said}"):
        ravine.AdamW.from_config(config)
    ravine.Adam(weight_decay=None)


def test_adamw_state_is_not_that_of_adam():
    adam, adamw = ravine.Adam(), ravine.AdamW()
    adam.build([np.ones(2)])
    adamw.build([np.ones(2)])
    with raises(
        ValueError, "The state is that of Adam, this optimizer is AdamW. Nothing was loaded."
    ):
        adamw.load_state_dict(adam.state_dict())


def test_adamw_config_round_trips():
    optimizer = ravine.AdamW(0.25, 0.5, 0.5, 0, 1, True, clipvalue=2)
    assert_config(
        optimizer,
        name="adamw",
        learning_rate=0.25,
        weight_decay=0.5,
        clipvalue=2.0,
        beta_1=0.5,
        beta_2=0.0,
        epsilon=1.0,
        amsgrad=True,
    )


def test_adamw_defaults_are_those_of_keras():
    rule = ravine.AdamW()
    assert (rule.learning_rate, rule.weight_decay) == (0.001, 0.004)
    assert (rule.beta_1, rule.beta_2, rule.epsilon) == (0.9, 0.999, 1e-7)
    assert (rule.amsgrad, rule.name) == (False, "adamw")
