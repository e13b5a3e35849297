"""The passes around a rule: every option, alone and where options meet, against the reference."""

import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="needs hypothesis")

from checks import (
    DTYPES,
    RULES,
    Pair,
    assert_same,
    bits,
    each_dtype,
    each_gradient_dtype,
    each_rule,
    ignores_missing,
    make,
    normal,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")
pytestmark = ignores_missing

SHAPES = [(7,), (30, 24), (), (2, 1, 5), (2100,), (0, 3)]
# A variable that misses the last micro-step of a window, the first, a whole window of three.
MISSING = {(2, 0), (3, 1), (3, 4), (4, 4), (5, 4), (6, 2)}
STEPS = 8
ACCUMULATION = {"gradient_accumulation_steps": 3}
EMA = {"use_ema": True, "ema_momentum": 0.9}
OVERWRITE = {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 2}

OPTIONS = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "negative_decay": {"weight_decay": -0.1},
    "no_decay": {"weight_decay": 0.0},
    "exclusion": {"weight_decay": 0.1, "excluded": (1, 2, 4)},
    "multipliers": {"weight_decay": 0.1, "multipliers": {1: (0.1, 1), 3: (0.1, 1), 4: (-2, 0)}},
    "clipnorm": {"clipnorm": 1.5},
    "global_clipnorm": {"global_clipnorm": 2.0},
    "clipvalue": {"clipvalue": 0.5},
    "ema": EMA,
    "ema_0": {"use_ema": True, "ema_momentum": 0.0},
    "ema_1": {"use_ema": True, "ema_momentum": 1.0},
    "overwrite": OVERWRITE,
    "overwrite_always": {"use_ema": True, "ema_overwrite_frequency": 1},
    "loss_scale": {"loss_scale_factor": 1000.0},
    "accumulation": ACCUMULATION,
    "accumulation_of_one": {"gradient_accumulation_steps": 1},
    # Where options meet.
    "decay_ema": {"weight_decay": 0.1, "excluded": (0,), **EMA},
    "decay_overwrite": {"weight_decay": 0.1, **OVERWRITE},
    "clipnorm_loss_scale": {"clipnorm": 1.5, "loss_scale_factor": 1000.0},
    "clipvalue_ema": {"clipvalue": 0.5, **EMA},
    "global_clipnorm_decay": {"global_clipnorm": 2.0, "weight_decay": 0.1},
    "accumulation_clipnorm": {"clipnorm": 1.0, **ACCUMULATION},
    "accumulation_global_clipnorm": {"global_clipnorm": 1.0, **ACCUMULATION},
    "accumulation_clipvalue": {"clipvalue": 0.3, **ACCUMULATION},
    "accumulation_ema": {**ACCUMULATION, **EMA},
    "accumulation_overwrite": {**ACCUMULATION, **OVERWRITE},
    "accumulation_loss_scale": {**ACCUMULATION, "loss_scale_factor": 1000.0},
    "all": {
        **ACCUMULATION,
        **OVERWRITE,
        "weight_decay": 0.1,
        "excluded": (1,),
        "multipliers": {0: (0.5, 3), 1: (2, 2)},
        "global_clipnorm": 1.0,
        "loss_scale_factor": 1000.0,
    },
    "all_but_accumulation": {
        **OVERWRITE,
        "weight_decay": 0.1,
        "clipnorm": 1.0,
        "loss_scale_factor": 1000.0,
    },
}
each_option = pytest.mark.parametrize("option", OPTIONS)
each_gradient_option = pytest.mark.parametrize(
    "options",
    [
        {},
        {"clipnorm": 1.5},
        {"global_clipnorm": 1.5},
        {"clipvalue": 0.5},
        {"weight_decay": 0.1, **OVERWRITE},
        {"loss_scale_factor": 8.0, **ACCUMULATION},
    ],
    ids=lambda options: next(iter(options), "plain"),
)


def gradients(random, shapes, dtype, scale=1.0, missing=()):
    """Return the gradients of `STEPS` steps, None where `missing` has (step, variable)."""
    return [
        [
            None if (step, i) in missing else normal(random, shape, dtype, scale)
            for i, shape in enumerate(shapes)
        ]
        for step in range(STEPS)
    ]


@each_rule
@each_option
@each_dtype
@each_gradient_dtype
def test_option_equals_reference(rule, option, dtype, gradient_dtype):
    random = np.random.default_rng(4)
    pair = Pair(rule, [normal(random, shape, dtype) for shape in SHAPES], **OPTIONS[option])
    scale = OPTIONS[option].get("loss_scale_factor", 1.0)
    steps = gradients(random, SHAPES, gradient_dtype, scale, MISSING)
    for step in steps:
        pair.apply(step)
    pair.assert_equal()
    for step in steps:
        pair.apply(step)
    pair.product.finalize_variable_values()
    pair.reference.finalize_variable_values()
    pair.assert_equal()


