"""The reference checked against slower or independent statements of the same facts."""

from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import reference
from checks import RULES

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
each_optimizer = pytest.mark.parametrize(
    "make",
    [partial(getattr(reference, name), **arguments) for name, arguments in RULES.values()],
    ids=RULES,
)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)


def bits(array):
    """Return the bytes of `array`: equal only if NaN, infinities and signs of zero are."""
    return np.ascontiguousarray(array).tobytes()


def run(optimizer, variables, steps):
    """Build, apply each list of gradients of `steps`, return the variables."""
    optimizer.build(variables)
    for gradients in steps:
        optimizer.apply(gradients)
    return variables


# --- Numbers


def test_power_squares_repeatedly():
    x = 0.999
    assert reference.power(x, 0) == 1.0
    assert reference.power(x, 1) == x
    assert reference.power(x, 5) == x * ((x * x) * (x * x))


@pytest.mark.parametrize("base", [0.96, 0.999, 0.0])
def test_power_is_close_to_the_exact_power(base):
    for exponent in (1, 2, 3, 100, 1001, 12345):
        exact = Fraction(base) ** exponent
        error = abs(Fraction(reference.power(base, exponent)) - exact)
        assert error <= exact * exponent * Fraction(1, 2**53)


def test_nadam_numbers_of_first_update():
    nadam = reference.Nadam(0.5)
    nadam.build([np.zeros(1)])
    nadam.advance(1)
    numbers = nadam.numbers(0.5, 1)
    momentum, next_momentum = 0.9 * (1 - 0.5 * 0.96), 0.9 * (1 - 0.5 * (0.96 * 0.96))
    assert nadam.momentum_product == momentum
    assert numbers["gradient_factor"] == 0.5 * (1 - momentum) / (1 - momentum) == 0.5
    assert numbers["momentum_factor"] == 0.5 * next_momentum / (1 - momentum * next_momentum)
    assert numbers["velocity_factor"] == 1 / (1 - 0.999)


# --- Types and layouts


@each_dtype
@each_optimizer
def test_state_has_the_arithmetic_type(make, dtype):
    optimizer = make(
        use_ema=True, gradient_accumulation_steps=2, weight_decay=0.1, global_clipnorm=1.0
    )
    variables = [np.ones((2, 3), dtype), np.array(1.0, dtype), np.ones((0, 4), dtype)]
    gradients = [np.ones(v.shape, np.float64) for v in variables]
    run(optimizer, variables, [gradients] * 4)
    expected = np.float64 if dtype == np.float64 else np.float32
    state = [*optimizer.slots.values(), optimizer.averages, optimizer.accumulators]
    assert {array.dtype for arrays in state for array in arrays} == {np.dtype(expected)}
    assert [v.dtype for v in variables] == [dtype] * 3
    assert all(np.isfinite(v.astype(float)).all() for v in variables)
    assert not np.any(variables[0] == 1)
    assert variables[1] != 1


@each_optimizer
def test_layout_changes_no_bit(make):
    random = np.random.default_rng(1)
    start = random.standard_normal((4, 6)).astype(np.float32)
    steps = [random.standard_normal((4, 6)) for _ in range(3)]
    plain = start.copy()
    store = np.zeros((12, 8), np.float32)
    strided = store[::2, 4:].T[:, ::-1]
    strided[...] = start
    run(make(weight_decay=0.1), [plain], [[g] for g in steps])
    run(make(weight_decay=0.1), [strided], [[g] for g in steps])
    assert bits(plain) == bits(strided)
    assert not store[1::2].any()
    assert not store[:, :4].any()


@each_optimizer
def test_two_variables_are_two_runs_of_one(make):
    random = np.random.default_rng(2)
    whole = random.standard_normal(10).astype(np.float32)
    parts = [whole[:3].copy(), whole[3:].copy()]
    steps = [random.standard_normal(10).astype(np.float32) for _ in range(3)]
    options = {"clipvalue": 0.5, "use_ema": True, "ema_overwrite_frequency": 2}
    run(make(**options), [whole], [[g] for g in steps])
    run(make(**options), parts, [[g[:3], g[3:]] for g in steps])
    assert bits(whole) == bits(np.concatenate(parts))


def test_float32_step_rounds_after_each_operation():
    # 1/3 and 0.1 in float32, their product in float32: double would give another last bit.
    third, rate = np.float32(1 / 3), np.float32(0.1)
    w = np.array([third], np.float32)
    run(reference.SGD(0.1), [w], [[np.array([1 / 3])]])
    assert w[0] == np.float32(third - np.float32(third * rate))


@each_optimizer
def test_gradient_is_cast_before_anything_else(make):
    random = np.random.default_rng(5)
    start = random.standard_normal(1000).astype(np.float32)
    steps = [[random.standard_normal(1000)] for _ in range(2)]
    (double,) = run(make(), [start.copy()], steps)
    (single,) = run(make(), [start.copy()], [[g.astype(np.float32)] for (g,) in steps])
    assert bits(double) == bits(single)


