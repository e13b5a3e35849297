"""Schedules beside those of Keras: signatures, configurations and values, and where they differ."""

import inspect
import json
import math

import numpy as np
import pytest
from checks import raises
from keras_oracle import keras, keras_in_double, run_keras

from ravine import SGD, schedules

theirs = keras.optimizers.schedules

# Rates are Python floats: Keras computes in the type of the first.
ARGUMENTS = {
    "ExponentialDecay": [
        (0.1, 1000, 0.96),
        (0.1, 7, 0.5, True),
        (-0.3, 3.5, 1.01),
        (0.1, 10, 0.0),
        (0.0, 10, 0.5, False, "mine"),
    ],
    "InverseTimeDecay": [
        (0.1, 1000, 0.5),
        (0.1, 7, 0.5, True),
        (-0.3, 3.5, 20.0),
        (0.1, 10, 0.0),
        (0.1, 10, 0.5, False, "mine"),
    ],
    "PolynomialDecay": [
        (0.1, 1000),
        (0.1, 100, 0.01, 2.5),
        (0.1, 100, 0.01, 0.5, True),
        (0.01, 7, 0.1, 3.0, True),
        (0.1, 2.5, 0.0, 0.25),
        (0.1, 10, -0.1, 1.0, False, "mine"),
    ],
    "PiecewiseConstantDecay": [
        ([100], [0.1, 0.01]),
        ([3, 7, 100, 1000], [0.5, 0.4, 0.3, 0.2, 0.1]),
        ([-5, 0], [0.5, -0.4, 0.3], "mine"),
    ],
    "CosineDecay": [
        (0.1, 1000),
        (0.1, 100, 0.25),
        (0.0, 100, 0.1, "mine", 0.5, 10),
        (0.5, 1000, 0.0, "CosineDecay", 0.1, 1000),
        (0.1, 10, 0.0, "CosineDecay", 0.3, 0),
        (0.1, 10, 0.0, "CosineDecay", None, 5),
        (-0.1, 3.5, 2.0, "CosineDecay", 0.3, 2.5),
    ],
    "CosineDecayRestarts": [
        (0.1, 1000),
        (0.1, 10, 2.0, 0.9, 0.1),
        (0.1, 7, 1.0, 0.5),
        (0.1, 100, 1.3, 1.1),
        (-0.1, 3.5, 1.7, 0.0, 2.0, "mine"),
    ],
}
CASES = [(name, arguments) for name, each in ARGUMENTS.items() for arguments in each]
STEPS = [0, 1, 2, 3, 4, 6, 8, 9, 10, 11, 50, 99, 100, 101, 110, 333, 999, 1001, 54321]

each_case = pytest.mark.parametrize(("name", "arguments"), CASES)
each_name = pytest.mark.parametrize("name", ARGUMENTS)


def pair(name, arguments):
    return getattr(schedules, name)(*arguments), getattr(theirs, name)(*arguments)


def test_every_schedule_of_keras_is_there():
    names = {name for name in dir(theirs) if not name.startswith("_")}
    assert names == set(schedules.__all__)
    assert names - set(ARGUMENTS) == {"LearningRateSchedule", "serialize", "deserialize"}


@each_name
def test_signature_is_that_of_keras(name):
    ours, expected = (
        [(p.name, p.kind, p.default) for p in inspect.signature(cls).parameters.values()]
        for cls in (getattr(schedules, name), getattr(theirs, name))
    )
    assert ours == expected


@each_case
def test_value_is_that_of_keras_in_double(name, arguments):
    # Keras loses what all periods before have in common with the step: of 16,000, 14 of 53 bits.
    bound = 1e-11 if name == "CosineDecayRestarts" else 1e-15
    ours, oracle = pair(name, arguments)
    with keras_in_double():
        expected = [float(np.asarray(oracle(step))) for step in STEPS]
    np.testing.assert_allclose([ours(step) for step in STEPS], expected, rtol=1e-13, atol=bound)
    is_constant = arguments in [(0.0, 10, 0.5, False, "mine"), (0.1, 10, 0.0)]
    assert len(set(expected)) > 1 or (is_constant and name != "CosineDecay")


@each_case
def test_config_is_that_of_keras_and_goes_both_ways(name, arguments):
    ours, oracle = pair(name, arguments)
    config = ours.get_config()
    assert config == oracle.get_config()
    assert list(config) == list(oracle.get_config())
    stored, expected = schedules.serialize(ours), theirs.serialize(oracle)
    assert stored == expected
    assert list(stored) == list(expected)
    text, theirs_text = json.dumps(stored), json.dumps(expected)
    again = schedules.deserialize(json.loads(theirs_text))
    assert (type(again), again.get_config()) == (type(ours), config)
    with keras_in_double():
        back = theirs.deserialize(json.loads(text))
        assert (type(back), back.get_config()) == (type(oracle), config)
        np.testing.assert_allclose(again(5), np.asarray(back(5)), rtol=1e-13, atol=1e-15)
    nested = keras.optimizers.SGD.from_config({"name": "x", "learning_rate": json.loads(text)})
    assert nested.get_config()["learning_rate"] == stored


