"""The same bits on the GPU as on the CPU: every rule, type, size and place in memory."""

import numpy as np
import pytest
from checks import DTYPES, each_dtype, each_rule, normal
from gpu_checks import gradients, twins

# Around lanes, tiles of 2,048 and chunks of 4,096 elements.
SIZES = [0, 1, 3, 33, 127, 2047, 2048, 2049, 4095, 4096, 4097, 8193, 70_001]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 3e38, -6e4, 1e-8, 65504.0, 1.0]


@each_rule
def test_all_types_and_sizes(xp, schedule, rule):
    random = np.random.default_rng(50)
    # Sixteen arrays a size: each type of variable with each type of gradient.
    for sizes in (SIZES[:6], SIZES[6:]):
        variables = [normal(random, n, dtype) for n in sizes for dtype in DTYPES for _ in DTYPES]
        pair = twins(xp, rule, variables)
        pair.run_at_once(gradients(random, variables, DTYPES) for _ in range(2))


@each_dtype
@each_rule
def test_one_type_alone(xp, rule, dtype):
    # A model of one type has kernels of its own.
    random = np.random.default_rng(51)
    variables = [normal(random, n, dtype) for n in SIZES]
    pair = twins(xp, rule, variables, weight_decay=0.1, clipvalue=1.0)
    pair.run(gradients(random, variables, [dtype]) for _ in range(3))


@pytest.mark.parametrize("size", [0, 1])
@each_dtype
def test_one_small_variable_alone(xp, dtype, size):
    pair = twins(xp, "nadam", [np.ones(size, dtype)], global_clipnorm=0.5, use_ema=True)
    pair.run([np.full(size, value, dtype)] for value in (1.0, -2.0))


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("rule", ["sgd", "rmsprop_centered_momentum", "nadam"])
def test_odd_addresses(xp, schedule, rule, shift):
    random = np.random.default_rng(52)
    variables = [normal(random, n, dtype) for n in (5, 4099, 9000) for dtype in DTYPES]
    offsets = (lambda i: shift, lambda i: (shift * (i + 3) + i) % 8)
    pair = twins(xp, rule, variables, (), offsets, clipnorm=1.0, use_ema=True)
    pair.run_at_once(gradients(random, variables, DTYPES[::-1]) for _ in range(2))


def test_variables_of_one_block(xp):
    # As others keep them: slices of one array, at whatever address the sizes before lead to.
    random = np.random.default_rng(53)
    sizes = [3, 4097, 1, 70, 2048, 5]
    variables = [normal(random, n, np.float32) for n in sizes]
    pair = twins(xp, "nadam", variables)
    block = xp.zeros(sum(sizes), np.float32)
    ends = np.cumsum(sizes)
    views = [block[end - n : end] for n, end in zip(sizes, ends, strict=True)]
    for grads in (gradients(random, variables) for _ in range(3)):
        for view, g in zip(views, grads, strict=True):
            view.set(g)
        pair.cpu.apply(grads)
        pair.gpu.apply(views)
        pair.assert_equal()


SHAPES = [(), (1,), (3, 5), (2, 3, 4), (1, 7, 1), (0, 4), (64, 65), (3, 2, 5, 4)]


@each_rule
def test_shapes(xp, rule):
    random = np.random.default_rng(54)
    variables = [np.asarray(normal(random, shape, np.float32)) for shape in SHAPES]
    pair = twins(xp, rule, variables, clipnorm=1.0)
    pair.run(gradients(random, variables) for _ in range(2))


@pytest.mark.parametrize("axes", [(2, 1, 0), (1, 0, 2), (0, 2, 1), (1, 2, 0)])
def test_any_order_in_memory_without_gaps(xp, axes):
    random = np.random.default_rng(55)
    variables = [
        normal(random, (11, 13, 17), dtype).transpose(axes) for dtype in (np.float32, np.float64)
    ]
    pair = twins(xp, "rmsprop_momentum", variables, global_clipnorm=1.0, use_ema=True)
    pair.run(gradients(random, variables) for _ in range(3))
    for i, variable in enumerate(pair.on_gpu):
        _, rate, *state = pair.gpu.variables
        assert rate == 0.1
        assert state[i].strides == pair.cpu.variables[2 + i].strides
        assert variable.shape == state[i].shape


@each_dtype
@each_rule
def test_special_values(xp, rule, dtype):
    grid = np.array([(w, g) for w in SPECIAL for g in SPECIAL], np.float64)
    with np.errstate(over="ignore"):
        w, g = grid.T.astype(dtype)
    for options in ({}, {"clipvalue": 1.0}, {"weight_decay": 0.1, "use_ema": True}):
        pair = twins(xp, rule, [w], **options)
        pair.run([np.roll(g, step)] for step in range(4))


@each_rule
def test_many_steps(xp, schedule, rule):
    # Corrections by the number of the step, and everything that adds up.
    random = np.random.default_rng(56)
    variables = [normal(random, n, np.float32) for n in (2, 40)]
    pair = twins(xp, rule, variables, use_ema=True)
    pair.run_at_once(gradients(random, variables) for _ in range(60))


def test_steps_leave_the_numbers_of_the_host_alone(xp):
    # A kernel that is compiled for the host may leave the registers of long doubles full.
    pair = twins(xp, "sgd_momentum", [np.ones(12, np.float32)])
    for dtype in DTYPES:
        pair.run_at_once([[np.ones(12, dtype)]])
    assert np.longdouble(3) + np.longdouble(1) == 4
