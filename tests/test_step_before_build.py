"""Calls of an optimizer that is not built: what is refused builds nothing."""

import numpy as np
from checks import cases, config_and, raises

import ravine

GOOD = [np.ones((2, 3), np.float32), np.ones(4)]

UNBUILT = {
    "no_variables": (
        lambda o, w: o.apply([np.ones(4)]),
        ValueError,
        "The optimizer does not know its variables yet. Call build(variables) or pass them to "
        "apply().",
    ),
    "state": (
        lambda o, w: o.load_state_dict({}),
        ValueError,
        "The optimizer has no state yet. Call build(variables) first.",
    ),
    "generator": (
        lambda o, w: o.apply((g for g in GOOD), w),
        TypeError,
        "The gradients must be a list, a tuple or a dict. Received: generator.",
    ),
    "variables_of_other_type": (
        lambda o, w: o.apply([np.ones(4)], w[1]),
        TypeError,
        "The variables must be a list, a tuple or a dict of arrays. Received: ndarray.",
    ),
    "shape": (
        lambda o, w: o.apply([np.ones((2, 3)), np.ones(3)], w),
        ValueError,
        "Gradient 1 has shape (3,), variable 1 ('variable_1') has shape (4,). Pass the gradients "
        "in the order of the variables.",
    ),
    "none_at_all": (
        lambda o, w: o.apply([None, None], w),
        ValueError,
        "No gradient was given for any variable.",
    ),
    "fewer_gradients": (
        lambda o, w: o.apply(GOOD[:1], w),
        ValueError,
        "There must be as many gradients as variables. Received: 1 gradients, 2 variables.",
    ),
    "dict_and_list": (
        lambda o, w: o.apply({"a": GOOD[0]}, w),
        TypeError,
        "Pass gradients and variables both as lists or both as dicts.",
    ),
}


@cases(UNBUILT)
def test_call_before_build_is_refused_and_builds_nothing(call, kind, message):
    w = [np.ones((2, 3), np.float32), np.zeros(4)]
    optimizer = ravine.Nadam(use_ema=True)
    before = config_and(optimizer, *w)
    with raises(kind, message):
        call(optimizer, w)
    assert config_and(optimizer, *w) == before
