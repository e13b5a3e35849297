"""State on a GPU: made by CuPy, saved on the host, and at home on both sides."""

import numpy as np
import pytest
from checks import RULES, assert_same, each_dtype, each_rule, ignores_missing, make, normal
from gpu_checks import OnlyDLPack, Shown, gradients, on_gpu, twins
from state_checks import each_storage, plain_and_everything, steps_for

import ravine

SHAPES = {"a/kernel": (3, 4), "b": (), "c": (70,), "d": (2, 2049)}


@ignores_missing
@each_storage
@pytest.mark.parametrize("stop", [0, 1, 4])
@plain_and_everything
@pytest.mark.parametrize("moves", ["cpu_to_gpu", "gpu_to_cpu"])
@each_rule
def test_resumed_training_gets_the_same_bits(xp, rule, moves, options, stop, way, tmp_path):
    random = np.random.default_rng(130)
    start = {name: np.asarray(normal(random, s, np.float32)) for name, s in SHAPES.items()}
    steps = steps_for(start, random, 8)
    steps[stop]["b"] = None

    def run(optimizer, weights, steps, put):
        for grads in steps:
            optimizer.apply({n: None if g is None else put(g) for n, g in grads.items()})

    on_cpu, there = lambda array: array.copy(), lambda array: on_gpu(xp, array)
    back = lambda array: array.get()  # noqa: E731
    before, after = (on_cpu, there) if moves == "cpu_to_gpu" else (there, on_cpu)

    expected, reference = {n: w.copy() for n, w in start.items()}, make(rule, **options)
    reference.build(expected)
    run(reference, expected, steps, on_cpu)

    weights, optimizer = {n: before(w) for n, w in start.items()}, make(rule, **options)
    optimizer.build(weights)
    run(optimizer, weights, steps[:stop], before)
    state = way(optimizer.state_dict(), tmp_path)
    if before is there:
        weights = {n: back(w) for n, w in weights.items()}
    weights, resumed = {n: after(w) for n, w in weights.items()}, make(rule, **options)
    resumed.build(weights)
    resumed.load_state_dict(state)
    run(resumed, weights, steps[stop:], after)
    for name, array in expected.items():
        actual = back(weights[name]) if after is there else weights[name]
        assert_same(actual, array, name)
    for key, array in reference.state_dict().items():
        assert_same(resumed.state_dict()[key], array, key)


@each_dtype
def test_state_is_of_cupy_and_laid_out_as_the_variable(xp, dtype):
    shapes = [(3, 5), (2, 3, 4), (7,), (), (0,), (1, 1)]
    variables = [np.ones(shape, dtype) for shape in shapes]
    variables[0] = np.asfortranarray(variables[0])
    variables[1] = variables[1].transpose(1, 0, 2)
    pair = twins(xp, "sgd_momentum", variables, use_ema=True, gradient_accumulation_steps=2)
    iteration, rate, *arrays = pair.gpu.variables
    assert (iteration, rate) == (0, 0.1)
    assert type(iteration) is type(rate) is np.ndarray
    assert len(arrays) == 3 * len(shapes)
    for array, variable in zip(arrays, 3 * pair.on_gpu, strict=True):
        assert type(array) is xp.ndarray
        assert array.shape == variable.shape
        assert array.dtype == (np.float64 if dtype == np.float64 else np.float32)
        assert array.size == 0 or array.data.ptr % 512 == 0
        ratio = array.itemsize // variable.itemsize
        if array.size > 1:
            assert array.strides == tuple(ratio * stride for stride in variable.strides)
    again = pair.gpu.variables[2:]
    assert all(a is b for a, b in zip(arrays, again, strict=True))
    pair.run(gradients(np.random.default_rng(131), variables) for _ in range(4))


def test_variables_are_the_arrays_that_steps_update(xp):
    w, g = xp.ones(3), xp.ones(3)
    optimizer = ravine.SGD(1.0, momentum=0.5)
    optimizer.build([w])
    (slot,) = optimizer.variables[2:]
    optimizer.apply([g])
    assert slot.get().tolist() == [-1] * 3
    assert optimizer.variables[0] == 1


def test_state_dict_is_a_copy_of_numpy_arrays(xp):
    pair = twins(xp, "nadam", [np.ones(5)], use_ema=True)
    pair.run([[np.ones(5)]])
    state = pair.gpu.state_dict()
    kept = {key: array.copy() for key, array in state.items()}
    pair.run([[np.ones(5)]])
    for key, array in state.items():
        assert type(array) is np.ndarray
        assert_same(array, kept[key], key)


@pytest.mark.parametrize("show", [lambda array: array, Shown, OnlyDLPack])
def test_state_may_be_given_on_the_gpu(xp, show):
    variables = [np.ones((3, 4)), np.ones(5, np.float32)]
    pair = twins(xp, "sgd_momentum", variables, use_ema=True)
    pair.run(gradients(np.random.default_rng(132), variables) for _ in range(2))
    state = pair.cpu.state_dict()
    there = {key: show(on_gpu(xp, array)) if "/" in key else array for key, array in state.items()}
    for optimizer, arrays in (
        (make("sgd_momentum", use_ema=True), pair.on_gpu),
        (make("sgd_momentum", use_ema=True), pair.on_cpu),
    ):
        optimizer.build(arrays)
        optimizer.load_state_dict(there)
        for key, array in optimizer.state_dict().items():
            assert_same(array, state[key], key)


@pytest.mark.parametrize("axes", [(2, 1, 0), (1, 0, 2)])
def test_state_fits_another_order_in_memory(xp, axes):
    random = np.random.default_rng(133)
    shape = (3, 4, 5)
    inverse = np.argsort(axes)
    start = normal(random, shape, np.float32)
    ordered = normal(random, np.array(shape)[list(axes)], np.float32).transpose(inverse)
    ordered[...] = start
    first, second = twins(xp, "nadam", [start]), twins(xp, "nadam", [ordered])
    first.run(gradients(random, [start]) for _ in range(2))
    second.gpu.load_state_dict(first.gpu.state_dict())
    second.cpu.load_state_dict(first.gpu.state_dict())
    second.run(gradients(random, [ordered]) for _ in range(2))


def test_load_restores_the_rate(xp):
    name, arguments = RULES["nadam"]
    optimizers = []
    for rate in (0.5, 0.1, lambda: 0.25):
        optimizer = getattr(ravine, name)(**{**arguments, "learning_rate": rate})
        optimizer.build([xp.ones(3)])
        optimizers.append(optimizer)
    source, number, function = optimizers
    for optimizer in (number, function):
        optimizer.load_state_dict(source.state_dict())
    assert number.learning_rate == 0.5
    assert function.learning_rate == 0.25


def test_state_needs_little_more_memory_than_its_arrays(xp, emulated):
    sizes = [1000, 1, 300]
    optimizer = ravine.Nadam(0.1)
    optimizer.build([xp.ones(n, np.float32) for n in sizes])
    arrays = optimizer.variables[2:-1]
    begin = min(array.data.ptr for array in arrays)
    end = max(array.data.ptr + array.nbytes for array in arrays)
    assert len(arrays) == 6
    assert end - begin <= sum(array.nbytes for array in arrays) + 6 * 512
    assert len({array.data.mem for array in arrays}) == 1
