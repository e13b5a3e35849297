"""What a step asks of CUDA: few launches, however many arrays; no memory, and no waiting."""

import numpy as np
import pytest
from checks import each_rule, normal
from gpu_checks import difference, gradients, on_gpu, twins

import ravine
from ravine import _core

NOTHING = {"launches": 0, "synchronizations": 0, "allocations": 0}
# As many 8-byte words as one launch can carry to the device.
WORDS = 4000


def counted(call):
    before = _core.cuda_counts()
    call()
    return difference(before)


def launches(count):
    return {**NOTHING, "launches": count}


def built(xp, count, **options):
    """Return an optimizer of small variables that made one step, these, two lists of gradients."""
    variables = [xp.zeros(3, np.float32) for _ in range(count)]
    grads = [[xp.ones(3, np.float32) for _ in range(count)] for _ in range(2)]
    optimizer = ravine.Nadam(0.1, **options)
    optimizer.build(variables)
    optimizer.apply(grads[0])
    return optimizer, variables, *grads


OPTIONS = {
    "plain": ({}, 1),
    "everything_but_norms": (
        {
            "clipvalue": 1.0,
            "weight_decay": 0.1,
            "use_ema": True,
            "ema_overwrite_frequency": 2,
            "loss_scale_factor": 2.0,
        },
        1,
    ),
    "clipnorm": ({"clipnorm": 1.0}, 2),
    "global_clipnorm": ({"global_clipnorm": 1.0, "use_ema": True}, 2),
}


@pytest.mark.parametrize(("options", "expected"), OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("count", [1, 7, 1000])
def test_launches_of_a_step(xp, count, options, expected):
    optimizer, _, same, moved = built(xp, count, **options)
    for _ in range(2):
        assert counted(lambda: optimizer.apply(same)) == launches(expected)
    assert counted(lambda: optimizer.apply(moved)) == launches(expected + 1)
    assert counted(lambda: optimizer.apply(moved)) == launches(expected)


@each_rule
def test_each_rule_is_one_launch(xp, rule):
    pair = twins(xp, rule, [np.ones(9000), np.ones(3, np.float16), np.ones(0, np.float32)])
    grads = pair.put([np.ones(9000, np.float32), np.ones(3), np.ones(0)])
    pair.gpu.apply(grads)
    assert counted(lambda: pair.gpu.apply(grads)) == launches(1)


@pytest.mark.parametrize(
    ("count", "norm"),
    [(WORDS, {}), (WORDS + 1, {}), (WORDS + 1, {"global_clipnorm": 1.0}), (8500, {})],
)
def test_launches_of_very_many_arrays(xp, count, norm):
    optimizer, variables, same, moved = built(xp, count, **norm)
    step = 2 if norm else 1
    assert counted(lambda: optimizer.apply(same)) == launches(step)
    parts = -(-count // WORDS)
    assert counted(lambda: optimizer.apply(moved)) == launches(step + parts)
    assert counted(lambda: optimizer.apply(moved)) == launches(step)
    # One moved gradient is enough: they are sent together.
    one = [*moved[:-1], same[-1]]
    assert counted(lambda: optimizer.apply(one)) == launches(step + parts)
    twin = ravine.Nadam(0.1, **norm)
    arrays = [np.zeros(3, np.float32) for _ in range(count)]
    twin.build(arrays)
    for _ in range(5):
        twin.apply([np.ones(3, np.float32)] * count)
    for actual, expected in zip(variables[::500], arrays[::500], strict=True):
        assert actual.get().tobytes() == expected.tobytes()
    assert variables[-1].get().tobytes() == arrays[-1].tobytes()


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize(
    ("count", "norm"), [(1000, {"global_clipnorm": 1.0}), (WORDS + 1, {}), (8500, {})]
)
def test_many_arrays_get_the_same_bits(xp, count, norm, moves):
    random = np.random.default_rng(80)
    variables = [normal(random, 1 + i % 5, np.float32) for i in range(count)]
    pair = twins(xp, "rmsprop_momentum", variables, **norm)
    steps = [gradients(random, variables) for _ in range(3)]
    fixed = pair.put(steps[0])
    for grads in steps:
        there = pair.put(grads) if moves else fixed
        for array, g in zip(there, grads, strict=True):
            array.set(g)
        pair.cpu.apply(grads)
        pair.gpu.apply(there)
    pair.assert_equal()


@pytest.mark.filterwarnings("ignore:Some variables have no gradient")
def test_pattern_of_missing_gradients_is_sent_when_it_changes(xp):
    optimizer, _, same, _ = built(xp, 100)
    some = [*same[:50], *[None] * 50]
    optimizer.apply(some)
    assert counted(lambda: optimizer.apply(some)) == launches(1)
    assert counted(lambda: optimizer.apply(same)) == launches(2)
    assert counted(lambda: optimizer.apply(same)) == launches(1)


def test_exclusion_is_sent_with_the_next_step(xp):
    optimizer, variables, same, _ = built(xp, 3, weight_decay=0.1)
    assert counted(lambda: optimizer.exclude_from_weight_decay([variables[1]])) == NOTHING
    assert counted(lambda: optimizer.apply(same)) == launches(2)
    assert counted(lambda: optimizer.apply(same)) == launches(1)


def test_settings_cost_nothing(xp):
    optimizer, _, same, _ = built(xp, 3)

    def change():
        optimizer.beta_1, optimizer.weight_decay, optimizer.clipvalue = 0.5, 0.1, 1.0
        assert optimizer.iterations == 1
        assert optimizer.learning_rate == 0.1

    assert counted(change) == NOTHING
    assert counted(lambda: optimizer.apply(same)) == launches(1)


def test_accumulation_and_its_end_are_one_launch_each(xp):
    optimizer, _, same, moved = built(xp, 5, gradient_accumulation_steps=3)
    assert counted(lambda: optimizer.apply(same)) == launches(1)
    assert counted(lambda: optimizer.apply(same)) == launches(1)
    assert counted(lambda: optimizer.apply(moved)) == launches(2)


def test_interface_and_stream_cost_no_waiting(xp):
    optimizer, _, same, _ = built(xp, 3)
    other = xp.cuda.Stream(non_blocking=True)
    assert counted(lambda: optimizer.apply(same, stream=other)) == launches(1)
    assert counted(lambda: optimizer.apply(same, stream=other.ptr)) == launches(1)
    assert counted(lambda: optimizer.apply(same)) == launches(1)


def test_building_waits_but_no_step_does(xp):
    w, g = on_gpu(xp, np.ones(5000, np.float32)), xp.ones(5000, np.float32)
    optimizer = ravine.RMSprop(0.1, centered=True)
    optimizer.build([w])
    first = counted(lambda: optimizer.apply([g]))
    assert (first["synchronizations"], first["allocations"]) == (0, 0)
