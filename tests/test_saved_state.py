"""State as a list, in a store and across accumulation windows; loading is whole or not at all."""

import re

import numpy as np
import pytest
from checks import (
    RULES,
    assert_same,
    bits,
    config_and,
    each_dtype,
    each_rule,
    ignores_missing,
    make,
    normal,
    raises,
    snapshot,
)
from state_checks import plain_and_everything, plain_and_scaled, scaled, steps_for

import ravine
from ravine import _saved_state

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")

SHAPES = {"a/kernel": (3, 4), "b": (), "c": (70,)}


def through_list(source, target):
    target.set_weights(source.get_weights())


def through_store(source, target):
    store = {}
    source.save_own_variables(store)
    assert list(store) == [str(i) for i in range(len(source.variables))]
    target.load_own_variables(store)


def through_variables(source, target):
    target.set_weights(source.variables)


each_way = pytest.mark.parametrize("way", [through_list, through_store, through_variables])


# --- Lists


@ignores_missing
@each_way
@plain_and_scaled
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 5])
@plain_and_everything
@each_rule
def test_training_goes_on_with_the_same_bits(rule, options, stop, make_one, way):
    random = np.random.default_rng(60)
    weights = {name: normal(random, shape, np.float32) for name, shape in SHAPES.items()}
    steps = steps_for(weights, random, 8)
    steps[stop]["b"] = steps[4]["c"] = None
    optimizer = make_one(rule, **options)
    optimizer.build(weights)
    for g in steps[:stop]:
        optimizer.apply(g)
    resumed = make_one(rule, **{**options, "learning_rate": 0.7})
    saved = {name: w.copy() for name, w in weights.items()}
    resumed.build(saved)
    way(optimizer, resumed)
    assert resumed.learning_rate == 0.1
    for g in steps[stop:]:
        optimizer.apply(g)
        resumed.apply(g)
    for name in SHAPES:
        assert_same(saved[name], weights[name], name)
    assert snapshot(resumed) == snapshot(optimizer)


@each_dtype
def test_weights_are_copies_in_the_order_of_the_variables(dtype):
    optimizer = make("nadam", use_ema=True)
    w = np.ones(3, dtype)
    optimizer.apply([np.ones(3, dtype)], [w])
    weights = optimizer.get_weights()
    assert [bits(a) for a in weights] == [bits(a) for a in optimizer.variables]
    before = snapshot(optimizer)
    for array in weights:
        array[...] = 7
    assert snapshot(optimizer) == before


def test_types_may_be_narrower():
    optimizer = ravine.Nadam(0.5)
    w = [np.ones(3), np.ones(2, ml_dtypes.bfloat16)]
    optimizer.build(w)
    optimizer.set_weights(
        [
            np.array(4, np.int32),
            np.array(0.25, np.float32),
            np.full(3, 0.5, np.float32),
            np.full(3, 0.5, np.float16),
            np.full(2, 0.5, ml_dtypes.bfloat16),
            np.full(2, 0.5, np.float16),
            np.float32(0.75),
        ]
    )
    assert (optimizer.iterations, optimizer.learning_rate) == (4, 0.25)
    assert [a.dtype for a in optimizer.variables[2:6]] == ["f8", "f8", "f4", "f4"]
    assert all((a == 0.5).all() for a in optimizer.variables[2:6])
    assert optimizer.variables[6] == 0.75


def test_arrays_of_state_may_be_given_in_another_place():
    optimizer = make("nadam", use_ema=True)
    optimizer.build([np.ones(3), np.ones(3)])
    optimizer.apply([np.ones(3), np.full(3, 2.0)])
    iteration, rate, average, other_average, *slots, product = optimizer.variables
    expected = [bits(array) for array in (iteration, rate, other_average, average)]
    expected += [bits(array) for array in (*slots[::-1], product)]
    optimizer.set_weights([iteration, rate, other_average, average, *slots[::-1], product])
    assert [bits(array) for array in optimizer.variables] == expected


def optimizer_with_state():
    weights = {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}
    optimizer = ravine.SGD(0.5, momentum=0.5, gradient_accumulation_steps=2)
    optimizer.build(weights)
    for _ in range(3):
        optimizer.apply({"a": np.ones(2), "b": np.ones(3)})
    return optimizer, weights


