"""Every message a user can meet, in full; and a call that is refused has changed nothing."""

import re

import numpy as np
import pytest
from checks import (
    DTYPE_MESSAGE,
    NAMES,
    OnGPU,
    assert_refused,
    cases,
    config_and,
    on_gpu_message,
    raises,
)
from own_rules import OwnSGD

import ravine

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")

ExponentialDecay = ravine.schedules.ExponentialDecay
OPTIONS = [
    "weight_decay",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "loss_scale_factor",
    "gradient_accumulation_steps",
    "name",
]


# --- Constructors and settings: a value that is refused leaves the old one in place

NUMBERS = {
    # (option, value): what is said of it, after its name
    ("clipnorm", 0): "must be a finite number above 0. Received: 0.",
    ("clipnorm", np.inf): "must be a finite number above 0. Received: inf.",
    ("clipvalue", -1): "must be a finite number above 0. Received: -1.",
    ("global_clipnorm", np.nan): "must be a finite number above 0. Received: nan.",
    ("clipvalue", "1"): "must be a number. Received: '1'.",
    ("use_ema", "no"): "must be True or False. Received: 'no'.",
    ("ema_momentum", 1.1): "must be in [0, 1]. Received: 1.1.",
    ("ema_overwrite_frequency", 0): "must be at least 1. Received: 0.",
    ("ema_overwrite_frequency", 2.0): "must be a whole number. Received: 2.0.",
    ("ema_overwrite_frequency", True): "must be a whole number. Received: True.",
    ("gradient_accumulation_steps", -2): "must be at least 1. Received: -2.",
    ("gradient_accumulation_steps", 0): "must be at least 1. Received: 0.",
    ("gradient_accumulation_steps", 2.5): "must be a whole number. Received: 2.5.",
    ("loss_scale_factor", 0): "must be in [1e-37, 1e+37]. Received: 0.",
    ("loss_scale_factor", -8): "must be in [1e-37, 1e+37]. Received: -8.",
    ("loss_scale_factor", np.inf): "must be in [1e-37, 1e+37]. Received: inf.",
}


@pytest.mark.parametrize(("option", "value"), NUMBERS)
def test_option_that_is_refused_leaves_the_old_one(option, value):
    assert_refused("SGD", option, value, NUMBERS[option, value])


