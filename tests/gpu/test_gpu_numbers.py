"""Numbers in arrays on a GPU: the learning rate, the betas and other settings."""

import numpy as np
import pytest
from checks import assert_same, raises
from gpu_checks import OnlyDLPack, Shown, captured, on_gpu

import ravine

VALUES = {"learning_rate": 0.125, "beta_1": 0.75, "beta_2": 0.875}


class Scalar(OnlyDLPack):
    shape = ()


class ShownScalar(Shown):
    shape = ()


KINDS = {
    "cupy": lambda array: array,
    "interface": ShownScalar,
    "dlpack": Scalar,
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@each_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_rate_and_betas_may_be_arrays_on_a_gpu(xp, dtype, kind):
    given = {key: kind(on_gpu(xp, np.array(value, dtype))) for key, value in VALUES.items()}
    functions = {key: lambda value=value: value for key, value in given.items()}
    expected = np.ones(5, np.float32)
    plain = ravine.Nadam(**VALUES)
    optimizers = ravine.Nadam(**given), ravine.Nadam(**functions)
    arrays = [on_gpu(xp, expected) for _ in optimizers]
    for step in range(3):
        g = np.full(5, step - 0.5, np.float32)
        plain.apply([g], [expected])
        for optimizer, w in zip(optimizers, arrays, strict=True):
            optimizer.apply([on_gpu(xp, g)], [w])
    assert optimizers[0].get_config() == plain.get_config()
    assert optimizers[1].learning_rate == 0.125
    for w in arrays:
        assert_same(w.get(), expected)


def test_array_is_read_when_all_before_it_is_done(xp, schedule):
    rate = on_gpu(xp, np.array(0.5))
    rate.set(np.array(0.25))
    optimizer = ravine.SGD(momentum=rate)
    rate.set(np.array(0.75))
    assert optimizer.momentum == 0.25


def test_schedule_may_return_an_array_on_a_gpu(xp):
    class Halving(ravine.schedules.LearningRateSchedule):
        def __call__(self, step):
            return on_gpu(xp, np.array(0.5**step))

    w = on_gpu(xp, np.zeros(2, np.float32))
    optimizer = ravine.SGD(Halving())
    for _ in range(3):
        optimizer.apply([on_gpu(xp, np.ones(2, np.float32))], [w])
    assert w.get().tolist() == [-1.75, -1.75]


def test_array_with_axes_is_no_number(xp):
    array = on_gpu(xp, np.array([0.5]))
    with raises(ValueError, f"beta_1 must be a number. Received: {array!r}."):
        ravine.Nadam(beta_1=array)


@pytest.mark.parametrize("setting", ["learning_rate", "momentum", "weight_decay"])
def test_array_is_not_read_in_a_capture(xp, setting):
    w, value = on_gpu(xp, np.ones(2, np.float32)), on_gpu(xp, np.array(0.25))
    g = on_gpu(xp, np.ones(2, np.float32))
    optimizer = ravine.SGD(0.5, momentum=0.5, weight_decay=0.5)
    optimizer.build([w])
    before = optimizer.get_config()
    message = f"{setting} cannot be read from a GPU while a CUDA graph is captured. Pass a number."

    def refused():
        with raises(ValueError, message):
            setattr(optimizer, setting, value)
        optimizer.apply([g])

    stream = xp.cuda.Stream(non_blocking=True)
    graph = captured(stream, refused)
    assert optimizer.get_config() == before
    graph.launch(stream)
    stream.synchronize()
    assert w.get().tolist() == [0.25, 0.25]
