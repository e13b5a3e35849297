"""Schedules: values, configuration, what Keras stores."""

import decimal
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from checks import cases, raises

import ravine
from ravine.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
    PolynomialDecay,
    deserialize,
    serialize,
)

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")

EACH = [
    ExponentialDecay(0.5, 100, 0.25, name="mine"),
    InverseTimeDecay(0.5, 100, 0.25, staircase=True),
    PiecewiseConstantDecay([1, 5], np.array([0.5, 0.25, 0.125], np.float32)),
    PolynomialDecay(0.5, 100, power=2, cycle=True),
    CosineDecay(0, 100, warmup_target=0.5, warmup_steps=10),
    CosineDecayRestarts(0.5, 100, np.float64(1.5), m_mul=0.5, name=None),
]
each_schedule = pytest.mark.parametrize("schedule", EACH, ids=lambda each: type(each).__name__)


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


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (InverseTimeDecay(1, 1, 1), {0: 1, 1: 0.5, 3: 0.25, 7: 0.125}),
        (InverseTimeDecay(1, 2, 1), {0: 1, 2: 0.5, 1: 1 / 1.5, -2: math.inf}),
        (InverseTimeDecay(1, 2, 1, True), {0: 1, 1: 1, 2: 0.5, 3: 0.5, 6: 0.25, 7.9: 0.25}),
        (InverseTimeDecay(3, 2, 0), {0: 3, 100: 3}),
        (ExponentialDecay(1, 2, 0), {0: 1, 1: 0, -1: math.inf}),
        (PolynomialDecay(1.0, 8, 0.5), {0: 1, 2: 0.875, 4: 0.75, 8: 0.5, 9: 0.5, -8: 1.5}),
        (PolynomialDecay(1.0, 8, 0, 2), {0: 1, 2: 0.5625, 4: 0.25, 6: 0.0625, 8: 0, 9: 0}),
        (PolynomialDecay(1.0, 8, 0, 0.5), {0: 1, 6: 0.5, 8: 0}),
        (PolynomialDecay(1.0, 8, 0.5, 0), {0: 1, 6: 1, 8: 1, 9: 1}),
        (PolynomialDecay(0.25, 8, 1, 1), {0: 0.25, 4: 0.625, 8: 1, 100: 1}),
        (
            PolynomialDecay(1.0, 8, 0, cycle=True),
            {0: 1, 4: 0.5, 8: 0, 9: 7 / 16, 12: 0.25, 16: 0, 32: 0, 36: 0.1},
        ),
        (PiecewiseConstantDecay([3], [1, 2]), {-1: 1, 0: 1, 3: 1, 3.5: 2, 4: 2}),
        (PiecewiseConstantDecay((1, 2.5), (1, 2, 3)), {0: 1, 1: 1, 2: 2, 2.5: 2, 3: 3, 99: 3}),
        (PiecewiseConstantDecay([], [0.5]), {-1: 0.5, 0: 0.5, 99: 0.5}),
        (CosineDecay(1, 8), {0: 1, 4: 0.5, 8: 0, 9: 0}),
        (CosineDecay(1, 8, 0.5), {0: 1, 4: 0.75, 8: 0.5, 9: 0.5}),
        (CosineDecay(1, 8, 2), {0: 1, 4: 1.5, 8: 2, 9: 2}),
        (CosineDecay(1, 8, warmup_steps=4), {0: 1, 4: 0.5, 8: 0}),
        (
            CosineDecay(1, 8, 0.5, warmup_target=2, warmup_steps=4),
            {-4: 0, 0: 1, 2: 1.5, 4: 2, 8: 1.5, 12: 1, 13: 1},
        ),
        (CosineDecay(2, 8, warmup_target=1, warmup_steps=4), {0: 2, 2: 1.5, 4: 1, 8: 0.5, 12: 0}),
        (CosineDecay(2, 8, warmup_target=1), {-4: 0.5, 0: 1, 4: 0.5, 8: 0}),
        (CosineDecayRestarts(1, 8), {0: 1, 4: 0.5, 8: 1, 16: 0.5, 24: 1, 40: 0.5, 56: 1}),
        (CosineDecayRestarts(1, 8, 1), {0: 1, 4: 0.5, 8: 1, 12: 0.5, 800: 1, 804: 0.5}),
        (CosineDecayRestarts(1, 8, 1, 0.5, 0.5), {0: 1, 4: 0.75, 8: 0.75, 16: 0.625, 20: 0.5625}),
        (CosineDecayRestarts(1, 8, 1.5, 2), {0: 1, 4: 0.5, 8: 2, 14: 1, 20: 4, 29: 2}),
        (CosineDecayRestarts(1, 8, 3, 0), {0: 1, 4: 0.5, 8: 0, 20: 0}),
        (CosineDecayRestarts(1, 0.25, 2), {0: 1, 0.125: 0.5, 0.25: 1, 1.75: 1, 2.75: 0.5}),
    ],
)
def test_schedule_gives_values_computed_by_hand(schedule, values):
    found = {step: schedule(step) for step in values}
    assert found == pytest.approx(values, rel=1e-15, abs=1e-16)
    assert all(type(rate) is float for rate in found.values())


