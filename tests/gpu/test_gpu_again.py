"""Gradients that are the very objects of the last step: asked nothing again, and none missed."""

import numpy as np
import pytest
from gpu_checks import difference, twins

import ravine
from ravine import _core

SIZES = (5, 4100, 0)


def pair(xp, rule="nadam", **options):
    """Return twins, and gradients for both sides, which stay."""
    made = twins(
        xp, rule, [np.linspace(-1, 1, size, dtype=np.float32) for size in SIZES], **options
    )
    on_cpu = [np.linspace(1, 2, size, dtype=np.float32) for size in SIZES]
    return made, on_cpu, made.put(on_cpu)


def step(made, on_cpu, there, **arguments):
    made.cpu.apply(on_cpu)
    made.gpu.apply(there, **arguments)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"global_clipnorm": 0.5, "use_ema": True},
        {"gradient_accumulation_steps": 3},
        {"ema_overwrite_frequency": 2, "use_ema": True, "weight_decay": 0.1},
    ],
)
def test_same_list_equals_cpu(xp, options):
    made, on_cpu, there = pair(xp, **options)
    for _ in range(7):
        step(made, on_cpu, there)
    made.assert_equal()


def test_contents_are_read_anew(xp):
    made, on_cpu, there = pair(xp)
    for i in range(4):
        for a, b in zip(on_cpu, there, strict=True):
            a += i
            b.set(a)
        step(made, on_cpu, there)
    made.assert_equal()


def test_list_with_another_array_in_it(xp):
    made, on_cpu, there = pair(xp)
    step(made, on_cpu, there)
    on_cpu[1] = on_cpu[1] * 3
    there[1] = made.put(on_cpu)[1]
    step(made, on_cpu, there)
    made.assert_equal()


@pytest.mark.filterwarnings("ignore:Some variables have no gradient")
def test_missing_gradient_that_comes_back(xp):
    made, on_cpu, there = pair(xp)
    for missing in (None, 0, None, 1, 1, None):
        some = [[None if i == missing else g for i, g in enumerate(gs)] for gs in (on_cpu, there)]
        step(made, *some)
    made.assert_equal()


@pytest.mark.filterwarnings("ignore:Some variables have no gradient")
def test_window_that_ends_without_a_gradient(xp):
    made, on_cpu, there = pair(xp, gradient_accumulation_steps=2)
    for missing in (None, 1, None, None, 0, None):
        some = [[None if i == missing else g for i, g in enumerate(gs)] for gs in (on_cpu, there)]
        step(made, *some)
    made.assert_equal()


def test_refused_step_between(xp):
    made, on_cpu, there = pair(xp)
    step(made, on_cpu, there)
    wrong = [*there[:2], xp.ones(7, np.float32)]
    for _ in range(2):
        with pytest.raises(ValueError, match="Gradient 2 has shape"):
            made.gpu.apply(wrong)
    step(made, on_cpu, there)
    made.assert_equal()


def test_new_list_refused_before_it_is_bound(xp):
    made, on_cpu, there = pair(xp)
    step(made, on_cpu, there)
    others = [g * 2 for g in on_cpu]
    moved = made.put(others)
    made.gpu.learning_rate = lambda: float("nan")
    with pytest.raises(ValueError, match="finite"):
        made.gpu.apply(moved)
    made.gpu.learning_rate = made.cpu.learning_rate
    step(made, others, moved)
    made.assert_equal()


def test_exclusions_set_between(xp):
    made, on_cpu, there = pair(xp, weight_decay=0.5)
    step(made, on_cpu, there)
    for optimizer in (made.cpu, made.gpu):
        optimizer.exclude_from_weight_decay(var_names=["1"])
    step(made, on_cpu, there)
    made.assert_equal()


def test_averages_written_between(xp):
    made, on_cpu, there = pair(xp, use_ema=True)
    for _ in range(3):
        step(made, on_cpu, there)
        for optimizer in (made.cpu, made.gpu):
            optimizer.finalize_variable_values()
    made.assert_equal()


def test_other_types_of_sequences(xp):
    made, on_cpu, there = pair(xp)
    for kind in (list, tuple, list):
        step(made, kind(on_cpu), kind(there))
    made.assert_equal()


def test_asks_nothing_of_the_arrays(xp):
    _, _, there = pair(xp)
    optimizer = ravine.SGD(0.1)
    optimizer.build([xp.ones(size, np.float32) for size in SIZES])
    optimizer.apply(there)
    before = _core.cuda_counts()
    optimizer.apply(there)
    assert difference(before) == {"launches": 1, "synchronizations": 0, "allocations": 0}


def test_gradients_that_died_are_not_taken_for_new_ones(xp):
    made, on_cpu, _ = pair(xp)
    for i in range(5):  # objects whose addresses are likely to be used again
        step(made, [g * (i + 1) for g in on_cpu], made.put([g * (i + 1) for g in on_cpu]))
    made.assert_equal()
