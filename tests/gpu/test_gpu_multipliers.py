"""Multipliers of single variables on a GPU: the CPU's bits, a launch for each distinct pair."""

import numpy as np
import pytest
from checks import DTYPES, each_rule, ignores_missing, normal, raises
from gpu_checks import Twins, captured, difference, gradients, twins

import ravine
from ravine import _core

pytestmark = ignores_missing

SIZES = [3, 4099, 0, 70, 2050, 33]
SEVERAL = {1: (0.1, 1), 3: (1, 3), 4: (0.1, 1), 5: (-2, 0)}
OPTIONS = {
    "plain": {},
    "decay": {"weight_decay": 0.1, "loss_scale_factor": 3.0},
    "norm": {"global_clipnorm": 1.0, "weight_decay": 0.1},
    "average": {"clipvalue": 0.5, "use_ema": True, "ema_overwrite_frequency": 2},
    "accumulation": {"gradient_accumulation_steps": 2, "clipnorm": 1.0, "weight_decay": 0.1},
}


def variables(random, dtypes):
    return [normal(random, n, dtypes[i % len(dtypes)]) for i, n in enumerate(SIZES)]


def set_both(pair, multipliers):
    for optimizer, arrays in ((pair.cpu, pair.on_cpu), (pair.gpu, pair.on_gpu)):
        for i, (rate, decay) in multipliers.items():
            optimizer.set_multipliers([arrays[i]], learning_rate=rate, weight_decay=decay)


@each_rule
@pytest.mark.parametrize("dtypes", [DTYPES, [np.float32]], ids=["mixed", "float32"])
@pytest.mark.parametrize("option", OPTIONS)
def test_equal_cpu(xp, rule, option, dtypes):
    random = np.random.default_rng(7)
    pair = twins(xp, rule, variables(random, dtypes), excluded=[0], **OPTIONS[option])
    set_both(pair, SEVERAL)
    pair.run_at_once(gradients(random, pair.on_cpu, dtypes) for _ in range(5))


@pytest.mark.parametrize("option", OPTIONS)
def test_may_change_between_steps(xp, option):
    random = np.random.default_rng(8)
    pair = twins(xp, "nadam", variables(random, DTYPES), **OPTIONS[option])
    for multipliers in ({}, SEVERAL, {0: (3, 3), 5: (1, 1)}, dict.fromkeys(range(6), (1, 1))):
        set_both(pair, multipliers)
        pair.run([gradients(random, pair.on_cpu, DTYPES) for _ in range(2)])


@pytest.mark.parametrize("option", OPTIONS)
def test_replays_have_them(xp, option):
    random = np.random.default_rng(9)
    pair = twins(xp, "rmsprop_momentum", variables(random, DTYPES), **OPTIONS[option])
    set_both(pair, SEVERAL)
    stream = xp.cuda.Stream(non_blocking=True)
    with stream:
        there = pair.put(gradients(random, pair.on_cpu, DTYPES))
    graph = captured(stream, lambda: pair.gpu.apply(there))
    for rate in (0.1, 0.1, 0.3, 0.3):
        grads = gradients(random, pair.on_cpu, DTYPES)
        with stream:
            pair.set("learning_rate", rate)
            for array, g in zip(there, grads, strict=True):
                array.set(g)
            graph.launch()
        pair.cpu.apply(grads)
    pair.assert_equal()
    before = pair.gpu.multipliers
    with raises(
        ValueError,
        "The multipliers of variables cannot be changed once a step was captured in a CUDA graph: "
        "replays would take one variable for another. Set them before the capture.",
    ):
        pair.gpu.set_multipliers(learning_rate=2)
    assert pair.gpu.multipliers == before
    pair.assert_equal()


def test_loss_scale_and_schedule(xp):
    random = np.random.default_rng(10)

    def make():
        schedule = ravine.schedules.ExponentialDecay(0.1, 2, 0.5)
        return ravine.LossScaleOptimizer(ravine.Nadam(schedule, weight_decay=0.1), 4.0, 3)

    pair = Twins(xp, make, variables(random, DTYPES))
    set_both(pair, SEVERAL)
    for step in range(5):
        grads = gradients(random, pair.on_cpu, DTYPES)
        if step == 2:
            grads[1][7] = np.nan
        pair.run([grads])


def test_update_step_in_python_gets_the_product(xp):
    class Own(ravine.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            rates.append(learning_rate)
            self.assign_sub(variable, gradient * ravine.ops.cast(learning_rate, variable.dtype))

    rates = []
    w = [xp.ones(2, np.float32), xp.ones(2, np.float32)]
    optimizer = Own(0.5, weight_decay=0.25)
    optimizer.build(w)
    optimizer.set_multipliers([w[1]], learning_rate=0.5, weight_decay=3)
    optimizer.apply([xp.ones(2, np.float32), xp.ones(2, np.float32)])
    assert rates == [0.5, 0.25]
    assert [each.get().tolist() for each in w] == [[0.375] * 2, [0.5625] * 2]


def test_a_launch_for_each_pair(xp):
    w = [xp.ones(n, np.float32) for n in SIZES]
    grads = [xp.ones(n, np.float32) for n in SIZES]
    optimizer = ravine.SGD(0.1)
    optimizer.build(w)

    def launches():
        optimizer.apply(grads)  # sends what has changed
        before = _core.cuda_counts()
        optimizer.apply(grads)
        spent = difference(before)
        assert (spent["synchronizations"], spent["allocations"]) == (0, 0)
        return spent["launches"]

    assert launches() == 1
    for i, (rate, decay) in SEVERAL.items():
        optimizer.set_multipliers([w[i]], learning_rate=rate, weight_decay=decay)
    assert launches() == 4
    optimizer.set_multipliers(learning_rate=0.5, weight_decay=1)
    assert launches() == 1


def test_refused_in_a_capture(xp):
    w, g = [xp.ones(3, np.float32)], [xp.ones(3, np.float32)]
    optimizer = ravine.SGD(0.1)
    optimizer.build(w)
    stream = xp.cuda.Stream(non_blocking=True)

    def call():
        with raises(
            ValueError,
            "Multipliers cannot be set while a CUDA graph is captured. Do it before the capture.",
        ):
            optimizer.set_multipliers(learning_rate=2)
        optimizer.apply(g)

    captured(stream, call).launch()
    stream.synchronize()
    assert optimizer.iterations == 1