def random_arguments(name, random):
    rates, steps = random.uniform(-1, 1, 3), random.uniform(0.5, 300, 2)
    if name == "PiecewiseConstantDecay":
        return np.cumsum(random.integers(1, 99, 4)).tolist(), random.uniform(-1, 1, 5).tolist()
    if name == "PolynomialDecay":
        return rates[0], steps[0], rates[1], random.uniform(0, 4), bool(random.integers(2))
    if name == "CosineDecay":
        return rates[0], steps[0], rates[1], name, random.choice([None, rates[2]]), steps[1]
    if name == "CosineDecayRestarts":
        return rates[0], steps[0], random.uniform(1, 3), random.uniform(0, 2), rates[1]
    return rates[0], steps[0], random.uniform(0, 1.1), bool(random.integers(2))


@each_name
def test_random_values_are_those_of_keras_in_double(name):
    random = np.random.default_rng(41)
    for _ in range(60):
        ours, oracle = pair(name, random_arguments(name, random))
        steps = [*random.integers(0, 2000, 4).tolist(), *random.uniform(0, 2000, 2).tolist()]
        with keras_in_double():
            expected = [float(np.asarray(oracle(step))) for step in steps]
        values = [ours(step) for step in steps]
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("accumulation", [None, 3])
@each_name
def test_training_is_that_of_keras_in_double(name, accumulation):
    random = np.random.default_rng(43)
    ours, oracle = pair(name, ARGUMENTS[name][1])
    arguments = {"momentum": 0.5, "gradient_accumulation_steps": accumulation}
    steps = [[random.standard_normal(3)] for _ in range(12)]
    start = random.standard_normal(3)
    with keras_in_double():
        (expected,) = run_keras("SGD", {"learning_rate": oracle, **arguments}, [start], steps)
    optimizer, w = SGD(ours, **arguments), start.copy()
    for grads in steps:
        optimizer.apply(grads, [w])
    np.testing.assert_allclose(w, expected, rtol=0, atol=1e-14)
    assert abs(w - start).max() > 0.01


# --- Where we differ


def test_integer_rates_are_numbers_like_others():
    arguments = {"warmup_target": 0.1, "warmup_steps": 10}
    oracle = theirs.CosineDecay(0, 100, **arguments)
    assert [float(np.asarray(oracle(step))) for step in (5, 10, 60)] == [0, 0, 0]
    ours = schedules.CosineDecay(0, 100, **arguments)
    assert [ours(step) for step in (5, 10, 60)] == [0.05, 0.1, 0.05]
    assert int(np.asarray(theirs.PiecewiseConstantDecay([2], [1, 0])(1))) == 1
    assert type(schedules.PiecewiseConstantDecay([2], [1, 0])(1)) is float


def test_steps_have_more_than_24_bits():
    step = (1 << 24) + 1
    oracle = theirs.PolynomialDecay(1.0, 1 << 25, 0.0)
    assert np.asarray(oracle(step)) == np.asarray(oracle(step - 1)) == 0.5
    assert schedules.PolynomialDecay(1.0, 1 << 25, 0.0)(step) == 0.5 - 2.0**-25


# (first_decay_steps, t_mul, step of a restart): which of them Keras misses depends on its backend.
@pytest.mark.parametrize("restart", [(10, 1.2, 22), (10, 2.0, 327670), (1, 2.0, 32767)])
def test_restart_is_not_missed(restart):
    *arguments, step = restart
    assert float(np.asarray(theirs.CosineDecayRestarts(1.0, *arguments)(step))) == 0
    assert schedules.CosineDecayRestarts(1.0, *arguments)(step) == 1


@pytest.mark.parametrize("restart", [(100, 3.0, 12100), (10, 1.4, 24), (1000, 1.01, 2010)])
def test_restart_is_not_missed_as_in_double(restart):
    *arguments, step = restart
    with keras_in_double():
        assert float(np.asarray(theirs.CosineDecayRestarts(1.0, *arguments)(step))) == 0
    assert schedules.CosineDecayRestarts(1.0, *arguments)(step) == 1