def test_cycle_ends_where_rounding_puts_its_end_before_the_step():
    decay_steps, step = 0.7, 63
    assert decay_steps * math.ceil(step / decay_steps) < step  # a root of 1 - p is none
    assert PolynomialDecay(1.0, decay_steps, 0.25, 0.5, cycle=True)(step) == 0.25


@pytest.mark.parametrize(
    ("first", "t_mul"),
    [
        *((2, 1.5), (100, 1.1), (10, 1.2), (7, 1.001), (4, 1.25), (10, 2.0), (1000.5, 1.4)),
        *((5, 1.0), (1, 2.0), (100, 3.0), (0.3, 1.01), (1, 1 + 2.0**-52)),
    ],
)
def test_every_restart_is_at_the_first_step_of_its_period(first, t_mul):
    schedule = CosineDecayRestarts(1.0, first, t_mul, m_mul=1.25)
    length, begin = Fraction(repr(first)), Fraction(0)
    for period in range(300):
        end = begin + length
        if end > 1 << 53:
            break
        for step in {math.ceil(begin), math.ceil(end) - 1}:
            if begin <= step < end:
                part = math.pi * float((step - begin) / length)
                expected = 0.5 * 1.25**period * (1 + math.cos(part))
                assert schedule(step) == pytest.approx(expected, rel=1e-14, abs=1e-15)
        begin, length = end, length * Fraction(repr(t_mul))
    assert period > 20


def test_restarts_of_decimal_numbers_are_on_whole_steps():
    for first, t_mul, steps in [(2, 1.5, (2, 5)), (100, 1.1, (100, 210, 331)), (1, 1, (1, 7, 99))]:
        schedule = CosineDecayRestarts(1.0, first, t_mul)
        assert [schedule(step) for step in steps] == [1] * len(steps)
        assert all(schedule(step - 1) < 1 for step in steps if first > 1)


def test_restarts_do_not_depend_on_the_decimal_context():
    with decimal.localcontext(decimal.Context(prec=3, traps=[decimal.Inexact, decimal.Rounded])):
        assert CosineDecayRestarts(1.0, 100, 1.1)(331) == 1


@each_schedule
def test_step_may_be_any_kind_of_number(schedule):
    expected = schedule(3)
    numbers = [3.0, np.int64(3), np.float32(3), np.array(3), np.array(3.0), Fraction(3)]
    numbers += [ml_dtypes.bfloat16(3), np.array(3, ml_dtypes.bfloat16)]
    for step in numbers:
        rate = schedule(step)
        assert (type(rate), rate) == (float, expected)
    assert schedule(3.5) != expected or isinstance(
        schedule, (PiecewiseConstantDecay, InverseTimeDecay)
    )


@each_schedule
@pytest.mark.parametrize("step", [None, "3", True, [3], np.arange(2), 1j])
def test_step_must_be_a_number(schedule, step):
    with raises(ValueError, f"step must be a number. Received: {step!r}."):
        schedule(step)


@each_schedule
@pytest.mark.parametrize("step", [math.inf, -math.inf, math.nan])
def test_step_must_be_finite(schedule, step):
    with raises(ValueError, f"step must be finite. Received: {step!r}."):
        schedule(step)


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


@each_schedule
def test_serialized_schedule_reads_back(schedule):
    data = serialize(schedule)
    assert data == {
        "module": "keras.optimizers.schedules",
        "class_name": type(schedule).__name__,
        "config": schedule.get_config(),
        "registered_name": None,
    }
    text = json.dumps(data)
    again = deserialize(json.loads(text))
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()
    assert [again(step) for step in range(7)] == [schedule(step) for step in range(7)]
    deserialize(data)
    assert json.dumps(data) == text
    assert type(schedule).from_config(data["config"]).get_config() == data["config"]
    assert json.dumps(data) == text


def test_config_is_a_copy():
    schedule = PiecewiseConstantDecay([1], [0.5, 0.25])
    schedule.get_config()["values"][0] = 9
    assert schedule(0) == 0.5


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


@each_schedule
def test_optimizer_asks_the_schedule_once_a_step(schedule):
    w = np.zeros(1)
    optimizer = ravine.SGD(schedule)
    for step in range(12):
        before = float(w[0])
        assert optimizer.learning_rate == schedule(step)
        optimizer.apply([np.ones(1)], [w])
        assert w[0] == before - schedule(step)


