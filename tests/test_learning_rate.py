"""The learning rate: a number, a schedule or a callable, at any time; and callable betas."""

import json

import numpy as np
import pytest
from checks import Pair, assert_same, config_and, each_rule, normal, raises, snapshot

import ravine

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")


class Steps(ravine.schedules.LearningRateSchedule):
    """Records what it is asked for; the rate is the step plus 1."""

    def __init__(self):
        self.asked = []

    def __call__(self, step):
        self.asked.append(step)
        return step + 1.0


def test_learning_rate_reads_as_a_float():
    for value in (0.1, 1, np.float32(0.1), np.float64(0.1), np.int64(2), -3, 0):
        optimizer = ravine.SGD(value)
        assert type(optimizer.learning_rate) is float
        assert optimizer.learning_rate == float(value)


def test_learning_rate_may_become_a_number_a_schedule_or_a_callable():
    w = np.zeros(1)
    optimizer = ravine.SGD(1.0)
    optimizer.build([w])
    schedule = Steps()
    expected = 0.0
    for value, rate in [
        (schedule, 1),
        (2, 2),
        (lambda: 10.0, 10),
        (schedule, 4),
        (lambda: np.float32(0.5), 0.5),
        (np.float64(8), 8),
    ]:
        optimizer.learning_rate = value
        assert optimizer.learning_rate == rate
        assert len(optimizer.variables) == (2 if isinstance(value, (int, float)) else 1)
        optimizer.apply([np.ones(1)])
        expected -= rate
        assert w.tolist() == [expected]


def test_learning_rate_callable_is_asked_once_a_step():
    calls = []

    def rate():
        calls.append(1)
        return 0.5

    w = [np.ones(1), np.ones(1)]
    optimizer = ravine.SGD(rate, weight_decay=0.5)
    optimizer.build(w)
    assert calls == []
    for step in range(3):
        optimizer.apply([np.ones(1), np.ones(1)])
        assert len(calls) == step + 1


def test_schedule_sees_calls_of_apply_micro_steps_included():
    w = np.zeros(1)
    schedule = Steps()
    optimizer = ravine.SGD(schedule, gradient_accumulation_steps=3)
    optimizer.build([w])
    for _ in range(6):
        optimizer.apply([np.ones(1)])
    assert w.tolist() == [-3 - 6]  # steps 2 and 5, from 0
    assert schedule.asked[-1] == 5
    assert optimizer.iterations == 2
    assert optimizer.learning_rate == 7


@each_rule
def test_schedule_equals_reference(rule):
    random = np.random.default_rng(31)
    schedule = ravine.schedules.ExponentialDecay(0.1, 3, 0.7)
    pair = Pair(rule, [normal(random, 9, np.float32)], learning_rate=0.1, weight_decay=0.1)
    pair.product.learning_rate = schedule
    pair.reference.learning_rate = lambda n: 0.1 * 0.7 ** (n / 3)
    pair.run([[normal(random, 9, np.float32)] for _ in range(5)])


def test_betas_may_be_callables():
    random = np.random.default_rng(32)
    steps = [normal(random, 9, np.float32) for _ in range(4)]
    values = iter([0.9, 0.8, 0.7, 0.6])
    free, fixed = np.ones(9, np.float32), np.ones(9, np.float32)

    def beta_1():
        return next(values)

    optimizer = ravine.Nadam(0.1, beta_1=beta_1, beta_2=lambda: np.float32(0.5))
    assert optimizer.beta_1 is beta_1
    other = ravine.Nadam(0.1, beta_2=0.5)
    for g, beta in zip(steps, [0.9, 0.8, 0.7, 0.6], strict=True):
        other.beta_1 = beta
        optimizer.apply([g], [free])
        other.apply([g], [fixed])
        assert_same(free, fixed)
    optimizer.beta_1 = 0.25
    assert optimizer.beta_1 == 0.25
    optimizer.apply([steps[0]])


def test_betas_are_asked_once_a_call_micro_steps_included():
    asked = []

    def beta(name):
        return lambda: asked.append(name) or 0.5

    w = [np.ones(2), np.ones(2)]
    optimizer = ravine.Nadam(
        0.1, beta_1=beta("beta_1"), beta_2=beta("beta_2"), gradient_accumulation_steps=2
    )
    optimizer.build(w)
    assert asked == []
    for call in range(1, 5):
        optimizer.apply([np.ones(2), np.ones(2)])
        assert asked == ["beta_1", "beta_2"] * call