def test_restarts_do_not_come_to_an_end():
    oracle = theirs.CosineDecayRestarts(1.0, 10, 0.5)  # 20 steps in all
    with np.errstate(invalid="ignore"):
        assert math.isnan(float(np.asarray(oracle(21))))
    with raises(ValueError, "t_mul must be at least 1. Received: 0.5."):
        schedules.CosineDecayRestarts(1.0, 10, 0.5)


def test_boundaries_need_not_be_whole():
    arguments = ([-0.5], [0.5, 0.25])  # Keras makes 0 of it
    assert np.asarray(theirs.PiecewiseConstantDecay(*arguments)(np.int32(0))) == 0.5
    assert schedules.PiecewiseConstantDecay(*arguments)(0) == 0.25


def test_boundaries_increase_and_may_be_none():
    unsorted = theirs.PiecewiseConstantDecay([5, 2], [0.5, 0.25, 0.125])
    assert np.asarray(unsorted(4)) == 0.625
    with pytest.raises(ValueError, match=r"^boundaries must be increasing"):
        schedules.PiecewiseConstantDecay([5, 2], [0.5, 0.25, 0.125])
    with pytest.raises(IndexError):
        theirs.PiecewiseConstantDecay([], [0.5])(1)
    assert schedules.PiecewiseConstantDecay([], [0.5])(1) == 0.5


def test_steps_before_0_belong_to_the_first_period():
    assert schedules.CosineDecayRestarts(1.0, 8)(-2) == schedules.CosineDecayRestarts(1.0, 8)(2)
    oracle = theirs.CosineDecayRestarts(1.0, 8)
    with np.errstate(invalid="ignore", divide="ignore"):
        assert math.isnan(float(np.asarray(oracle(-9))))
        cycling = theirs.PolynomialDecay(1.0, 8, 0.0, cycle=True)
        assert math.isinf(float(np.asarray(cycling(-2))))
        warmup = theirs.CosineDecay(0.5, 8, warmup_target=1.0)
        assert math.isinf(float(np.asarray(warmup(-2))))
    assert schedules.PolynomialDecay(1.0, 8, 0.0, cycle=True)(-2) == 1.25
    assert schedules.CosineDecay(0.5, 8, warmup_target=1.0)(-4) == pytest.approx(0.5)


def test_schedule_of_keras_is_refused_at_once():
    # It needs the step, and what is no LearningRateSchedule of ours is called without.
    with pytest.raises(
        ValueError, match=r"^learning_rate must be a number, a LearningRateSchedule"
    ):
        SGD(theirs.CosineDecay(0.1, 100))


def test_name_may_be_none():
    config = {"initial_learning_rate": 0.5, "decay_steps": 2, "power": 1, "name": None}
    data = {"class_name": "PolynomialDecay", "config": config}
    with pytest.raises(ValueError, match="name"):
        theirs.deserialize(data)(1)
    assert schedules.deserialize(data)(2) == 0.0001


def test_schedule_without_a_call_is_not_made():
    class Odd(theirs.LearningRateSchedule):
        pass

    with pytest.raises(NotImplementedError):  # Keras makes it, and fails when it is used
        Odd()(0)

    class Own(schedules.LearningRateSchedule):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Own()


def test_unknown_schedule_is_an_error():
    data = {"class_name": "Odd", "config": {}}
    assert theirs.deserialize(data) == "Odd"
    with pytest.raises(ValueError, match=r"^Unknown learning rate schedule 'Odd'"):
        schedules.deserialize(data)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ExponentialDecay", (math.nan, 1, 0.5)),
        ("ExponentialDecay", (0.1, 1, -0.5)),
        ("InverseTimeDecay", (0.1, 1, -0.5)),
        ("InverseTimeDecay", (0.1, math.inf, 0.5)),
        ("PolynomialDecay", (0.1, 1, 0.0, -1.0)),
        ("PiecewiseConstantDecay", ([1], [0.1, math.inf])),
        ("CosineDecay", (0.1, 1, math.nan)),
        ("CosineDecay", (0.1, 1, 0.0, "x", 0.1, -1)),
        ("CosineDecayRestarts", (0.1, 1, 2.0, -1.0)),
        ("CosineDecay", (0.1, 1, 0.0, 3)),
    ],
)
def test_arguments_that_keras_takes_are_checked(name, arguments):
    getattr(theirs, name)(*arguments)
    with pytest.raises(ValueError, match="must be"):
        getattr(schedules, name)(*arguments)


@each_name
def test_step_is_one_number(name):
    ours, oracle = pair(name, ARGUMENTS[name][0])
    with raises(ValueError, "step must be a number. Received: array([0, 1])."):
        ours(np.arange(2))
    if name == "ExponentialDecay":
        assert np.asarray(oracle(np.arange(2))).shape == (2,)