# --- What is refused

REFUSED = {
    "rate": (
        lambda: InverseTimeDecay("a", 1, 1),
        ValueError,
        "initial_learning_rate must be a number. Received: 'a'.",
    ),
    "infinite_rate": (
        lambda: CosineDecay(math.inf, 1),
        ValueError,
        "initial_learning_rate must be finite. Received: inf.",
    ),
    "decay_steps": (
        lambda: CosineDecay(1, 0),
        ValueError,
        "decay_steps must be above 0. Received: 0.",
    ),
    "first_decay_steps": (
        lambda: CosineDecayRestarts(1, -3),
        ValueError,
        "first_decay_steps must be above 0. Received: -3.",
    ),
    "decay_rate": (
        lambda: InverseTimeDecay(1, 1, -0.5),
        ValueError,
        "decay_rate must be at least 0. Received: -0.5.",
    ),
    "end_learning_rate": (
        lambda: PolynomialDecay(1, 1, math.nan),
        ValueError,
        "end_learning_rate must be finite. Received: nan.",
    ),
    "power": (
        lambda: PolynomialDecay(1, 1, power=-1),
        ValueError,
        "power must be at least 0. Received: -1.",
    ),
    "cycle": (
        lambda: PolynomialDecay(1, 1, cycle=None),
        ValueError,
        "cycle must be True or False. Received: None.",
    ),
    "alpha": (
        lambda: CosineDecay(1, 1, None),
        ValueError,
        "alpha must be a number. Received: None.",
    ),
    "warmup_target": (
        lambda: CosineDecay(1, 1, warmup_target="0.1"),
        ValueError,
        "warmup_target must be a number. Received: '0.1'.",
    ),
    "warmup_steps": (
        lambda: CosineDecay(1, 1, warmup_steps=-1),
        ValueError,
        "warmup_steps must be at least 0. Received: -1.",
    ),
    "t_mul": (
        lambda: CosineDecayRestarts(1, 1, 0.99),
        ValueError,
        "t_mul must be at least 1. Received: 0.99.",
    ),
    "m_mul": (
        lambda: CosineDecayRestarts(1, 1, m_mul=-1),
        ValueError,
        "m_mul must be at least 0. Received: -1.",
    ),
    "name": (
        lambda: CosineDecay(1, 1, name=3),
        ValueError,
        "name must be a string. Received: 3.",
    ),
    "boundaries_no_list": (
        lambda: PiecewiseConstantDecay(3, [1, 2]),
        ValueError,
        "boundaries must be a list of numbers. Received: 3.",
    ),
    "boundary": (
        lambda: PiecewiseConstantDecay([1, "2"], [1, 2, 3]),
        ValueError,
        "boundaries[1] must be a number. Received: '2'.",
    ),
    "value": (
        lambda: PiecewiseConstantDecay([1], [math.nan, 2]),
        ValueError,
        "values[0] must be finite. Received: nan.",
    ),
    "boundaries_not_increasing": (
        lambda: PiecewiseConstantDecay([1, 1], [1, 2, 3]),
        ValueError,
        "boundaries must be increasing. Received: [1.0, 1.0].",
    ),
    "too_few_values": (
        lambda: PiecewiseConstantDecay([1, 2], [1, 2]),
        ValueError,
        "There must be one value more than boundaries. Received: 2 values, 2 boundaries.",
    ),
    "serialize_no_schedule": (
        lambda: serialize(0.1),
        ValueError,
        "Only a LearningRateSchedule can be serialized. Received: 0.1.",
    ),
    "deserialize_no_dict": (
        lambda: deserialize("CosineDecay"),
        ValueError,
        "The configuration of the learning rate schedule must be a dict with 'class_name', a "
        "string, and 'config', a dict. Received: 'CosineDecay'.",
    ),
    "deserialize_without_class_name": (
        lambda: deserialize({"config": {}}),
        ValueError,
        "The configuration of the learning rate schedule must be a dict with 'class_name', a "
        "string, and 'config', a dict. Received: {'config': {}}.",
    ),
    "deserialize_unknown": (
        lambda: deserialize({"class_name": "cosinedecay", "config": {}}),
        ValueError,
        "Unknown learning rate schedule 'cosinedecay'. Known: ['CosineDecay', "
        "'CosineDecayRestarts', 'ExponentialDecay', 'InverseTimeDecay', 'PiecewiseConstantDecay', "
        "'PolynomialDecay']. Pass a class of your own in custom_objects.",
    ),
}


@cases(REFUSED)
def test_refused(call, kind, message):
    with raises(kind, message):
        call()