KEYS = (
    "['iteration', 'learning_rate', 'gradient_accumulator/a', 'gradient_accumulator/b', "
    "'momentum/a', 'momentum/b']"
)


def replaced(index, value):
    def change(weights):
        return [*weights[:index], value, *weights[index + 1 :]]

    return change


def must_be(key, shape, dtype, other_shape, other_dtype):
    return (
        f"'{key}' must have shape {shape} and dtype {dtype}. Received: shape {other_shape}, dtype "
        f"{other_dtype}. Nothing was loaded."
    )


LISTS = {
    "short": (
        lambda weights: weights[:-1],
        f"Expected 6 arrays, in the order of the optimizer's variables: {KEYS}. Received: 5. "
        "Nothing was loaded.",
    ),
    "long": (
        lambda weights: [*weights, np.ones(1)],
        f"Expected 6 arrays, in the order of the optimizer's variables: {KEYS}. Received: 7. "
        "Nothing was loaded.",
    ),
    "shape": (
        replaced(4, np.ones(3, np.float32)),
        must_be("momentum/a", (2,), "float32", (3,), "float32"),
    ),
    "wider": (
        replaced(4, np.ones(2)),
        must_be("momentum/a", (2,), "float32", (2,), "float64"),
    ),
    "integers": (
        replaced(4, np.ones(2, np.int16)),
        must_be("momentum/a", (2,), "float32", (2,), "int16"),
    ),
    "iteration": (
        replaced(0, np.array(1.0)),
        must_be("iteration", (), "int64", (), "float64"),
    ),
    "negative_iteration": (
        replaced(0, np.array(-1)),
        "'iteration' must be at least 0 and below 2**62. Nothing was loaded.",
    ),
    "other_window": (
        replaced(0, np.array(4)),
        "The gradient accumulators are not zero, and with gradient_accumulation_steps=2 iteration "
        "4 begins a window: this was saved with windows of another length. Nothing was loaded.",
    ),
}


@pytest.mark.parametrize(("change", "message"), LISTS.values(), ids=LISTS)
def test_list_that_does_not_fit_changes_nothing(change, message):
    optimizer, weights = optimizer_with_state()
    before = config_and(optimizer, *weights.values())
    with raises(ValueError, message):
        optimizer.set_weights(change(optimizer.get_weights()))
    assert config_and(optimizer, *weights.values()) == before


def test_list_needs_build():
    message = "The optimizer has no state yet. Call build(variables) first."
    for optimizer in (ravine.SGD(), ravine.LossScaleOptimizer(ravine.SGD())):
        with raises(ValueError, message):
            optimizer.get_weights()
        weights = [np.array(0)] * (2 if type(optimizer) is ravine.SGD else 6)
        with raises(ValueError, message):
            optimizer.set_weights(weights)


def test_list_of_a_loss_scale_has_four_more():
    optimizer = scaled("sgd_momentum")
    optimizer.build([np.ones(2)])
    for g in (64.0, np.inf, 64.0):
        optimizer.apply([np.full(2, g)])
    assert [float(a) for a in optimizer.get_weights()[:4]] == [2, 0, 1, 32]
    with raises(
        ValueError,
        "Expected 7 arrays, in the order of the optimizer's variables: ['iteration', "
        "'learning_rate', 'step_counter', 'dynamic_scale', 'iteration', 'learning_rate', "
        "'momentum/variable_0']. Received: 3. Nothing was loaded.",
    ):
        optimizer.set_weights(optimizer.inner_optimizer.get_weights())
    before = snapshot(optimizer)
    weights = optimizer.get_weights()
    weights[3] = np.array(np.inf, np.float32)
    with pytest.raises(ValueError, match=r"^dynamic_scale must be in .* Nothing was loaded\.$"):
        optimizer.set_weights(weights)
    assert snapshot(optimizer) == before
    inner = optimizer.inner_optimizer
    inner.set_weights(inner.get_weights())  # leaves the scale
    assert snapshot(optimizer) == before