@pytest.mark.parametrize(
    ("dtype", "ulp"), [(np.float16, 2.0**-10), (ml_dtypes.bfloat16, 2.0**-7)], ids=["f16", "bf16"]
)
def test_half_precision_rounds_to_nearest_even(dtype, ulp):
    w = np.ones(4, dtype)
    ulps = np.array([0.5, 1.5, 0.5 + 2.0**-8, 0.5 - 2.0**-8])
    run(reference.SGD(1.0), [w], [[-ulps * ulp]])
    assert ((w.astype(float) - 1) / ulp).tolist() == [0, 2, 1, 0]


def test_half_precision_gradient_is_unscaled_in_float32():
    w = np.zeros(1, np.float32)
    tiny = np.array([1e-5], np.float16)
    run(reference.SGD(1.0, loss_scale_factor=1024.0), [w], [[tiny]])
    assert w[0] == -np.float32(tiny[0]) / 1024


# --- Clipping


@pytest.mark.parametrize("option", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_inactive_clip_changes_no_bit(option):
    random = np.random.default_rng(3)
    g = [random.standard_normal(50).astype(np.float32) for _ in range(2)]
    clipped = run(reference.SGD(0.1, **{option: 100.0}), [np.ones(50, np.float32)], [g[:1]])
    free = run(reference.SGD(0.1), [np.ones(50, np.float32)], [g[:1]])
    assert bits(clipped[0]) == bits(free[0])


def test_clips_to_three_four_five():
    three, four = np.array([3.0]), np.array([4.0])

    def step(**options):
        w = run(reference.SGD(1.0, **options), [np.zeros(1), np.zeros(1)], [[three, four]])
        return [-float(x[0]) for x in w]

    assert step(global_clipnorm=2.5) == [1.5, 2.0]
    assert step(global_clipnorm=5.0) == [3.0, 4.0]
    assert step(clipnorm=3.0) == [3.0, 3.0]
    assert step(clipvalue=3.5) == [3.0, 3.5]


def test_global_norm_leaves_out_a_variable_without_gradient():
    w = [np.zeros(1) for _ in range(3)]
    run(reference.SGD(1.0, global_clipnorm=2.5), w, [[np.array([3.0]), None, np.array([4.0])]])
    assert [float(x[0]) for x in w] == [-1.5, 0.0, -2.0]


def test_clip_of_infinite_and_nan_gradients():
    infinite, one = np.array([np.inf, 1.0]), np.array([np.nan, 9.0])

    def step(**options):
        w = [np.zeros(2), np.zeros(2)]
        run(reference.SGD(1.0, **options), w, [[infinite, one]])
        return np.concatenate(w)

    nan = np.nan
    np.testing.assert_array_equal(step(clipvalue=2.0), [-2, -1, nan, -2])
    np.testing.assert_array_equal(step(clipnorm=2.0), [nan, 0, nan, nan])
    np.testing.assert_array_equal(step(global_clipnorm=2.0), [nan] * 4)
    one[0] = 1.0  # the norm is infinite, not NaN
    np.testing.assert_array_equal(step(clipnorm=20.0), [nan, 0, -1, -9])
    np.testing.assert_array_equal(step(global_clipnorm=20.0), [nan] * 4)


# --- Counting: gradients that are missing, accumulation, averages, rates


def test_empty_list_changes_nothing_and_all_none_is_an_error():
    w = np.ones(2)
    optimizer = reference.Nadam(use_ema=True)
    optimizer.build([w])
    optimizer.apply([])
    with pytest.raises(ValueError, match="No gradients"):
        optimizer.apply([None])
    assert optimizer.iterations == 0
    assert optimizer.momentum_product == 1
    assert w.tolist() == [1, 1]
    assert not optimizer.averages[0].any()


def test_missing_gradient_leaves_all_but_the_average():
    w = [np.ones(1), np.ones(1)]
    optimizer = reference.RMSprop(0.1, weight_decay=0.1, use_ema=True)
    run(optimizer, w, [[np.ones(1), None]])
    assert w[0] < 1
    assert w[1] == 1
    assert optimizer.slots["velocity"][1] == 0
    assert optimizer.averages[0] == w[0]
    assert optimizer.averages[1] == 1


def test_nadam_product_advances_once_per_update():
    w = [np.ones(1), np.ones(1)]
    optimizer = reference.Nadam(gradient_accumulation_steps=2)
    run(optimizer, w, [[np.ones(1), None]] * 101)
    expected = 1.0
    for t in range(1, 51):
        expected *= 0.9 * (1 - 0.5 * reference.power(0.96, t))
    assert optimizer.momentum_product == expected
    assert optimizer.iterations == 101


def test_window_divides_what_each_variable_received():
    # Of three micro-steps the variables get: all, the first only, the last only, none.
    one, two, four = np.array([1.0]), np.array([2.0]), np.array([4.0])
    w = [np.ones(1) for _ in range(4)]
    optimizer = reference.SGD(1.0, weight_decay=0.5, gradient_accumulation_steps=3)
    run(optimizer, w, [[one, two, None, None], [two, None, None, None]])
    assert [float(x[0]) for x in w] == [1, 1, 1, 1]
    assert [float(a[0]) for a in optimizer.accumulators] == [3, 2, 0, 0]
    optimizer.apply([four, None, four, None])
    means = [7 / 3, 2 / 3, 4 / 3]
    assert [float(x[0]) for x in w] == [*(0.5 - mean for mean in means), 1]
    assert [float(a[0]) for a in optimizer.accumulators] == [0, 0, 0, 0]
    # The next window knows nothing of this one.
    before = float(w[1][0])
    for _ in range(3):
        optimizer.apply([one, None, one, None])
    assert w[1][0] == before


@each_optimizer
def test_window_equals_one_step_of_the_mean(make):
    window, mean = np.ones(3, np.float32), np.ones(3, np.float32)
    parts = [np.array(x, np.float32) for x in ([1, 2, 3], [3, -2, 1], [4, 4, -4], [0, 0, 8])]
    options = {"weight_decay": 0.1, "use_ema": True, "ema_overwrite_frequency": 2}
    run(make(gradient_accumulation_steps=4, **options), [window], [[g] for g in parts * 3])
    run(make(**options), [mean], [[sum(parts) / np.float32(4)]] * 3)
    assert bits(window) == bits(mean)


def test_average_starts_as_a_copy_and_overwrites():
    w = np.array([10.0])
    options = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3}
    optimizer = reference.SGD(1.0, **options)
    optimizer.build([w])
    pairs = []
    for _ in range(6):
        optimizer.apply([np.ones(1)])
        pairs.append((float(w[0]), float(optimizer.averages[0][0])))
    expected = [(9, 9), (8, 8.5), (7.75, 7.75), (6.75, 7.25), (5.75, 6.5), (5.625, 5.625)]
    assert pairs == expected


