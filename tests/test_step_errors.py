"""Messages of calls on an optimizer that was built; they leave it, and the arrays, as they were."""

import re
from functools import partial

import numpy as np
import pytest
from checks import DTYPE_MESSAGE, NAMES, OnGPU, cases, config_and, on_gpu_message, raises

import ravine


def built():
    """Return an optimizer with all kinds of state, on its way, and its two variables."""
    w = [np.linspace(1, 2, 6, dtype=np.float32).reshape(2, 3), np.zeros(4)]
    optimizer = ravine.Nadam(
        0.1, use_ema=True, gradient_accumulation_steps=2, weight_decay=0.1, clipnorm=1.0
    )
    optimizer.build(w)
    # Two updates, so that averages differ from variables, and half of a window.
    for _ in range(5):
        optimizer.apply([np.ones((2, 3)), np.ones(4)])
    return optimizer, w


def good():
    return [np.ones((2, 3), np.float32), np.ones(4)]


LOST = (
    f"This optimizer was built for {NAMES}. Variables are updated in place and known by their "
    "memory: pass the arrays given to build(), or make a new optimizer."
)
COUNT_MESSAGE = (
    "Expected 2 gradients, one for each variable given to build(), with None for a missing one. "
    "Received: "
)
KEYS_MESSAGE = (
    "The gradients must have the keys of the variables, with None for a missing gradient. Missing: "
)
PAIRS_MESSAGE = (
    "apply_gradients() takes pairs of gradient and variable, as zip(gradients, variables) makes "
    "them. Received, at place "
)
CALLS = {
    "shape": (
        lambda o, w: o.apply([np.ones((3, 2)), np.ones(4)]),
        ValueError,
        "Gradient 0 has shape (3, 2), variable 0 ('variable_0') has shape (2, 3). Pass the "
        "gradients in the order of the variables.",
    ),
    "shape_without_axes": (
        lambda o, w: o.apply([good()[0], 1.0]),
        ValueError,
        "Gradient 1 has shape (), variable 1 ('variable_1') has shape (4,). Pass the gradients in "
        "the order of the variables.",
    ),
    "shape_that_would_broadcast": (
        lambda o, w: o.apply([np.ones((1, 3)), good()[1]]),
        ValueError,
        "Gradient 0 has shape (1, 3), variable 0 ('variable_0') has shape (2, 3). Pass the "
        "gradients in the order of the variables.",
    ),
    "dtype": (
        lambda o, w: o.apply([good()[0], np.ones(4, int)]),
        TypeError,
        f"Gradient 1 ('variable_1') {DTYPE_MESSAGE}int64.",
    ),
    "complex": (
        lambda o, w: o.apply([good()[0], np.ones(4, complex)]),
        TypeError,
        f"Gradient 1 ('variable_1') {DTYPE_MESSAGE}complex128.",
    ),
    "no_array": (
        lambda o, w: o.apply([good()[0], [1.0] * 4]),
        TypeError,
        "Gradient 1 ('variable_1') must be a NumPy or CuPy array. Received: list.",
    ),
    "gpu": (
        lambda o, w: o.apply([good()[0], OnGPU()]),
        *on_gpu_message("Gradient 1 ('variable_1')"),
    ),
    "variable_as_gradient": (
        lambda o, w: o.apply([w[0], good()[1]]),
        ValueError,
        "Gradient 0 ('variable_0') shares memory with variable 0 ('variable_0'), which the step "
        "writes. Pass a copy.",
    ),
    "slot_as_gradient": (
        lambda o, w: o.apply([good()[0], o.variables[-2]]),
        ValueError,
        "Gradient 1 ('variable_1') shares memory with the state of variable 1 ('variable_1'), "
        "which the step writes. Pass a copy.",
    ),
    "part_of_other_variable_as_gradient": (
        lambda o, w: o.apply([np.broadcast_to(w[1][1:2], (2, 3)), good()[1]]),
        ValueError,
        "Gradient 0 ('variable_0') shares memory with variable 1 ('variable_1'), which the step "
        "writes. Pass a copy.",
    ),
    "too_few": (lambda o, w: o.apply(good()[:1]), ValueError, COUNT_MESSAGE + "1."),
    "too_many": (lambda o, w: o.apply([*good(), None]), ValueError, COUNT_MESSAGE + "3."),
    "none_at_all": (
        lambda o, w: o.apply([None, None]),
        ValueError,
        "No gradient was given for any variable.",
    ),
    "generator": (
        lambda o, w: o.apply(g for g in good()),
        TypeError,
        "The gradients must be a list, a tuple or a dict. Received: generator.",
    ),
    "array": (
        lambda o, w: o.apply(good()[0]),
        TypeError,
        "The gradients must be a list, a tuple or a dict. Received: ndarray.",
    ),
    "keys": (
        lambda o, w: o.apply({"variable_0": None, "b": np.ones(4)}),
        ValueError,
        KEYS_MESSAGE + "['variable_1']. Unknown: ['b'].",
    ),
    "keys_of_variables": (
        lambda o, w: o.apply({"a": good()[0]}, {"a": w[0], "b": w[1]}),
        ValueError,
        KEYS_MESSAGE + "['b']. Unknown: [].",
    ),
    "dict_and_list": (
        lambda o, w: o.apply({"a": good()[0]}, [w[0]]),
        TypeError,
        "Pass gradients and variables both as lists or both as dicts.",
    ),
    "fewer_gradients_than_variables": (
        lambda o, w: o.apply(good()[:1], w),
        ValueError,
        "There must be as many gradients as variables. Received: 1 gradients, 2 variables.",
    ),
    "unknown_variable": (
        lambda o, w: o.apply([np.ones(4)], [w[1].copy()]),
        ValueError,
        f"Unknown variable: array of shape (4,) and dtype float64. {LOST}",
    ),
    "part_of_a_variable": (
        lambda o, w: o.apply([np.ones(3)], [w[1][:3]]),
        ValueError,
        f"Unknown variable: array of shape (3,) and dtype float64. {LOST}",
    ),
    "no_variable": (
        lambda o, w: o.apply([np.ones(4)], ["w"]),
        ValueError,
        f"Unknown variable: str. {LOST}",
    ),
    "variable_twice": (
        lambda o, w: o.apply([np.ones(4), np.ones(4)], [w[1], w[1]]),
        ValueError,
        "Variable 1 ('variable_1') is listed twice.",
    ),
    "no_pairs": (
        lambda o, w: o.apply_gradients([]),
        ValueError,
        "apply_gradients() needs at least one pair of gradient and variable.",
    ),
    "gradients_without_variables": (
        lambda o, w: o.apply_gradients(good()),
        ValueError,
        f"{PAIRS_MESSAGE}0: ndarray.",
    ),
    "pairs_and_a_triple": (
        lambda o, w: o.apply_gradients([*zip(good(), w, strict=True), (None, w[0], 1)]),
        ValueError,
        f"{PAIRS_MESSAGE}2: tuple.",
    ),
    "pairs_and_none": (
        lambda o, w: o.apply_gradients([(good()[0], w[0]), None]),
        ValueError,
        f"{PAIRS_MESSAGE}1: NoneType.",
    ),
    "no_iterable": (
        lambda o, w: o.apply_gradients(None),
        TypeError,
        "apply_gradients() takes pairs of gradient and variable, as zip(gradients, variables) "
        "makes them. Received: NoneType.",
    ),
    "minimize_without_function": (
        lambda o, w: o.minimize(2.5, w),
        TypeError,
        "minimize() needs a function that returns the loss and the gradients. Received: float.",
    ),
    "minimize_without_gradients": (
        lambda o, w: o.minimize(lambda: 2.5, w),
        ValueError,
        "loss() must return two values, the loss and the gradients. Received: 2.5.",
    ),
    "minimize_with_three_values": (
        lambda o, w: o.minimize(variables=w, value_and_grad=lambda w: (1, 2, 3)),
        ValueError,
        "value_and_grad() must return two values, the loss and the gradients. Received: (1, 2, 3).",
    ),
    "minimize_without_variables": (
        lambda o, w: o.minimize(lambda: (0.0, good())),
        ValueError,
        "minimize() needs variables, and either loss or value_and_grad.",
    ),
    "minimize_with_both": (
        lambda o, w: o.minimize(lambda: (0.0, good()), w, value_and_grad=lambda w: None),
        ValueError,
        "minimize() needs variables, and either loss or value_and_grad.",
    ),
    "minimize_with_neither": (
        lambda o, w: o.minimize(variables=w),
        ValueError,
        "minimize() needs variables, and either loss or value_and_grad.",
    ),
    "finalize_of_unknown_variable": (
        lambda o, w: o.finalize_variable_values([w[0], np.ones(2)]),
        ValueError,
        f"Unknown variable: array of shape (2,) and dtype float64. {LOST}",
    ),
    "exclude_unknown_variable": (
        lambda o, w: o.exclude_from_weight_decay([w[0], np.ones(2)]),
        ValueError,
        f"Unknown variable: array of shape (2,) and dtype float64. {LOST}",
    ),
    "exclude_empty_name": (
        lambda o, w: o.exclude_from_weight_decay(var_names=["a", ""]),
        ValueError,
        "var_names must be regular expressions that are not empty: an empty one would choose "
        "every variable. Received: ''.",
    ),
    "exclude_bad_pattern": (
        lambda o, w: o.exclude_from_weight_decay(var_names=["a("]),
        ValueError,
        "var_names must be regular expressions. 'a(': missing ), unterminated subpattern at "
        "position 1.",
    ),
    "exclude_no_string": (
        lambda o, w: o.exclude_from_weight_decay(var_names=[1]),
        ValueError,
        "var_names must be regular expressions that are not empty: an empty one would choose "
        "every variable. Received: 1.",
    ),
    "exclude_string": (
        lambda o, w: o.exclude_from_weight_decay(var_names="bias"),
        ValueError,
        "Pass lists to exclude_from_weight_decay(), also of one element.",
    ),
    "exclude_empty_string": (
        lambda o, w: o.exclude_from_weight_decay(var_names=""),
        ValueError,
        "Pass lists to exclude_from_weight_decay(), also of one element.",
    ),
    "exclude_array": (
        lambda o, w: o.exclude_from_weight_decay(w[0]),
        ValueError,
        "Pass lists to exclude_from_weight_decay(), also of one element.",
    ),
    "exclude_dict": (
        lambda o, w: o.exclude_from_weight_decay({"bias": w[0]}),
        ValueError,
        "Pass lists to exclude_from_weight_decay(), also of one element.",
    ),
    "exclude_number": (
        lambda o, w: o.exclude_from_weight_decay(var_names=1),
        ValueError,
        "Pass lists to exclude_from_weight_decay(), also of one element.",
    ),
    "another_clip": (
        lambda o, w: setattr(o, "clipvalue", 1.0),
        ValueError,
        "Only one of clipnorm, clipvalue and global_clipnorm can be set.",
    ),
}


