"""State and configuration: what is saved is all there is, and what does not fit is refused."""

import json
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
    snapshot,
)
from state_checks import each_storage, plain_and_everything, steps_for

import ravine


@ignores_missing
@each_storage
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 5])
@plain_and_everything
@each_rule
def test_resumed_training_gets_the_same_bits(rule, options, stop, way, tmp_path):
    random = np.random.default_rng(40)
    shapes = {"a/kernel": (3, 4), "b": (), "c": (70,)}
    weights = {name: normal(random, shape, np.float32) for name, shape in shapes.items()}
    steps = steps_for(weights, random, 9)
    # In the window of the break one variable has no gradient, before or after it.
    steps[stop]["b"] = steps[4]["c"] = None
    optimizer = make(rule, **options)
    optimizer.build(weights)
    for g in steps[:stop]:
        optimizer.apply(g)
    state = way(optimizer.state_dict(), tmp_path)
    saved = {name: w.copy() for name, w in weights.items()}
    for g in steps[stop:]:
        optimizer.apply(g)

    resumed = make(rule, **options)
    resumed.build(saved)
    resumed.load_state_dict(state)
    for g in steps[stop:]:
        resumed.apply(g)
    for name in shapes:
        assert_same(saved[name], weights[name], name)
    assert snapshot(resumed) == snapshot(optimizer)


@each_rule
@each_dtype
def test_state_dict_is_a_copy(rule, dtype):
    w = np.ones(5, dtype)
    optimizer = make(rule, use_ema=True, gradient_accumulation_steps=2)
    optimizer.build([w])
    state = optimizer.state_dict()
    before = {key: bits(array) for key, array in state.items()}
    optimizer.apply([np.ones(5)])
    optimizer.apply([np.ones(5)])
    assert {key: bits(array) for key, array in state.items()} == before
    optimizer.load_state_dict(state)
    for array in state.values():
        if array.ndim:
            array[...] = 1
    assert {key: bits(array) for key, array in optimizer.state_dict().items()} == before


def test_state_dict_names_everything():
    optimizer = ravine.Nadam(0.5, use_ema=True, gradient_accumulation_steps=2)
    optimizer.build({"a": np.ones(2), "b": np.ones(3)})
    state = optimizer.state_dict()
    assert {key: state[key].tolist() for key in state if "/" not in key} == {
        "class_name": "Nadam",
        "gradient_accumulation_steps": 2,
        "iteration": 0,
        "learning_rate": 0.5,
        "momentum_product": 1,
        "received": [False, False],
    }
    kinds = ["average", "gradient_accumulator", "momentum", "velocity"]
    arrays = {key for key in state if "/" in key}
    assert arrays == {f"{kind}/{name}" for kind in kinds for name in "ab"}


def test_load_restores_the_rate_unless_it_is_a_schedule():
    w = np.ones(2)
    source, number, schedule = ravine.SGD(0.5), ravine.SGD(0.1), ravine.SGD(lambda: 0.25)
    for optimizer in (source, number, schedule):
        optimizer.build([w])
    number.load_state_dict(source.state_dict())
    schedule.load_state_dict(source.state_dict())
    assert number.learning_rate == 0.5
    assert schedule.learning_rate == 0.25
    number.load_state_dict(schedule.state_dict())
    assert number.learning_rate == 0.5


def test_load_fits_another_layout_of_the_variables():
    random = np.random.default_rng(41)
    start, steps = normal(random, (3, 4), np.float32), normal(random, (4, 3, 4), np.float32)
    c, fortran = start.copy(), np.asfortranarray(start)
    first, second = ravine.Nadam(0.1), ravine.Nadam(0.1)
    first.build([c])
    second.build([fortran])
    for g in steps[:2]:
        first.apply([g])
    fortran[...] = c
    second.load_state_dict(first.state_dict())
    for g in steps[2:]:
        first.apply([g])
        second.apply([g])
    assert_same(fortran, c)


# --- States that do not fit


def changed(**changes):
    def change(state):
        state.update(changes)
        return {key: value for key, value in state.items() if value is not None}

    return change


def fits(name, shape, dtype, other_shape, other_dtype):
    return (
        f"'{name}' must have shape {shape} and dtype {dtype}. Received: shape {other_shape}, dtype "
        f"{other_dtype}. Nothing was loaded."
    )


NOT_THIS = "The state does not fit this optimizer, nothing was loaded. "
STATES = {
    "missing": (
        changed(**{"velocity/a": None, "iteration": None}),
        NOT_THIS + "Missing: ['iteration', 'velocity/a']. Unknown: [].",
    ),
    "unknown": (
        changed(**{"velocity/c": np.ones(1)}),
        NOT_THIS + "Missing: []. Unknown: ['velocity/c'].",
    ),
    "other_class": (
        changed(class_name="Adam"),
        "The state is that of Adam, this optimizer is Nadam. Nothing was loaded.",
    ),
    "other_shape": (
        changed(**{"velocity/b": np.ones((1, 3), np.float32)}),
        fits("velocity/b", (3,), "float32", (1, 3), "float32"),
    ),
    "other_dtype": (
        changed(**{"average/b": np.ones(3)}),
        fits("average/b", (3,), "float32", (3,), "float64"),
    ),
    "negative_iteration": (
        changed(iteration=np.array(-1)),
        "'iteration' must be at least 0 and below 2**62. Nothing was loaded.",
    ),
    "iteration_that_would_overflow": (
        changed(iteration=np.array(2**62)),
        "'iteration' must be at least 0 and below 2**62. Nothing was loaded.",
    ),
    "iteration_with_axes": (
        changed(iteration=np.array([2, 3])),
        fits("iteration", (), "int64", (2,), "int64"),
    ),
    "iteration_that_is_text": (
        changed(iteration=np.array("two")),
        fits("iteration", (), "int64", (), "<U3"),
    ),
    "iteration_of_other_dtype": (
        changed(iteration=np.array(1.5)),
        fits("iteration", (), "int64", (), "float64"),
    ),
}
RATES = {
    "rate_not_finite": changed(learning_rate=np.array(np.nan)),
    "rate_with_axes": changed(learning_rate=np.ones(2)),
    "rate_that_is_text": changed(learning_rate=np.array("fast")),
}


