"""Optimizers whose rule is Python: the bits of native ones, under every option."""

import gc
import weakref
from itertools import product

import numpy as np
import pytest
from checks import DTYPES, assert_same, each_rule, ignores_missing, normal, raises
from own_rules import OWN_RULES, OwnSGD, assert_equal, native_and_own, wrapped

import ravine

CLIPS = {
    "no_clip": {},
    "clipnorm": {"clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.3},
    "global_clipnorm": {"global_clipnorm": 1.0},
}
SCALES = {"no_scale": (1.0, {}), "static": (8.0, {"loss_scale_factor": 8.0}), "dynamic": (64.0, {})}
DECAYS = ({}, {"weight_decay": 0.1})
AVERAGES = (
    {},
    {"use_ema": True, "ema_momentum": 0.9},
    {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 2},
)
WINDOWS = ({}, {"gradient_accumulation_steps": 3})
STEPS = 8


def model(random):
    """Return variables of every type, in every layout, of no element, one and many."""
    shapes = [(7,), (3, 4), (), (0, 2), (4100,)]
    variables = [np.asarray(normal(random, shape, dtype)) for dtype in DTYPES for shape in shapes]
    variables += [normal(random, (4, 3, 2), np.float32).transpose(2, 0, 1)]
    variables += [normal(random, (9, 8), dtype)[::2, ::-3] for dtype in DTYPES]
    return dict(zip(map("v{}".format, range(len(variables))), variables, strict=True))


def steps_for(random, variables, scale, with_infinities=False):
    """Return gradients of every type; some are missing, also all through a window of three."""
    for step in range(STEPS):
        gradients = {
            name: normal(random, w.shape, DTYPES[(step + i) % len(DTYPES)], scale)
            for i, (name, w) in enumerate(variables.items())
        }
        if step in (2, 3):
            gradients["v0"] = gradients["v6"] = None
        if step < 3:
            gradients["v1"] = None
        if with_infinities and step in (1, 5):
            gradients["v4"][step] = (np.inf, np.nan)[step % 2]
        yield gradients


@ignores_missing
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("rule", OWN_RULES)
def test_bits_are_those_of_the_native_rule(rule, clip, scale):
    size, scale_options = SCALES[scale]
    for decay, average, window in product(DECAYS, AVERAGES, WINDOWS):
        options = {**CLIPS[clip], **scale_options, **decay, **average, **window}
        random = np.random.default_rng(40)
        variables = model(random)
        copies = {name: w.copy("K") for name, w in variables.items()}
        native, own = native_and_own(rule, size if scale == "dynamic" else None, **options)
        for optimizer, arrays in ((native, copies), (own, variables)):
            optimizer.build(arrays)
            optimizer.exclude_from_weight_decay([arrays["v4"]], ["v1$"])
        for gradients in steps_for(random, variables, size, scale == "dynamic"):
            with np.errstate(all="ignore"):
                own.apply(gradients)
            native.apply(gradients)
            assert_equal(own, variables, native, copies)
        native.finalize_variable_values()
        own.finalize_variable_values()
        assert_equal(own, variables, native, copies)
        assert own.iterations == native.iterations > 0


# --- Around a native rule


@ignores_missing
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@each_rule
def test_native_rule_can_be_called(rule, window, dynamic):
    options = {"weight_decay": 0.1, "clipnorm": 0.5, **AVERAGES[2], **window}
    random = np.random.default_rng(44)
    variables = model(random)
    copies = {name: w.copy("K") for name, w in variables.items()}
    native, own = wrapped(rule, **options)
    if dynamic:
        native, own = (ravine.LossScaleOptimizer(each, 8.0, 2) for each in (native, own))
    native.build(copies)
    own.build(variables)
    for gradients in steps_for(random, variables, 8.0, dynamic):
        native.apply(gradients)
        own.apply(gradients)
        assert_equal(own, variables, native, copies)


def test_native_rule_gets_the_gradient_that_it_is_given():
    native, own = wrapped("rmsprop", 0.5)
    w, same = np.ones(3), np.ones(3)
    own.apply([np.full(3, 4.0)], [w])
    native.apply([np.full(3, 2.0)], [same])
    assert_same(w, same)


def test_native_rule_is_called_in_a_step_only():
    _, optimizer = wrapped("sgd_momentum")
    w = np.ones(3)
    message = "^The optimizer has no variables yet"
    with pytest.raises(ValueError, match=message):
        optimizer.update_step(w, w, 0.1)
    optimizer.build([w])
    message = (
        "The update_step() of a native class takes the variable that the one overriding it got, "
        "while that runs."
    )
    for variable in (w, optimizer._plan._copies[0]):
        with raises(ValueError, message):
            optimizer.update_step(np.ones(3), variable, 0.1)


# --- What update_step gets


class Seen(ravine.Optimizer):
    """Plain descent that remembers what it was called with."""

    def __init__(self, learning_rate=0.5, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.calls = []

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        self.calls.append((index, gradient.copy(), variable.copy(), learning_rate))
        self.assign_sub(variable, gradient * variable.dtype.type(learning_rate))


@pytest.mark.parametrize("dtype", DTYPES)
def test_update_step_gets_arithmetic_types(dtype):
    kind = np.float64 if dtype is np.float64 else np.float32
    w = [np.array([1.0, 2.0], dtype), np.ones((), dtype)]
    optimizer = Seen(0.1, weight_decay=0.25, loss_scale_factor=4.0, clipvalue=0.5)
    optimizer.apply([np.array([1.0, 4.0], np.float16), np.float32(8.0)], w)
    (first, g, variable, rate), (second, *others) = optimizer.calls
    assert (first, second, rate, others[-1]) == (0, 1, 0.1, 0.1)
    assert_same(g, np.array([0.25, 0.5], kind))
    decayed = np.array([1.0, 2.0], kind)
    assert_same(variable, decayed - decayed * kind(0.25 * 0.1))
    assert_same(others[0], np.array(0.5, kind))
    # Rounded to 16 bits once, at the end.
    assert_same(w[0], (variable - g * kind(0.1)).astype(dtype))


def test_rate_is_that_of_the_call_and_iterations_those_before_it():
    rates, seen = iter([0.5, 0.25]), []

    class Own(ravine.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            seen.append((learning_rate, self.iterations))

    optimizer = Own(lambda: next(rates))
    for _ in range(2):
        optimizer.apply([np.ones(2)], [np.ones(2)] if not optimizer.built else None)
    assert seen == [(0.5, 0), (0.25, 1)]
    assert optimizer.iterations == 2


@ignores_missing
def test_update_step_is_called_for_variables_with_a_gradient():
    optimizer = Seen(gradient_accumulation_steps=2, use_ema=True)
    w = [np.ones(1), np.ones(1), np.ones(1)]
    optimizer.apply([np.ones(1), None, None], w)
    assert optimizer.calls == []
    optimizer.apply([None, np.ones(1), None])
    assert [(index, float(g[0])) for index, g, _, _ in optimizer.calls] == [(0, 0.5), (1, 0.5)]
    assert [float(x[0]) for x in w] == [0.75, 0.75, 1.0]
    assert float(optimizer.state_dict()["average/variable_2"][0]) == 1.0


def test_variables_without_an_element():
    optimizer = Seen(use_ema=True)
    w = [np.ones((0, 2)), np.ones((0, 2)), np.ones(1)]
    optimizer.apply([np.ones((0, 2)), np.ones((0, 2)), np.ones(1)], w)
    assert [index for index, *_ in optimizer.calls] == [0, 1, 2]
    no_variables = Seen()
    no_variables.build([])
    no_variables.apply([])
    assert no_variables.iterations == 0


def test_index_of_a_variable_is_that_of_its_memory():
    w = [np.ones(2), np.ones(3)]
    optimizer = Seen()
    optimizer.build(w)
    assert [optimizer._get_variable_index(each[:]) for each in w] == [0, 1]
    with pytest.raises(ValueError, match=r"^Unknown variable: array of shape \(2,\)"):
        optimizer._get_variable_index(np.ones(2))


def test_loss_scale_may_come_later():
    w, same = np.ones(3), np.ones(3)
    own, native = OwnSGD(0.5), ravine.SGD(0.5, momentum=0.9)
    for optimizer, array in ((own, w), (native, same)):
        optimizer.build([array])
        optimizer.apply([np.ones(3)])
        scaled = ravine.LossScaleOptimizer(optimizer, 4.0, 1)
        for value in (4.0, np.inf, 8.0):
            scaled.apply([np.full(3, value)])
        assert (scaled.iterations, scaled.dynamic_scale) == (3, 8.0)
    assert_same(w, same)


def test_optimizer_is_freed_when_nobody_has_it():
    optimizer = OwnSGD()
    optimizer.apply([np.ones(3)], [np.ones(3)])
    alive = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert alive() is None
