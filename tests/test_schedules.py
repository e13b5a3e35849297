"""Schedules: values, configuration, what Keras stores."""

import json
from fractions import Fraction

import numpy as np
import pytest

import ravine
from ravine.schedules import ExponentialDecay, LearningRateSchedule, deserialize, serialize


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        # Quarters, halves and their roots: step, rate
        ((1.0, 1, 0.5), {0: 1, 1: 0.5, 2: 0.25, 10: 2.0**-10}),
        ((0.5, 2, 0.25), {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.0625, 4: 0.03125}),
        ((0.5, 2, 0.25, True), {0: 0.5, 1: 0.5, 2: 0.125, 3: 0.125, 4: 0.03125}),
        ((0.5, 0.5, 0.5), {0: 0.5, 1: 0.125, 2: 0.03125}),
        ((3, 1, 1), {0: 3, 7: 3}),
        ((3, 1, 0), {0: 3, 1: 0, 7: 0}),
        ((1.0, 4, 2), {0: 1, 4: 2, 8: 4}),
        ((-1.0, 1, 0.5), {0: -1, 1: -0.5}),
    ],
)
def test_exponential_decay_gives_values_computed_by_hand(arguments, values):
    schedule = ExponentialDecay(*arguments)
    assert {step: schedule(step) for step in values} == values
    assert all(type(schedule(step)) is float for step in values)


def test_exponential_decay_is_in_double():
    schedule = ExponentialDecay(0.1, 1000, 0.96)
    for step in (1, 999, 12345, (1 << 24) + 1):
        exact = 0.1 * float(Fraction(0.96)) ** (step / 1000)
        assert schedule(step) == pytest.approx(exact, rel=1e-14, abs=0)
    assert schedule(1 << 24) != schedule((1 << 24) + 1)  # float32 has no such step


def test_exponential_decay_keeps_its_arguments():
    schedule = ExponentialDecay(0.5, 100, np.float32(0.5), staircase=True, name="slow")
    config = {
        "initial_learning_rate": 0.5,
        "decay_steps": 100,
        "decay_rate": 0.5,
        "staircase": True,
        "name": "slow",
    }
    assert schedule.get_config() == config
    again = ExponentialDecay.from_config(json.loads(json.dumps(schedule.get_config())))
    assert again.get_config() == config
    assert ExponentialDecay(0.5, 1, 0.5).name == "ExponentialDecay"


def test_serialized_schedule_reads_back():
    schedule = ExponentialDecay(0.5, 100, 0.5)
    data = serialize(schedule)
    assert set(data) == {"module", "class_name", "config", "registered_name"}
    text = json.dumps(data)
    again = deserialize(json.loads(text))
    assert type(again) is ExponentialDecay
    assert again.get_config() == schedule.get_config()
    deserialize(data)
    assert json.dumps(data) == text


def test_deserialize_reads_what_keras_stores():
    config = {"initial_learning_rate": 0.5, "decay_steps": 2, "decay_rate": 0.25}
    keras = {
        "module": "keras.optimizers.schedules",
        "class_name": "ExponentialDecay",
        "config": {**config, "staircase": False, "name": "ExponentialDecay"},
        "registered_name": None,
    }
    assert deserialize(keras)(2) == 0.125
    assert deserialize({"class_name": "ExponentialDecay", "config": config})(2) == 0.125


def test_base_class_needs_a_call():
    with pytest.raises(TypeError, match="abstract"):
        LearningRateSchedule()


def test_schedule_serves_several_optimizers():
    schedule = ExponentialDecay(1.0, 1, 0.5)
    first, second, w = ravine.SGD(schedule), ravine.SGD(schedule), np.zeros(1)
    for expected in (-1, -1.5):
        first.apply([np.ones(1)], [w])
        assert w.tolist() == [expected]
    assert (first.learning_rate, second.learning_rate) == (0.25, 1)
