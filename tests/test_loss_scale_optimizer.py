"""LossScaleOptimizer: its dynamics, what a left-out step leaves, state and configuration."""

import json

import numpy as np
import pytest
from checks import DEFAULTS, config_and, each_rule, make, raises

import ravine

# Keras, scale 8, growth 2, SGD at rate 1 from 1.0: the gradient, then variable, scale, counter and
# iterations after it.
DYNAMICS = [
    (8, 0, 8, 1, 1),
    (8, -1, 16, 0, 2),
    (np.inf, -1, 8, 0, 2),
    (8, -2, 8, 1, 3),
    (8, -3, 16, 0, 4),
    (8, -3.5, 16, 1, 5),
    (np.nan, -3.5, 8, 0, 5),
    (-np.inf, -3.5, 4, 0, 5),
    (8, -5.5, 4, 1, 6),
]


def test_dynamics_are_those_of_keras():
    w = np.array([1.0], np.float32)
    optimizer = ravine.LossScaleOptimizer(ravine.SGD(1.0), 8.0, 2)
    optimizer.build([w])
    for gradient, value, scale, counter, iterations in DYNAMICS:
        optimizer.apply([np.array([gradient], np.float32)])
        state = (float(w[0]), optimizer.dynamic_scale, optimizer.step_counter, optimizer.iterations)
        assert state == (value, scale, counter, iterations)


def inner(**options):
    return ravine.Nadam(0.01, weight_decay=0.1, use_ema=True, **options)


def gradients(seed, shapes, scale=1024.0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape) * scale, np.float32) for shape in shapes]


SHAPES = [(3, 5), (2100,), ()]


@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 1.0}, {"clipnorm": 0.5}])
def test_finite_steps_are_those_of_a_static_scale(options):
    ours = gradients(0, SHAPES)
    theirs = [w.copy() for w in ours]
    dynamic = ravine.LossScaleOptimizer(inner(**options), initial_scale=1024.0)
    static = inner(loss_scale_factor=1024.0, **options)
    for seed in range(1, 5):
        grads = gradients(seed, SHAPES)
        dynamic.apply(grads, ours)
        static.apply(grads, theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert dynamic.iterations == static.iterations == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", range(3))
def test_left_out_step_changes_nothing_but_the_scale(bad, where):
    w = gradients(0, SHAPES)
    optimizer = ravine.LossScaleOptimizer(inner(global_clipnorm=1.0), initial_scale=64.0)
    optimizer.apply(gradients(1, SHAPES), w)
    before, arrays = optimizer.state_dict(), [array.copy() for array in w]
    grads = gradients(2, SHAPES)
    grads[where].reshape(-1)[-1] = bad
    optimizer.apply(grads)
    after = optimizer.state_dict()
    assert (before.pop("dynamic_scale"), before.pop("step_counter")) == (64.0, 1)
    assert (after.pop("dynamic_scale"), after.pop("step_counter")) == (32.0, 0)
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)
    for array, value in zip(w, arrays, strict=True):
        np.testing.assert_array_equal(array, value)


def test_left_out_call_lengthens_the_window():
    w = np.array([1.0])
    optimizer = ravine.LossScaleOptimizer(
        ravine.SGD(1.0, gradient_accumulation_steps=2), initial_scale=4.0
    )
    optimizer.apply([np.array([4.0])], [w])
    optimizer.apply([np.array([np.inf])])
    assert (w[0], optimizer.iterations, optimizer.dynamic_scale) == (1.0, 0, 2.0)
    optimizer.apply([np.array([6.0])])
    assert (w[0], optimizer.iterations) == (1.0 - (1.0 + 3.0) / 2, 1)


def test_scale_stays_an_ordinary_number():
    w = np.array([1.0], np.float32)
    low = ravine.LossScaleOptimizer(ravine.SGD(0.0), initial_scale=2.0**-125)
    low.build([w])
    for _ in range(3):
        low.apply([np.array([np.nan], np.float32)])
    assert low.dynamic_scale == 2.0**-126
    high = ravine.LossScaleOptimizer(ravine.SGD(0.0), 2.0**125, 1)
    high.build([w])
    for _ in range(3):
        high.apply([np.array([1.0], np.float32)])
    assert high.dynamic_scale == 2.0**126
    high.apply([np.array([np.inf], np.float32)])
    assert high.dynamic_scale == 2.0**125


