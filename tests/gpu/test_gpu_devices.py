"""Two GPUs: an optimizer stays on its own, whichever is current, and leaves that current."""

import numpy as np
import pytest
from checks import DTYPES, assert_same, ignores_missing, normal, raises
from gpu_checks import all_of, captured, gradients, twins

import ravine

SIZES = [5, 4099, 0, 70_001]


@pytest.fixture
def two(xp):
    """CuPy, where there are two GPUs; the first is current."""
    if xp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    with xp.cuda.Device(0):
        yield xp


def current(xp):
    return xp.cuda.Device().id


def on_device(xp, device, rule="nadam", **options):
    """Return twins whose arrays are on a device."""
    random = np.random.default_rng(110 + device)
    variables = [normal(random, n, DTYPES[i % 4]) for i, n in enumerate(SIZES)]
    with xp.cuda.Device(device):
        pair = twins(xp, rule, variables, **options)
        steps = [gradients(random, variables, DTYPES) for _ in range(3)]
        put = [pair.put(grads) for grads in steps]
        xp.cuda.get_current_stream().synchronize()
    return pair, steps, put


@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 1.0, "use_ema": True}])
@pytest.mark.parametrize("device", [0, 1])
def test_steps_on_a_device_that_is_not_current(two, schedule, device, options):
    pair, steps, put = on_device(two, device, **options)
    for there in (0, 1):
        with two.cuda.Device(there):
            for grads, arrays in zip(steps, put, strict=True):
                pair.cpu.apply(grads)
                pair.gpu.apply(arrays)
                assert current(two) == there
    pair.assert_equal()
    assert current(two) == 0
    for array in pair.gpu.variables[2:-1]:
        assert array.device.id == device


def test_every_call_leaves_the_current_device(two):
    pair, _, put = on_device(two, 1, use_ema=True, gradient_accumulation_steps=2)
    optimizer = pair.gpu
    for call in (
        lambda: ravine.SGD(0.1, momentum=0.5).build(pair.on_gpu),
        lambda: optimizer.apply(put[0]),
        lambda: optimizer.apply(put[1]),
        lambda: optimizer.load_state_dict(optimizer.state_dict()),
        optimizer.finalize_variable_values,
        lambda: optimizer.averaged_weights().__enter__(),
        lambda: setattr(optimizer, "learning_rate", 0.5),
        lambda: optimizer.variables,
    ):
        call()
        assert current(two) == 0


def test_refused_call_leaves_the_current_device(two):
    pair, _, put = on_device(two, 1)
    with two.cuda.Device(0):
        elsewhere = [*put[0][:3], two.zeros(SIZES[3], np.float32)]
    before = all_of(pair.gpu, *pair.on_gpu)
    with raises(
        ValueError,
        "Gradient 3 is on GPU 0, variable 3 ('variable_3') is on GPU 1. Pass gradients on the "
        "device of the variables.",
    ):
        pair.gpu.apply(elsewhere)
    assert current(two) == 0
    assert all_of(pair.gpu, *pair.on_gpu) == before


def test_two_optimizers_on_two_devices(two, schedule):
    pairs = [on_device(two, device, rule) for device, rule in ((0, "nadam"), (1, "rmsprop"))]
    for step in range(3):
        for pair, steps, put in pairs:
            pair.cpu.apply(steps[step])
            pair.gpu.apply(put[step])
    for pair, _, _ in pairs:
        pair.assert_equal()


@ignores_missing
def test_missing_gradients_and_averages_on_the_second_device(two):
    pair, steps, put = on_device(two, 1, use_ema=True, ema_overwrite_frequency=2)
    for grads, arrays in zip(steps, put, strict=True):
        pair.cpu.apply([grads[0], None, grads[2], None])
        pair.gpu.apply([arrays[0], None, arrays[2], None])
        pair.assert_equal()
    with pair.cpu.averaged_weights(), pair.gpu.averaged_weights():
        pair.assert_equal()
    pair.assert_equal()


def test_variables_on_two_devices_are_refused(two):
    with two.cuda.Device(1):
        second = two.zeros(3)
    optimizer = ravine.SGD(0.1)
    with raises(
        ValueError,
        "All variables must be on one device; the first is on GPU 0, variable 1 ('variable_1') is "
        "on GPU 1. Move them, or use an optimizer for each device.",
    ):
        optimizer.build([two.zeros(3), second])
    assert not optimizer.built


@pytest.mark.parametrize("device", [0, 1])
def test_empty_variables_are_where_cupy_says(two, device):
    with two.cuda.Device(device):
        variables = [two.zeros(0), two.zeros((3, 0), np.float32)]
        grads = [two.zeros(0), two.zeros((3, 0), np.float32)]
    optimizer = ravine.Nadam(0.1, use_ema=True, clipnorm=1.0)
    optimizer.build(variables)
    for _ in range(2):
        optimizer.apply(grads)
    assert optimizer.iterations == 2
    assert optimizer.variables[2].device.id == device


def test_current_stream_is_that_of_the_device(two, emulated):
    pair, steps, put = on_device(two, 1)
    with two.cuda.Device(1):
        stream = two.cuda.Stream()
        stream.__enter__()
    emulated.synchronize_all()
    pair.gpu.apply(put[0])
    with two.cuda.Device(0):
        two.cuda.get_current_stream().synchronize()
    assert emulated.outstanding() > 0
    stream.synchronize()
    assert emulated.outstanding() == 0
    stream.__exit__()
    pair.cpu.apply(steps[0])
    pair.assert_equal()


def test_state_moves_from_device_to_device(two):
    first, steps, put = on_device(two, 0, "sgd_momentum")
    first.gpu.apply(put[0])
    first.cpu.apply(steps[0])
    with two.cuda.Device(1):
        second = twins(two, "sgd_momentum", first.on_cpu)
    # Once with arrays of the host, once with those of the other device.
    second.gpu.load_state_dict(first.gpu.state_dict())
    names = [key for key in first.gpu.state_dict() if "/" in key]
    there = dict(zip(names, first.gpu.variables[2:], strict=True))
    second.gpu.load_state_dict({**first.gpu.state_dict(), **there})
    second.cpu.load_state_dict(first.cpu.state_dict())
    second.assert_equal()
    for key, array in first.cpu.state_dict().items():
        assert_same(second.gpu.state_dict()[key], array, key)


def test_graph_on_the_second_device(two, schedule):
    pair, steps, put = on_device(two, 1)
    with two.cuda.Device(1):
        stream = two.cuda.Stream(non_blocking=True)
        with stream:
            pair.gpu.apply(put[1])
        pair.cpu.apply(steps[1])
        graph = captured(stream, lambda: pair.gpu.apply(put[0]))
        for _ in range(3):
            graph.launch(stream)
            pair.cpu.apply(steps[0])
    assert pair.gpu.iterations == 4
    pair.assert_equal()