@cases(CALLS)
def test_call_is_refused_and_changes_nothing(call, kind, message):
    optimizer, w = built()
    before = config_and(optimizer, *w)
    with raises(kind, message):
        call(optimizer, w)
    assert config_and(optimizer, *w) == before
    # And the next step is that of an optimizer that never heard of the call.
    other, same = built()
    for each in (optimizer, other):
        each.apply(good())
    assert config_and(optimizer, *w) == config_and(other, *same)


@pytest.mark.parametrize(
    ("shape", "other"),
    [
        ((), (1,)),
        ((1,), ()),
        ((1, 1), ()),
        ((1,), (1, 1)),
        ((1, 1), (1,)),
        ((3,), (1, 3)),
        ((3,), (3, 1)),
        ((2, 3), (6,)),
        ((0,), (0, 1)),
    ],
)
def test_gradient_with_as_many_elements_but_another_shape_is_refused(shape, other):
    w = np.ones(shape)
    optimizer = ravine.SGD(1.0, momentum=0.5)
    optimizer.build([w])
    optimizer.apply([np.ones(shape)])
    before = config_and(optimizer, w)
    with raises(
        ValueError,
        f"Gradient 0 has shape {other}, variable 0 ('variable_0') has shape {shape}. Pass the "
        "gradients in the order of the variables.",
    ):
        optimizer.apply([np.ones(other)])
    assert config_and(optimizer, w) == before