@each_rule
@each_option
def test_option_equals_reference_with_all_dtypes_in_one_model(rule, option):
    random = np.random.default_rng(5)
    variables = [
        normal(random, shape, DTYPES[i % 4])
        for i, shape in enumerate([*SHAPES, (3,), (5, 5), (1,), (2,)])
    ]
    pair = Pair(rule, variables, **OPTIONS[option])
    pair.run(
        [normal(random, w.shape, DTYPES[(i + step) % 4]) for i, w in enumerate(variables)]
        for step in range(STEPS)
    )


@st.composite
def option_sets(draw):
    options = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "weight_decay": st.floats(-1, 1),
                "loss_scale_factor": st.floats(1e-3, 1e3),
                "gradient_accumulation_steps": st.integers(1, 4),
                "excluded": st.sets(st.integers(0, 2)).map(tuple),
                "multipliers": st.dictionaries(
                    st.integers(0, 2), st.tuples(st.floats(-3, 3), st.floats(-3, 3))
                ),
            },
        )
    )
    clip = draw(st.sampled_from([None, "clipnorm", "global_clipnorm", "clipvalue"]))
    if clip:
        options[clip] = draw(st.floats(1e-3, 1e3))
    if draw(st.booleans()):
        options |= {"use_ema": True, "ema_momentum": draw(st.floats(0, 1))}
        options["ema_overwrite_frequency"] = draw(st.sampled_from([None, 1, 2, 3]))
    return options


@given(
    st.sampled_from([*RULES]),
    option_sets(),
    st.lists(st.sampled_from(DTYPES), min_size=6, max_size=6),
    st.lists(st.integers(0, 700), min_size=3, max_size=3),
    st.lists(st.sets(st.integers(0, 2), max_size=2), min_size=6, max_size=6),
    st.integers(-12, 12),
)
@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_any_combination_equals_reference(rule, options, dtypes, sizes, missing, exponent):
    random = np.random.default_rng(6)
    pair = Pair(
        rule, [normal(random, n, t) for n, t in zip(sizes, dtypes, strict=False)], **options
    )
    for absent in missing:
        pair.apply(
            [
                None if i in absent else normal(random, n, t, 2.0**exponent)
                for i, (n, t) in enumerate(zip(sizes, dtypes[3:], strict=True))
            ]
        )
    pair.assert_equal()


@each_rule
@pytest.mark.parametrize("option", ["clipnorm", "global_clipnorm", "clipvalue"])
@each_dtype
def test_inactive_clip_changes_no_bit(rule, option, dtype):
    random = np.random.default_rng(7)
    start = normal(random, 3000, dtype)
    free, bounded, tight = start.copy(), start.copy(), start.copy()
    optimizers = [
        (make(rule), free),
        (make(rule, **{option: 1000.0}), bounded),
        (make(rule, **{option: 0.5}), tight),
    ]
    for optimizer, w in optimizers:
        optimizer.build([w])
    for _ in range(3):
        g = normal(random, 3000, dtype)
        for optimizer, _ in optimizers:
            optimizer.apply([g])
    assert_same(bounded, free)
    assert bits(tight) != bits(free)


def test_clip_at_exactly_the_norm_changes_no_bit():
    # 3, 4 and norm 5: the bound itself is not above the bound.
    for option in ("clipnorm", "global_clipnorm"):
        w = np.zeros(2, np.float32)
        make("sgd", learning_rate=1.0, **{option: 5.0}).apply([np.array([3.0, 4.0])], [w])
        assert w.tolist() == [-3, -4]


# --- Gradients that are not finite, and numbers at the ends of the range


@each_rule
@each_gradient_option
@each_dtype
@each_gradient_dtype
def test_gradients_that_are_not_finite_equal_reference(rule, options, dtype, gradient_dtype):
    random = np.random.default_rng(8)
    pair = Pair(rule, [normal(random, 40, dtype), normal(random, 5, dtype)], **options)
    for special in (np.nan, np.inf, -np.inf):
        first, second = normal(random, 40, gradient_dtype), normal(random, 5, gradient_dtype)
        first[[1, 17, 38]] = special
        first[[2, 18]] = -special
        pair.run([[first, second]])


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("clipvalue", [[-2, -1, 2, np.nan], [-2]]),
        # Each variable alone: an infinite norm leaves 0 of what is finite, and NaN of the rest.
        ("clipnorm", [[np.nan] * 4, [-2]]),
        # All of them.
        ("global_clipnorm", [[np.nan] * 4, [np.nan]]),
    ],
)
def test_clip_lets_nan_through(option, expected):
    w = [np.zeros(4), np.zeros(1)]
    gradients = [np.array([np.inf, 1.0, -np.inf, np.nan]), np.array([9.0])]
    make("sgd", learning_rate=1.0, **{option: 2.0}).apply(gradients, w)
    np.testing.assert_array_equal(w[0], expected[0])
    np.testing.assert_array_equal(w[1], expected[1])