def test_average_rounds_its_weights_once():
    start = np.random.default_rng(6).standard_normal(1000).astype(np.float32)
    optimizer = reference.SGD(1.0, use_ema=True, ema_momentum=0.99)
    steps = [[np.zeros(1000, np.float32)], [start]]
    run(optimizer, [2 * start], steps)
    # 1 - 0.99 in float32 is not 0.01 in float32.
    expected = np.float32(0.99) * (2 * start) + np.float32(1 - 0.99) * start
    assert bits(optimizer.averages[0]) == bits(expected)


def test_average_of_half_precision_is_of_the_stored_variable():
    w = np.ones(1, np.float16)
    optimizer = reference.SGD(1.0, use_ema=True)
    run(optimizer, [w], [[np.array([2.0**-13])]])
    assert w[0] == 1
    assert optimizer.averages[0] == 1


def test_decay_leaves_out_excluded_variables():
    w = [np.ones(1), np.ones(1)]
    run(reference.SGD(0.5, weight_decay=0.5, excluded=(1,)), w, [[np.zeros(1), np.zeros(1)]])
    assert w[0] == 0.75
    assert w[1] == 1


def test_multipliers_are_those_of_a_variable():
    w = [np.ones(1), np.ones(1)]
    optimizer = reference.SGD(0.5, weight_decay=0.5, multipliers={1: (0.5, 2.0)})
    run(optimizer, w, [[np.zeros(1), np.ones(1)]])
    assert w[0] == 1 - 0.5 * 0.5
    assert w[1] == 1 - 0.25 * 1.0 - 0.25


def test_rate_is_asked_once_per_update_with_the_raw_counter():
    asked = []

    def rate(iteration):
        asked.append(iteration)
        return 0.1

    optimizer = reference.SGD(rate, weight_decay=0.1, gradient_accumulation_steps=3)
    run(optimizer, [np.ones(1), np.ones(1)], [[np.ones(1), np.ones(1)]] * 8)
    assert asked == [2, 5]


def test_centered_rmsprop_survives_constant_gradients():
    g = np.random.default_rng(4).uniform(0.5, 2, 1000).astype(np.float32)
    optimizer = reference.RMSprop(0.001, centered=True, epsilon=1e-12)
    w = np.zeros(1000, np.float32)
    optimizer.build([w])
    lowest = np.inf
    for _ in range(300):
        optimizer.apply([g])
        velocity, mean = optimizer.slots["velocity"][0], optimizer.slots["average_gradient"][0]
        lowest = min(lowest, float((velocity - mean * mean).min()))
    assert lowest < -1e-12  # the root would have been NaN: the clamp was needed
    assert np.isfinite(w).all()