def test_state_is_saved_and_goes_on():
    def trained(steps, optimizer, w):
        for seed in steps:
            grads = gradients(seed, SHAPES)
            if seed % 3 == 0:
                grads[1][7] = np.nan
            optimizer.apply(grads, w)

    one = gradients(0, SHAPES)
    whole = ravine.LossScaleOptimizer(inner(), 512.0, 3)
    trained(range(1, 11), whole, one)
    two = gradients(0, SHAPES)
    first = ravine.LossScaleOptimizer(inner(), 512.0, 3)
    trained(range(1, 5), first, two)
    second = ravine.LossScaleOptimizer.from_config(json.loads(json.dumps(first.get_config())))
    second.build(two)
    second.load_state_dict(first.state_dict())
    trained(range(5, 11), second, two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert second.dynamic_scale == whole.dynamic_scale
    assert [v.shape for v in second.variables] == [v.shape for v in whole.variables]


def test_state_that_is_out_of_range_is_refused():
    optimizer = ravine.LossScaleOptimizer(ravine.SGD(0.1))
    optimizer.build([np.ones(2)])
    state = {**optimizer.state_dict(), "dynamic_scale": np.array(np.inf, np.float32)}
    with pytest.raises(ValueError, match=r"^dynamic_scale must be in .* Nothing was loaded\.$"):
        optimizer.load_state_dict(state)


def test_hands_on_what_is_the_inner_optimizers():
    w = {"kernel": np.ones(3), "bias": np.ones(2)}
    optimizer = ravine.LossScaleOptimizer(
        ravine.SGD(0.5, weight_decay=0.1, use_ema=True, loss_scale_factor=2.0), initial_scale=2.0
    )
    assert isinstance(optimizer, ravine.Optimizer)
    assert optimizer.inner_optimizer.loss_scale_factor is None
    assert optimizer.scale_loss(3.0) == 6.0
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.learning_rate = 1.0
    assert optimizer.learning_rate == optimizer.inner_optimizer.learning_rate == 1.0
    assert not optimizer.built
    optimizer.build(w)
    assert optimizer.built
    assert optimizer.apply_gradients([(np.zeros(3), w["kernel"]), (np.zeros(2), w["bias"])]) == 1
    np.testing.assert_array_equal(w["kernel"], 0.9)
    np.testing.assert_array_equal(w["bias"], 1.0)
    with optimizer.averaged_weights():
        pass
    optimizer.finalize_variable_values()


@pytest.mark.parametrize("option", DEFAULTS)
def test_options_are_read_and_set_on_either(option):
    value = {"use_ema": True, "ema_momentum": 0.5}.get(option, 3)
    optimizer = ravine.LossScaleOptimizer(ravine.SGD())
    inner = optimizer.inner_optimizer
    assert getattr(optimizer, option) == DEFAULTS[option]
    if option != "loss_scale_factor":
        setattr(optimizer, option, value)
        assert getattr(optimizer, option) == getattr(inner, option) == value
    setattr(inner, option, DEFAULTS[option])
    assert getattr(optimizer, option) == DEFAULTS[option]


def test_option_that_is_refused_by_the_inner_optimizer_changes_nothing():
    optimizer = ravine.LossScaleOptimizer(ravine.SGD(0.1))
    optimizer.build([w := np.ones(2)])
    before = config_and(optimizer, w)
    with raises(ValueError, "clipnorm must be a finite number above 0. Received: 0."):
        optimizer.clipnorm = 0
    with pytest.raises(ValueError, match=r"^use_ema cannot be changed so after build\(\)"):
        optimizer.use_ema = True
    assert config_and(optimizer, w) == before


@pytest.mark.parametrize("on_inner", [False, True])
def test_second_scale_is_refused(on_inner):
    optimizer = ravine.LossScaleOptimizer(ravine.SGD(1.0), 8.0)
    before = config_and(optimizer)
    with raises(
        ValueError,
        "loss_scale_factor must stay None inside of a LossScaleOptimizer: the scale is its own. "
        "Received: 4.0.",
    ):
        (optimizer.inner_optimizer if on_inner else optimizer).loss_scale_factor = 4.0
    assert config_and(optimizer) == before


INNER = (
    "inner_optimizer must be an optimizer of ravine that is no LossScaleOptimizer and that none "
    "has yet."
)


@pytest.mark.parametrize("outer", [False, True])
def test_optimizer_that_has_a_dynamic_scale_takes_no_other(outer):
    scaled = ravine.LossScaleOptimizer(ravine.SGD())
    inner = scaled if outer else scaled.inner_optimizer
    with raises(TypeError, f"{INNER} Received: {inner!r}."):
        ravine.LossScaleOptimizer(inner)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: ravine.LossScaleOptimizer("sgd"),
            TypeError,
            f"{INNER} Received: 'sgd'.",
        ),
        (
            lambda: ravine.LossScaleOptimizer(ravine.SGD(), clipnorm=1.0),
            ValueError,
            "clipnorm is an option of the inner optimizer: give it to that. Received: 1.0.",
        ),
        (
            lambda: ravine.LossScaleOptimizer(ravine.SGD(), learning_rate=1.0),
            ValueError,
            "LossScaleOptimizer has no argument 'learning_rate'. Give it to the inner optimizer.",
        ),
        (
            lambda: ravine.LossScaleOptimizer(ravine.SGD(), dynamic=False),
            ValueError,
            "LossScaleOptimizer has no scale that is not dynamic.",
        ),
        (
            lambda: ravine.LossScaleOptimizer(ravine.SGD(), 0.0),
            ValueError,
            "initial_scale must be in [1.1754943508222875e-38, 8.507059173023462e+37]. "
            "Received: 0.",
        ),
        (
            lambda: ravine.LossScaleOptimizer(ravine.SGD(), dynamic_growth_steps=0),
            ValueError,
            "dynamic_growth_steps must be at least 1. Received: 0.",
        ),
        (
            lambda: ravine.LossScaleOptimizer(ravine.SGD(), name="a/b"),
            ValueError,
            "name must be a string without a slash. Received: 'a/b'.",
        ),
        (
            lambda: ravine.LossScaleOptimizer.from_config({"inner_optimizer": None}),
            ValueError,
            "'inner_optimizer' must be a dict that serialize() returned. Received: None.",
        ),
    ],
)
def test_refusals(call, kind, message):
    with raises(kind, message):
        call()


def test_options_at_their_defaults_are_accepted():
    optimizer = ravine.LossScaleOptimizer(
        ravine.SGD(), dynamic=True, use_ema=False, ema_momentum=0.99, clipnorm=None
    )
    assert optimizer.name == "loss_scale_optimizer"


@each_rule
def test_config_names_the_class_inside(rule):
    class Nadam(ravine.Nadam):  # of a user: the name still stands for ours
        pass

    config = ravine.LossScaleOptimizer(make(rule), 8.0, 3).get_config()
    again = ravine.LossScaleOptimizer.from_config(json.loads(json.dumps(config)))
    assert type(again.inner_optimizer) is type(make(rule))
    assert again.get_config() == config