def test_momentum_product_has_the_beta_of_each_step():
    values = [0.9, 0.8, 0.7]
    optimizer = ravine.Nadam(beta_1=iter(values).__next__)
    product, w = 1.0, np.ones(2)
    for t, beta_1 in enumerate(values, start=1):
        optimizer.apply([np.ones(2)], [w])
        product *= beta_1 * (1 - 0.5 * 0.96**t)
        assert float(optimizer.state_dict()["momentum_product"]) == pytest.approx(
            product, rel=1e-15
        )


def test_function_that_fails_as_beta_changes_nothing():
    values = iter([0.5, 0.25])
    w = np.ones(2)
    optimizer = ravine.Nadam(beta_1=values.__next__, beta_2=lambda: 1 / 0 if w[0] != 1 else 0.5)
    optimizer.apply([np.ones(2)], [w])
    before = snapshot(optimizer, w)
    with pytest.raises(ZeroDivisionError):
        optimizer.apply([np.ones(2)])
    assert snapshot(optimizer, w) == before
    optimizer.beta_1 = optimizer.beta_2 = 0.5
    optimizer.apply([np.ones(2)])
    other, start = ravine.Nadam(beta_1=0.5, beta_2=0.5), np.ones(2)
    for _ in range(2):
        other.apply([np.ones(2)], [start])
    assert_same(w, start)


# --- Numbers in arrays without axes


class Foreign:
    """An array without axes of a library that ravine does not know."""

    shape = ()

    def __init__(self, value):
        self._value = value

    def __array__(self, dtype=None, copy=None):
        return np.array(self._value, dtype)