SETTINGS_MADE_AT_BUILD = [
    (ravine.SGD, "momentum", 0.5),
    (partial(ravine.SGD, momentum=0.5), "momentum", 0.0),
    (ravine.RMSprop, "momentum", 0.5),
    (ravine.RMSprop, "centered", True),
    (partial(ravine.RMSprop, centered=True), "centered", False),
    (ravine.SGD, "use_ema", True),
    (ravine.Nadam, "gradient_accumulation_steps", 2),
]


@pytest.mark.parametrize(("make", "setting", "value"), SETTINGS_MADE_AT_BUILD)
def test_setting_that_needs_other_state_is_refused_after_build(make, setting, value):
    optimizer, w = make(), np.ones(2)
    optimizer.build([w])
    before = config_and(optimizer, w)
    with raises(
        ValueError,
        f"{setting} cannot be changed so after build(), which made the arrays of state for the old "
        "value. Make a new optimizer.",
    ):
        setattr(optimizer, setting, value)
    assert config_and(optimizer, w) == before
    unbuilt = make()
    setattr(unbuilt, setting, value)
    assert getattr(unbuilt, setting) == value


def test_messages_name_the_variables_of_a_dict():
    optimizer = ravine.SGD()
    optimizer.build({"dense/kernel": np.ones(3)})
    with pytest.raises(ValueError, match=re.escape("variable 0 ('dense/kernel') has shape (3,)")):
        optimizer.apply({"dense/kernel": np.ones(2)})
