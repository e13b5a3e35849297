"""Arrays of other libraries than CuPy, by __cuda_array_interface__ or by DLPack; and identity."""

import numpy as np
import pytest
from checks import DTYPES, assert_same, each_dtype, normal, raises
from gpu_checks import OnlyDLPack, Shown, all_of, gradients, on_gpu, twins

import ravine

SIZES = [5, 4099, 3]


def model(xp, dtypes=DTYPES, **options):
    random = np.random.default_rng(120)
    variables = [normal(random, n, dtypes[i % len(dtypes)]) for i, n in enumerate(SIZES)]
    pair = twins(xp, "nadam", variables, **options)
    return pair, [gradients(random, variables, dtypes) for _ in range(3)]


@pytest.mark.parametrize("show", [Shown, OnlyDLPack])
def test_gradients_of_another_library(xp, schedule, show):
    # NumPy, which stands behind DLPack on an emulated GPU, knows no bfloat16 there.
    pair, steps = model(xp, DTYPES[: 4 if show is Shown else 3])
    for grads in steps:
        pair.cpu.apply(grads)
        pair.gpu.apply([show(array) for array in pair.put(grads)])
        pair.assert_equal()


@pytest.mark.parametrize("show", [Shown, OnlyDLPack])
def test_variables_of_another_library(xp, schedule, show):
    pair, steps = model(xp, DTYPES[: 4 if show is Shown else 3], use_ema=True)
    shown = [show(array) for array in pair.on_gpu]
    pair.gpu = ravine.Nadam(0.1, use_ema=True)
    pair.gpu.build(shown)
    pair.run(steps)
    pair.gpu.exclude_from_weight_decay([shown[1]])
    with pair.cpu.averaged_weights(), pair.gpu.averaged_weights():
        pair.assert_equal()
    pair.run(steps[:1])
    for each, arrays in ((pair.cpu, pair.on_cpu), (pair.gpu, shown)):
        each.finalize_variable_values([arrays[2]])
    pair.assert_equal()
    pair.gpu.build(shown)  # again, which changes nothing
    assert pair.gpu.iterations == 4


@each_dtype
def test_interface_says_strides_or_not(xp, dtype):
    w = on_gpu(xp, np.ones((3, 4), dtype))
    optimizer = ravine.SGD(0.5, momentum=0.5)
    optimizer.build([Shown(w, strides=w.strides)])
    for g in (xp.ones((3, 4)), Shown(xp.ones((3, 4)), strides=(32, 8))):
        optimizer.apply([g])
    optimizer.build([w])
    optimizer.apply([xp.zeros((3, 4))], [Shown(w)])
    assert optimizer.iterations == 3


def test_array_of_another_library_may_show_other_memory_each_time(xp):
    class Moving:
        def __init__(self, first):
            self.shown = first

        @property
        def __cuda_array_interface__(self):
            return Shown(self.shown).__cuda_array_interface__

    w = xp.zeros(3)
    optimizer = ravine.SGD(1.0)
    optimizer.build([w])
    g = Moving(xp.ones(3))
    for value in (10.0, 100.0, 1000.0):
        optimizer.apply([g])
        g.shown = xp.full(3, value)
    optimizer.apply([g])
    assert w.get().tolist() == [-1111] * 3


@pytest.mark.parametrize("show", [lambda array: array, Shown, lambda array: array[...]])
def test_variables_are_known_by_their_memory(xp, show):
    pair, steps = model(xp)
    grads, order = steps[0], [2, 0, 1]
    there = pair.put(grads)
    pair.gpu.apply([there[i] for i in order], [show(pair.on_gpu[i]) for i in order])
    pair.cpu.apply(grads)
    pair.assert_equal()
    pair.gpu.build([show(array) for array in pair.on_gpu])


def test_part_of_a_variable_is_no_variable(xp):
    pair, _ = model(xp)
    part = pair.on_gpu[1][:5]
    before = all_of(pair.gpu, *pair.on_gpu)
    with raises(
        ValueError,
        "Unknown variable: array of shape (5,) and dtype float64. This optimizer was built for "
        "['variable_0', 'variable_1', 'variable_2']. Variables are updated in place and known by "
        "their memory: pass the arrays given to build(), or make a new optimizer.",
    ):
        pair.gpu.apply([xp.zeros(5)], [part])
    assert all_of(pair.gpu, *pair.on_gpu) == before


def test_empty_variables_are_known_though_they_have_no_memory(xp):
    variables = [xp.zeros(0), xp.zeros(3), xp.zeros(0)]
    optimizer = ravine.SGD(1.0)
    optimizer.build(variables)
    optimizer.build([*variables])
    grads = [xp.zeros(0), xp.ones(3), xp.zeros(0)]
    optimizer.apply(grads[::-1], variables[::-1])
    assert variables[1].get().tolist() == [-1] * 3


def test_keys_and_pairs(xp):
    variables = {"a": xp.zeros(3), "b": xp.zeros(2)}
    optimizer = ravine.SGD(1.0)
    optimizer.apply({"b": xp.ones(2), "a": xp.ones(3)}, variables)
    optimizer.apply_gradients([(xp.ones(2), variables["b"]), (xp.ones(3), variables["a"])])
    assert {key: array.get().tolist() for key, array in variables.items()} == {
        "a": [-2] * 3,
        "b": [-2] * 2,
    }


def test_exclude_by_identity_and_name(xp):
    variables = {name: xp.ones(2) for name in ("kernel", "bias", "scale")}
    optimizer = ravine.SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([Shown(variables["scale"])], ["^b"])
    optimizer.apply({name: xp.zeros(2) for name in variables}, variables)
    assert [float(array.get()[0]) for array in variables.values()] == [0.5, 1, 1]
    assert optimizer.get_config()["exclude_from_weight_decay"] == {
        "var_names": ["^b"],
        "names": ["scale"],
    }


def test_minimize(xp):
    w = on_gpu(xp, np.array([3.0]))
    optimizer = ravine.SGD(0.5)
    assert optimizer.minimize(lambda: ("loss", [on_gpu(xp, 2 * w.get())]), [w]) == "loss"
    assert w.get().tolist() == [0]
    assert optimizer.scale_loss(w) is w


def test_many_owners_of_one_block(xp):
    # A plan keeps its arrays alive, whoever else lets go of them.
    block = on_gpu(xp, np.zeros(10, np.float32))
    optimizer = ravine.SGD(1.0, momentum=0.5)
    optimizer.build([Shown(block[:4]), block[4:]])
    g = [xp.ones(4, np.float32), xp.ones(6, np.float32)]
    optimizer.apply(g)
    values = block.get()
    del block
    assert_same(values, np.full(10, -1, np.float32))
    optimizer.apply(g)
    assert optimizer.iterations == 2


@pytest.mark.large
@pytest.mark.parametrize("options", [{}, {"clipnorm": 1e9}], ids=["plain", "norm"])
def test_more_than_two_to_the_31_elements(xp, options):
    size = 2**31 + 5001
    w, g = xp.zeros(size, np.float16), xp.ones(size, np.float16)
    optimizer = ravine.SGD(0.5, **options)
    optimizer.build([w])
    optimizer.apply([g])
    for begin in (0, 2**30, 2**31 - 100, 2**31, size - 4097, size - 1):
        assert (w[begin : begin + 5000].get() == -0.5).all()