KINDS = {
    "float": float,
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "array": np.array,
    "float16_array": lambda value: np.array(value, np.float16),
    "bfloat16_array": lambda value: np.array(value, ml_dtypes.bfloat16),
    "read_only_array": lambda value: np.broadcast_to(np.array(value), ()),
    "foreign": Foreign,
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@each_kind
def test_rate_and_betas_may_be_any_kind_of_number(kind):
    values = {"learning_rate": 0.125, "beta_1": 0.75, "beta_2": 0.875}
    expected, w = np.ones(3), {}
    optimizer = ravine.Nadam(**values)
    for _ in range(3):
        optimizer.apply([np.full(3, 0.5)], [expected])
    given = {name: kind(value) for name, value in values.items()}
    w["number"], numbers = np.ones(3), ravine.Nadam(**given)
    w["set"], later = np.ones(3), ravine.Nadam()
    w["function"] = np.ones(3)
    functions = ravine.Nadam(**{name: lambda v=value: v for name, value in given.items()})
    for name, value in given.items():
        setattr(later, name, value)
        for each in (numbers, later):
            assert (type(getattr(each, name)), getattr(each, name)) == (float, values[name])
    assert functions.learning_rate == 0.125
    for each, start in zip((numbers, later, functions), w.values(), strict=True):
        for _ in range(3):
            each.apply([np.full(3, 0.5)], [start])
        assert_same(start, expected)
    assert numbers.get_config() == later.get_config() == optimizer.get_config()
    assert json.loads(json.dumps(numbers.get_config())) == numbers.get_config()


def test_whole_numbers_in_arrays_are_numbers():
    assert ravine.SGD(np.array(2)).learning_rate == 2.0
    assert ravine.SGD(np.array(2, np.uint8), weight_decay=np.array(1)).weight_decay == 1.0
    assert ravine.SGD(momentum=np.array(0.5)).momentum == 0.5


def test_array_is_read_when_it_is_set():
    rate = np.array(0.5)
    optimizer = ravine.SGD(rate)
    rate[...] = 7
    assert optimizer.learning_rate == 0.5


@pytest.mark.parametrize(
    "value", [np.array([0.5]), np.array(True), np.array(0.5j), np.array("0.5"), np.array(None)]
)
def test_other_arrays_are_no_numbers(value):
    with raises(ValueError, f"beta_1 must be a number. Received: {value!r}."):
        ravine.Nadam(beta_1=value)
    message = f"The function given as learning_rate must return a number. Received: {value!r}."
    with raises(ValueError, message):
        assert ravine.Nadam(lambda: value).learning_rate


# --- What is no rate


def trained():
    w = np.zeros(3)
    optimizer = ravine.Nadam(0.1, use_ema=True, gradient_accumulation_steps=2)
    for _ in range(3):
        optimizer.apply([np.ones(3)], [w])
    return optimizer, w


def needs_a_step(step):
    return 0.1 / (step + 1)


@pytest.mark.parametrize(
    "function", [needs_a_step, ravine.schedules.CosineDecay, Steps().__call__, np.sqrt, str.lower]
)
def test_function_that_needs_arguments_is_refused_at_once(function):
    optimizer = ravine.Nadam(0.25, beta_1=0.5)
    message = (
        "learning_rate must be a number, a LearningRateSchedule or a function without arguments. "
        f"Received: {function!r}."
    )
    with raises(ValueError, message):
        optimizer.learning_rate = function
    message = f"beta_1 must be a number or a function without arguments. Received: {function!r}."
    with raises(ValueError, message):
        optimizer.beta_1 = function
    assert (optimizer.learning_rate, optimizer.beta_1) == (0.25, 0.5)


@pytest.mark.parametrize(
    "function", [lambda rate=0.5: rate, lambda *_: 0.5, [0.5].__iter__().__next__, [0.5].pop]
)
def test_function_that_needs_none_is_accepted(function):
    assert ravine.Nadam(function).learning_rate == 0.5


RATES = {
    "function_without_number": (
        lambda: None,
        "The function given as learning_rate must return a number. Received: None.",
    ),
    "function_with_nan": (
        lambda: np.float32(np.nan),
        "The function given as learning_rate must be a finite number. Received: nan.",
    ),
}


@pytest.mark.parametrize(("rate", "message"), RATES.values(), ids=RATES)
def test_rate_of_a_function_is_refused_and_changes_nothing(rate, message):
    optimizer, w = trained()
    before = config_and(optimizer, w)
    optimizer.learning_rate = rate
    with raises(ValueError, message):
        optimizer.apply([np.ones(3)])
    with raises(ValueError, message):
        assert optimizer.learning_rate
    optimizer.learning_rate = 0.1
    assert config_and(optimizer, w) == before


def test_rate_of_a_schedule_is_refused_and_changes_nothing():
    class Odd(ravine.schedules.LearningRateSchedule):
        def __call__(self, step):
            return {3: "x", 4: np.inf}[step]

    optimizer, w = trained()
    before = config_and(optimizer, w)
    optimizer.learning_rate = Odd()
    with raises(ValueError, "The schedule Odd must return a number. Received: 'x'."):
        optimizer.apply([np.ones(3)])
    optimizer.learning_rate = 0.1
    assert config_and(optimizer, w) == before
    optimizer.apply([np.ones(3)])
    optimizer.learning_rate = Odd()
    with raises(ValueError, "The schedule Odd at step 4 must be a finite number. Received: inf."):
        optimizer.apply([np.ones(3)])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2.0, "beta_2 must be in [0, 1). Received: 2."),
        ("x", "beta_2() must be a number. Received: 'x'."),
    ],
)
def test_beta_of_a_function_is_refused_and_changes_nothing(value, message):
    # One beta is good, the other is not: the good one is not taken either.
    w, values = np.ones(2), {"beta_1": 0.9, "beta_2": 0.99}
    optimizer = ravine.Nadam(beta_1=lambda: values["beta_1"], beta_2=lambda: values["beta_2"])
    optimizer.apply([np.ones(2)], [w])
    before = snapshot(optimizer, w)
    values.update(beta_1=0.5, beta_2=value)
    with raises(ValueError, message):
        optimizer.apply([np.ones(2)])
    assert snapshot(optimizer, w) == before
    values.update(beta_2=0.25)
    with pytest.raises(ValueError, match=r"^Gradient 0 has shape"):
        optimizer.apply([np.ones(3)])
    assert snapshot(optimizer, w) == before
    # The numbers of the last step, which nothing else shows.
    assert (optimizer._rule.beta_1, optimizer._rule.beta_2) == (0.9, 0.99)