def test_clipnorm_of_an_infinite_gradient_leaves_zeros_and_nan():
    w = np.zeros(3)
    make("sgd", learning_rate=1.0, clipnorm=2.0).apply([np.array([np.inf, 1.0, 2.0])], [w])
    np.testing.assert_array_equal(w, [np.nan, 0, 0])


@each_rule
@each_gradient_option
@each_dtype
def test_ends_of_the_range_equal_reference(rule, options, dtype):
    # Subnormal and largest numbers, both zeros and infinities, of the variable's own type.
    info = {2: (2.0**-24, 65504.0), 4: (1e-42, 3e38), 8: (1e-310, 1e308)}
    small, large = info[np.dtype(dtype).itemsize]
    if np.dtype(dtype).name == "bfloat16":
        small, large = 2.0**-133, 3e38
    values = np.array([0.0, -0.0, small, -small, 3 * small, 1.0, large, -large, np.inf, -np.inf])
    start = np.repeat(values, len(values)).astype(dtype)
    pair = Pair(rule, [start], **options)
    pair.run([[np.tile(values, len(values)).astype(dtype)] for _ in range(4)])


@each_rule
@each_dtype
def test_subnormal_numbers_are_kept(rule, dtype):
    tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    multiples = np.arange(1, 71) * tiny
    # The state in its own type: there float32 is the narrowest.
    kind = np.float64 if dtype == np.float64 else np.float32
    pair = Pair(rule, [np.zeros(70, dtype)], learning_rate=1.0)
    pair.run([[multiples.astype(kind)] for _ in range(3)])
    g, w = multiples.astype(dtype), np.zeros(70, dtype)
    make("sgd", learning_rate=1.0).apply([g], [w])
    assert_same(w, -g)


# --- What micro-steps and missing gradients leave alone


@each_rule
@each_dtype
def test_micro_step_changes_only_the_accumulator(rule, dtype):
    random = np.random.default_rng(9)
    variables = [normal(random, 600, dtype), normal(random, (), dtype)]
    optimizer = make(rule, gradient_accumulation_steps=3, weight_decay=0.1, **OVERWRITE)
    optimizer.build(variables)
    for step in range(9):
        before, weights = optimizer.state_dict(), [bits(w) for w in variables]
        g = [normal(random, 600, dtype), normal(random, (), dtype)]
        optimizer.apply(g)
        after = optimizer.state_dict()
        changed = {key for key in after if bits(after[key]) != bits(before[key])}
        accumulators = {"gradient_accumulator/variable_0", "gradient_accumulator/variable_1"}
        if step % 3 == 2:
            assert changed > {"iteration", "received", "average/variable_0"}
            assert [bits(w) for w in variables] != weights
            assert not any(after[key].any() for key in [*accumulators, "received"])
        else:
            assert changed - {"received"} == {"iteration", *accumulators}
            assert [bits(w) for w in variables] == weights
            assert after["received"].all()
        assert optimizer.iterations == (step + 1) // 3


@each_rule
@each_dtype
def test_missing_gradient_leaves_a_variable_to_its_average(rule, dtype):
    random = np.random.default_rng(10)
    variables = [normal(random, 600, dtype), normal(random, 5, dtype)]
    optimizer = make(rule, weight_decay=0.1, use_ema=True, ema_momentum=0.5)
    optimizer.build(variables)
    optimizer.apply([normal(random, 600, dtype), normal(random, 5, dtype)])
    before, weights = optimizer.state_dict(), bits(variables[0])
    optimizer.apply([None, normal(random, 5, dtype)])
    after = optimizer.state_dict()
    assert bits(variables[0]) == weights
    for key in after:
        if key.endswith("/variable_0") and not key.startswith("average"):
            assert_same(after[key], before[key], key)
    kind = after["average/variable_0"].dtype.type
    mean = kind(0.5) * before["average/variable_0"] + kind(0.5) * variables[0].astype(kind)
    assert_same(after["average/variable_0"], mean)


def test_window_without_any_gradient_for_a_variable_leaves_it_alone():
    for last in (None, np.ones(1)):
        w = [np.ones(1), np.ones(1)]
        optimizer = make("sgd", learning_rate=1.0, weight_decay=0.5, gradient_accumulation_steps=2)
        optimizer.build(w)
        optimizer.apply([None, np.array([2.0])])
        optimizer.apply([last, np.array([4.0])])
        # Decay halves, the mean of 2 and 4 is 3; one gradient in the window counts by half.
        assert w[1].tolist() == [0.5 - 3]
        assert w[0].tolist() == [1.0 if last is None else 0.5 - 0.5]
