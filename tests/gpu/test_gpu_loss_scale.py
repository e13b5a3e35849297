"""Dynamic loss scale on a GPU: the bits of the CPU, and nothing waits for what the device finds."""

import numpy as np
import pytest
from checks import make, with_all_slots

import ravine
from ravine import _core

SHAPES = [(3, 5), (4097,), (), (70001,), (0,)]
OPTIONS = {
    "plain": {},
    "global_norm": {"global_clipnorm": 1.0, "weight_decay": 0.1},
    "norm": {"clipnorm": 0.5},
    "average": {"use_ema": True, "ema_overwrite_frequency": 2},
    "accumulation": {"gradient_accumulation_steps": 3, "global_clipnorm": 1.0, "use_ema": True},
}


def arrays(seed, dtype, scale=1.0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape) * scale, dtype) for shape in SHAPES]


def bits(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def assert_same(gpu, cpu, on_gpu, on_cpu):
    for a, b in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_array_equal(bits(a.get()), bits(b))
    theirs = cpu.state_dict()
    for key, value in gpu.state_dict().items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@with_all_slots
def test_bits_are_those_of_the_cpu(xp, schedule, rule, options, dtype):
    on_cpu = arrays(0, dtype)
    on_gpu = [xp.asarray(w) for w in on_cpu]
    cpu = ravine.LossScaleOptimizer(make(rule, **options), 64.0, 2)
    gpu = ravine.LossScaleOptimizer(make(rule, **options), 64.0, 2)
    cpu.build(on_cpu)
    gpu.build(on_gpu)
    for step in range(1, 12):
        grads = arrays(step, dtype, 64.0)
        if step in (3, 4, 8):
            grads[step % 2].reshape(-1)[-1] = (np.nan, np.inf)[step % 2]
        if step in (5, 9):
            grads[1] = None
        cpu._on_missing = gpu.inner_optimizer._on_missing = cpu.inner_optimizer._on_missing = None
        cpu.apply(grads)
        gpu.apply([None if g is None else xp.asarray(g) for g in grads])
    assert_same(gpu, cpu, on_gpu, on_cpu)
    assert gpu.dynamic_scale == cpu.dynamic_scale
    assert gpu.step_counter == cpu.step_counter
    assert gpu.iterations == cpu.iterations


@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 1.0}, {"clipnorm": 1.0}])
def test_two_launches_and_nothing_waits(xp, options):
    w = [xp.asarray(each) for each in arrays(0, np.float32)]
    grads = [xp.asarray(each) for each in arrays(1, np.float32)]
    optimizer = ravine.LossScaleOptimizer(ravine.Nadam(0.01, **options))
    optimizer.build(w)
    optimizer.apply(grads)
    before = _core.cuda_counts()
    optimizer.apply(grads)
    after = _core.cuda_counts()
    spent = {key: after[key] - before[key] for key in before}
    assert spent == {"launches": 2, "synchronizations": 0, "allocations": 0}


def test_schedule_is_asked_for_many_steps_at_once(xp):
    def schedule():
        return ravine.schedules.ExponentialDecay(0.1, 7, 0.5)

    on_cpu = [np.ones(3, np.float32)]
    on_gpu = [xp.asarray(on_cpu[0])]
    cpu = ravine.LossScaleOptimizer(ravine.SGD(schedule()), 4.0, 5)
    gpu = ravine.LossScaleOptimizer(ravine.SGD(schedule()), 4.0, 5)
    cpu.build(on_cpu)
    gpu.build(on_gpu)
    waits = _core.cuda_counts()["synchronizations"]
    for step in range(600):
        gradient = np.full(3, np.inf if step % 50 == 7 else step % 5, np.float32)
        cpu.apply([gradient])
        gpu.apply([xp.asarray(gradient)])
    # Twice for each reading: the numbers, and what came in the window.
    assert _core.cuda_counts()["synchronizations"] - waits <= 2 * 3
    np.testing.assert_array_equal(on_gpu[0].get(), on_cpu[0])
    assert gpu.iterations == cpu.iterations == 588
    assert gpu.learning_rate == cpu.learning_rate
    gpu.learning_rate = cpu.learning_rate = 0.25
    cpu.apply([np.ones(3, np.float32)])
    gpu.apply([xp.ones(3, np.float32)])
    np.testing.assert_array_equal(on_gpu[0].get(), on_cpu[0])


def test_loss_is_scaled_on_the_device(xp):
    w = xp.ones(3, np.float32)
    optimizer = ravine.LossScaleOptimizer(ravine.SGD(0.1), 8.0, 1)
    assert optimizer.scale_loss(2.0) == 16.0
    optimizer.build([w])
    optimizer.apply([xp.ones(3, np.float32)])
    waits = _core.cuda_counts()["synchronizations"]
    scaled = optimizer.scale_loss(xp.ones((), np.float32))
    assert _core.cuda_counts()["synchronizations"] == waits
    assert float(scaled.get()) == 16.0


def test_captured_step_is_left_out_where_gradients_are_not_finite(xp):
    on_cpu = [np.ones(5, np.float32)]
    on_gpu = [xp.asarray(on_cpu[0])]
    gradient = xp.ones(5, np.float32)
    cpu = ravine.LossScaleOptimizer(ravine.Nadam(0.1, gradient_accumulation_steps=2), 4.0, 2)
    gpu = ravine.LossScaleOptimizer(ravine.Nadam(0.1, gradient_accumulation_steps=2), 4.0, 2)
    cpu.build(on_cpu)
    gpu.build(on_gpu)
    stream = xp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        gpu.apply([gradient])
        graph = stream.end_capture()
        for value in (1.0, np.inf, 2.0, 3.0, np.nan, 4.0, 5.0):
            gradient[...] = np.float32(value)
            graph.launch()
            cpu.apply([np.full(5, value, np.float32)])
        assert_same(gpu, cpu, on_gpu, on_cpu)