@pytest.mark.parametrize("wrap", [lambda o: o, ravine.LossScaleOptimizer])
@pytest.mark.parametrize("value", ["a/b", 3, None])
def test_name_that_is_refused_leaves_the_old_one(wrap, value):
    optimizer = wrap(ravine.SGD(0.5))
    before = config_and(optimizer)
    with raises(ValueError, f"name must be a string without a slash. Received: {value!r}."):
        optimizer.name = value
    assert config_and(optimizer) == before
    optimizer.name = "other"
    assert optimizer.get_config() == {**before[0], "name": "other"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weight_decay_must_be_finite(value):
    with pytest.raises(ValueError, match=r"^weight_decay must be (a )?finite"):
        ravine.SGD(weight_decay=value)


@pytest.mark.parametrize("value", [1e-38, 1e38, 1e-310])
def test_loss_scale_factor_is_limited_as_documented(value):
    with pytest.raises(ValueError, match=r"^loss_scale_factor must be "):
        ravine.SGD(loss_scale_factor=value)


@pytest.mark.parametrize("setting", ["gradient_accumulation_steps", "ema_overwrite_frequency"])
def test_count_beyond_64_bits_is_a_value_error(setting):
    with pytest.raises(ValueError, match=f"^{setting} must be "):
        ravine.SGD(**{setting: 1 << 70})


@pytest.mark.parametrize("value", [None, "0.1", True, [0.1], np.array([0.1]), np.array(True), 1j])
def test_learning_rate_must_be_a_rate(value):
    message = (
        "learning_rate must be a number, a LearningRateSchedule or a function without arguments. "
        f"Received: {value!r}."
    )
    with raises(ValueError, message):
        ravine.SGD(value)
    optimizer = ravine.SGD(0.25)
    with raises(ValueError, message):
        optimizer.learning_rate = value
    assert optimizer.learning_rate == 0.25


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_learning_rate_must_be_finite(value):
    with raises(ValueError, f"learning_rate must be a finite number. Received: {value!r}."):
        ravine.RMSprop(value)


CONSTRUCTORS = {
    "base": (
        lambda: ravine.Optimizer(0.1),
        TypeError,
        "Optimizer has no rule: use SGD or another optimizer of ravine, or override update_step() "
        "in a subclass of Optimizer.",
    ),
    "two_clips": (
        lambda: ravine.SGD(clipnorm=1.0, global_clipnorm=1.0),
        ValueError,
        "Only one of clipnorm, clipvalue and global_clipnorm can be set.",
    ),
    "unknown_arguments": (
        lambda: ravine.SGD(lr=0.1, foo=1),
        ValueError,
        "Unknown arguments ['foo', 'lr']. SGD has "
        f"{['learning_rate', 'momentum', 'nesterov', *OPTIONS]}.",
    ),
    "unknown_argument_of_a_subclass": (
        lambda: OwnSGD(lr=0.1),
        ValueError,
        "Unknown arguments ['lr']. OwnSGD has "
        f"{['learning_rate', 'momentum', 'nesterov', *OPTIONS]}.",
    ),
    "slash_in_name": (
        lambda: ravine.SGD(name="a/b"),
        ValueError,
        "name must be a string without a slash. Received: 'a/b'.",
    ),
    "name_of_other_type": (
        lambda: ravine.SGD(name=3),
        ValueError,
        "name must be a string without a slash. Received: 3.",
    ),
    "names_in_place_of_arrays": (
        lambda: ravine.SGD().exclude_from_weight_decay([np.ones(1), "bias"]),
        ValueError,
        "The first argument of exclude_from_weight_decay() are arrays. Pass names by "
        "var_names=['bias'].",
    ),
    "config_of_exclusions": (
        lambda: ravine.SGD.from_config({"exclude_from_weight_decay": {"arrays": []}}),
        ValueError,
        "In a configuration, what exclude_from_weight_decay() has chosen must be a dict with "
        "'var_names' and 'names', lists of strings. Received: {'arrays': []}.",
    ),
    "config_of_exclusions_by_a_string": (
        lambda: ravine.SGD.from_config({"exclude_from_weight_decay": {"names": "bias"}}),
        ValueError,
        "In a configuration, what exclude_from_weight_decay() has chosen must be a dict with "
        "'var_names' and 'names', lists of strings. Received: {'names': 'bias'}.",
    ),
    "unknown_schedule": (
        lambda: ravine.SGD.from_config({"learning_rate": {"class_name": "Odd", "config": {}}}),
        ValueError,
        "Unknown learning rate schedule 'Odd'. Known: ['CosineDecay', 'CosineDecayRestarts', "
        "'ExponentialDecay', 'InverseTimeDecay', 'PiecewiseConstantDecay', 'PolynomialDecay']. "
        "Pass a class of your own in custom_objects.",
    ),
    "decay_steps": (
        lambda: ExponentialDecay(0.1, 0, 0.5),
        ValueError,
        "decay_steps must be above 0. Received: 0.",
    ),
    "decay_rate": (
        lambda: ExponentialDecay(0.1, 1, -0.5),
        ValueError,
        "decay_rate must be at least 0. Received: -0.5.",
    ),
    "rate_of_schedule_not_finite": (
        lambda: ExponentialDecay(np.nan, 1, 0.5),
        ValueError,
        "initial_learning_rate must be finite. Received: nan.",
    ),
    "rate_of_schedule_no_number": (
        lambda: ExponentialDecay("a", 1, 0.5),
        ValueError,
        "initial_learning_rate must be a number. Received: 'a'.",
    ),
    "staircase": (
        lambda: ExponentialDecay(0.1, 1, 0.5, staircase=1),
        ValueError,
        "staircase must be True or False. Received: 1.",
    ),
    "config_of_schedule_without_get_config": (
        lambda: ravine.SGD(Custom()).get_config(),
        ValueError,
        "Custom has no get_config(). Implement it to store the configuration of an optimizer that "
        "uses this schedule.",
    ),
    "config_of_callable_rate": (
        lambda: ravine.SGD(lambda: 0.1).get_config(),
        ValueError,
        "A function given as learning_rate cannot be stored in a configuration. Use a "
        "LearningRateSchedule with get_config().",
    ),
    "config_of_callable_betas": (
        lambda: ravine.Nadam(beta_1=lambda: 0.9, beta_2=lambda: 0.99).get_config(),
        ValueError,
        "A function given as beta_1 or beta_2 cannot be stored in a configuration. Use a number, "
        "which may be set before each step.",
    ),
    "config_of_exclusions_without_names": (
        lambda: excluding([np.ones(1)]).get_config(),
        ValueError,
        "Variables given to exclude_from_weight_decay() by identity have names only after build(). "
        "Call build() before get_config(), or choose them by name.",
    ),
}


class Custom(ravine.schedules.LearningRateSchedule):
    def __call__(self, step):
        return [0.1, None, np.inf][step]


def excluding(var_list):
    optimizer = ravine.SGD()
    optimizer.exclude_from_weight_decay(var_list)
    return optimizer


@cases(CONSTRUCTORS)
def test_constructor_refuses(call, kind, message):
    with raises(kind, message):
        call()


def test_decay_is_warned_of_and_ignored():
    message = (
        "The argument `decay` is no longer supported and is ignored. Use a learning rate schedule."
    )
    with pytest.warns(UserWarning, match=re.escape(message)) as caught:
        optimizer = ravine.SGD(0.1, decay=0.5)
    assert caught[0].filename == __file__
    assert optimizer.get_config() == ravine.SGD(0.1).get_config()
    assert ravine.SGD(0.1, decay=None).get_config() == optimizer.get_config()


# --- build


def overlapping():
    return np.lib.stride_tricks.as_strided(np.ones(4), (3, 2), (8, 8), writeable=True)


def read_only():
    array = np.ones(2)
    array.flags.writeable = False
    return array


SHARED = np.ones(8)
BUILDS = {
    "generator": (
        lambda: (np.ones(1) for _ in "ab"),
        TypeError,
        "The variables must be a list, a tuple or a dict of arrays. Received: generator.",
    ),
    "array": (
        lambda: np.ones((2, 2)),
        TypeError,
        "The variables must be a list, a tuple or a dict of arrays. Received: ndarray.",
    ),
    "list_in_list": (
        lambda: [np.ones(1), [1.0]],
        TypeError,
        "Variable 1 ('variable_1') must be a NumPy or CuPy array. Received: list.",
    ),
    "number": (
        lambda: {"x": 1.0},
        TypeError,
        "Variable 0 ('x') must be a NumPy or CuPy array. Received: float.",
    ),
    "integers": (
        lambda: [np.ones(1, np.int64)],
        TypeError,
        f"Variable 0 ('variable_0') {DTYPE_MESSAGE}int64.",
    ),
    "long_double": (
        lambda: [np.ones(1, np.longdouble)],
        TypeError,
        f"Variable 0 ('variable_0') {DTYPE_MESSAGE}{np.dtype(np.longdouble)}.",
    ),
    "byte_order": (
        lambda: [np.ones(1, ">f4")],
        TypeError,
        f"Variable 0 ('variable_0') {DTYPE_MESSAGE}>f4.",
    ),
    "float8": (
        lambda: [np.ones(1, ml_dtypes.float8_e4m3fn)],
        TypeError,
        f"Variable 0 ('variable_0') {DTYPE_MESSAGE}float8_e4m3fn.",
    ),
    "gpu": (
        lambda: [OnGPU()],
        *on_gpu_message("Variable 0 ('variable_0')"),
    ),
    "read_only": (
        lambda: {"w": np.ones(1), "frozen": read_only()},
        ValueError,
        "Variables are updated in place, and variable 1 ('frozen') is read-only. Pass a writable "
        "array.",
    ),
    "twice": (
        lambda: [SHARED, np.ones(1), SHARED],
        ValueError,
        "Two arrays that a step writes share memory: variable 0 ('variable_0') and variable 2 "
        "('variable_2'). Give each array once.",
    ),
    "overlap": (
        lambda: [SHARED[:5], SHARED[4:]],
        ValueError,
        "Two arrays that a step writes share memory: variable 0 ('variable_0') and variable 1 "
        "('variable_1'). Give each array once.",
    ),
    "overlap_of_strided": (
        lambda: [SHARED[::2], SHARED[::3]],
        ValueError,
        "Two arrays that a step writes share memory: variable 0 ('variable_0') and variable 1 "
        "('variable_1'). Give each array once.",
    ),
    "overlap_with_itself": (
        lambda: [overlapping()],
        ValueError,
        "Elements of variable 0 ('variable_0') share memory with each other. Pass a copy.",
    ),
}


@cases(BUILDS)
def test_build_refuses(call, kind, message):
    optimizer = ravine.Nadam(use_ema=True)
    before = config_and(optimizer)
    with raises(kind, message):
        optimizer.build(call())
    assert config_and(optimizer) == before


def test_build_refuses_two_keys_with_one_name():
    # State is stored under the names of the variables: one of these would be lost.
    optimizer = ravine.SGD(momentum=0.9)
    with pytest.raises(ValueError, match="name"):
        optimizer.build({1: np.ones(2), "1": np.ones(2)})
    assert not optimizer.built


def test_build_refuses_other_variables_than_before():
    first, second = np.ones(2), np.ones(3)
    optimizer = ravine.SGD(0.5, momentum=0.5)
    optimizer.build([first, second])
    optimizer.apply([np.ones(2), np.ones(3)])
    before = config_and(optimizer, first, second)
    message = f"This optimizer was built for the variables {NAMES}. Make a new one for others."
    for others in ([first], [second, first], {"a": first, "b": second}, [np.ones(2), np.ones(3)]):
        with raises(ValueError, message):
            optimizer.build(others)
        assert config_and(optimizer, first, second) == before


def test_build_refuses_to_exclude_what_is_no_variable():
    optimizer = excluding([np.ones(5, np.float32)])
    with raises(
        ValueError,
        "Unknown variable: array of shape (5,) and dtype float32. This optimizer was built for "
        f"{NAMES}. Variables are updated in place and known by their memory: pass the arrays given "
        "to build(), or make a new optimizer.",
    ):
        optimizer.build([np.ones(5, np.float32), np.ones(5, np.float32)])
    assert not optimizer.built