def built():
    weights = {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}
    optimizer = ravine.Nadam(0.5, use_ema=True, gradient_accumulation_steps=2)
    optimizer.build(weights)
    return optimizer, weights


def states():
    """Return an optimizer after three steps, and the state of one after five."""
    optimizer, weights = built()
    other, _ = built()
    for step in range(5):
        other.apply({"a": np.ones(2), "b": np.ones(3)})
        if step < 3:
            optimizer.apply({"a": np.full(2, 3.0), "b": np.ones(3)})
    return optimizer, weights, other.state_dict()


@pytest.mark.parametrize(("change", "message"), STATES.values(), ids=STATES)
def test_load_refuses_what_does_not_fit_and_changes_nothing(change, message):
    optimizer, weights, state = states()
    before = config_and(optimizer, *weights.values())
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        optimizer.load_state_dict(change(state))
    assert config_and(optimizer, *weights.values()) == before


@pytest.mark.parametrize("change", RATES.values(), ids=RATES)
def test_load_refuses_what_is_no_rate_and_changes_nothing(change):
    optimizer, weights, state = states()
    before = config_and(optimizer, *weights.values())
    with pytest.raises(ValueError, match="learning_rate"):
        optimizer.load_state_dict(change(state))
    assert config_and(optimizer, *weights.values()) == before


def test_state_needs_build():
    message = "The optimizer has no state yet. Call build(variables) first."
    for call in (ravine.SGD().state_dict, lambda: ravine.SGD().load_state_dict({})):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


def test_load_refuses_a_rule_with_other_slots():
    w = np.ones(2)
    plain, heavy = ravine.SGD(0.1), ravine.SGD(0.1, momentum=0.5)
    plain.build([w])
    heavy.build([w])
    with pytest.raises(ValueError, match=re.escape("Missing: ['momentum/variable_0']")):
        heavy.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match=re.escape("Unknown: ['momentum/variable_0']")):
        plain.load_state_dict(heavy.state_dict())


# --- Configuration


@plain_and_everything
@each_rule
def test_config_round_trips_through_json(rule, options):
    schedule = ravine.schedules.ExponentialDecay(0.5, 3, 0.9, staircase=True, name="mine")
    for rate in (0.25, schedule):
        optimizer = make(rule, **{**options, "learning_rate": rate})
        config = optimizer.get_config()
        text = json.dumps(config)
        again = type(optimizer).from_config(json.loads(text))
        assert again.get_config() == config
        assert type(again.learning_rate) is float
        assert again.learning_rate == optimizer.learning_rate
        assert json.dumps(config) == text  # reading it did not change it


def test_from_config_leaves_the_config_alone():
    schedule = ravine.schedules.ExponentialDecay(0.5, 3, 0.9)
    config = ravine.SGD(schedule, momentum=0.5).get_config()
    rate = config["learning_rate"]
    text = json.dumps(config)
    ravine.SGD.from_config(config)
    assert json.dumps(config) == text
    assert config["learning_rate"] is rate


def test_config_keeps_exclusions():
    variables = {"kernel": np.ones(2), "bias": np.ones(2), "scale": np.ones(2)}
    optimizer = ravine.SGD(1.0, weight_decay=0.5)
    optimizer.build(variables)
    optimizer.exclude_from_weight_decay([variables["scale"]], ["^b"])
    config = json.loads(json.dumps(optimizer.get_config()))
    assert config["exclude_from_weight_decay"] == {"var_names": ["^b"], "names": ["scale"]}
    again = ravine.SGD.from_config(config)
    assert again.get_config() == config
    again.apply({name: np.zeros(2) for name in variables}, variables)
    assert [float(v[0]) for v in variables.values()] == [0.5, 1, 1]
    assert again.get_config() == config


def test_config_has_the_numbers_that_were_set_later():
    for rule in RULES:
        optimizer = make(rule)
        for setting, value in list(optimizer.get_config().items()):
            if type(value) is float:
                setattr(optimizer, setting, 0.25)
                assert optimizer.get_config()[setting] == 0.25 != value


def test_custom_schedule_comes_back_from_a_config():
    class Linear(ravine.schedules.LearningRateSchedule):
        def __init__(self, slope):
            self.slope = slope

        def __call__(self, step):
            return self.slope * (step + 1)

        def get_config(self):
            return {"slope": self.slope}

    config = json.loads(json.dumps(ravine.SGD(Linear(0.5)).get_config()))
    again = ravine.SGD.from_config(config, custom_objects={"Linear": Linear})
    assert again.learning_rate == 0.5
    assert again.get_config() == config