@pytest.mark.parametrize(
    "store", [{"0": 1, "2": 2}, {"0": 1, "iteration": 2}], ids=["gap", "unknown"]
)
def test_store_that_lacks_a_key_is_refused(store):
    optimizer, _ = optimizer_with_state()
    before = snapshot(optimizer)
    with raises(
        ValueError, "The store must have the keys '0' to '1'. Missing: ['1']. Nothing was loaded."
    ):
        optimizer.load_own_variables(store)
    assert snapshot(optimizer) == before


# --- Windows


@pytest.mark.parametrize("steps", [0, 2, 3])
def test_state_of_another_window_length_is_refused(steps):
    def built(window):
        optimizer = ravine.SGD(0.5, gradient_accumulation_steps=window)
        optimizer.build([np.ones(2)])
        return optimizer

    source, target = built(3), built(2)
    for _ in range(steps):
        source.apply([np.ones(2)])
    before = config_and(target)
    with raises(
        ValueError,
        "The state was saved with gradient_accumulation_steps=3, this optimizer has 2: the number "
        "of updates is counted by it. Nothing was loaded.",
    ):
        target.load_state_dict(source.state_dict())
    assert config_and(target) == before
    without = built(None)
    with pytest.raises(ValueError, match=re.escape("Unknown: ['gradient_accumulation_steps', ")):
        without.load_state_dict(source.state_dict())


# --- Whole or not at all


@pytest.mark.parametrize("fail_at", range(8))
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_copy_that_fails_leaves_everything(monkeypatch, fail_at, error):
    weights = {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}
    optimizer = ravine.Nadam(0.5, use_ema=True, gradient_accumulation_steps=2)
    other = ravine.Nadam(0.1, use_ema=True, gradient_accumulation_steps=2)
    for each in (optimizer, other):
        each.build({name: w.copy() for name, w in weights.items()})
    for _ in range(3):
        other.apply({"a": np.ones(2), "b": np.ones(3)})
    before, calls, write = config_and(optimizer), [], _saved_state.write

    def failing(array, value):
        calls.append(1)
        if len(calls) == fail_at + 1:
            raise error("the device is gone")
        write(array, value)

    with monkeypatch.context() as patch:
        patch.setattr(_saved_state, "write", failing)
        with pytest.raises(error, match="the device is gone"):
            optimizer.load_state_dict(other.state_dict())
    assert config_and(optimizer) == before
    optimizer.load_state_dict(other.state_dict())
    assert snapshot(optimizer) == snapshot(other)


def test_progress_that_cannot_be_sent_leaves_everything(monkeypatch):
    optimizer, other = make("nadam"), make("nadam", learning_rate=0.7)
    for each in (optimizer, other):
        each.build([np.ones(2)])
    other.apply([np.ones(2)])
    before, state = config_and(optimizer), other.state_dict()
    plan, fails = optimizer._state.plan, [True]

    class Failing:
        def __getattr__(self, name):
            return getattr(plan, name)

        def write_progress(self, rule, scale):
            if fails.pop():
                fails.append(False)
                raise RuntimeError("the device is gone")
            fails.append(False)

    monkeypatch.setattr(optimizer, "_state", optimizer._state._replace(plan=Failing()))
    with pytest.raises(RuntimeError, match="the device is gone"):
        optimizer.load_state_dict(state)
    assert config_and(optimizer) == before


def test_state_with_an_object_for_a_rate_is_refused():
    optimizer = make("sgd")
    optimizer.build([np.ones(2)])
    state = {**optimizer.state_dict(), "learning_rate": np.array(lambda: 0.5)}
    before = config_and(optimizer)
    with pytest.raises(ValueError, match="learning_rate must be a number"):
        optimizer.load_state_dict(state)
    assert config_and(optimizer) == before


def test_every_rule_names_its_variables():
    for rule in RULES:
        optimizer = make(rule, use_ema=True, gradient_accumulation_steps=2)
        optimizer.build({"a": np.ones(2), "b": np.ones(3)})
        entries, state = optimizer._entries(), optimizer.state_dict()
        assert {*entries} == {*state} - {"class_name", "received", "gradient_accumulation_steps"}
        assert all(
            a is b for a, b in zip(entries.values(), optimizer.variables, strict=True) if a.ndim
        )
