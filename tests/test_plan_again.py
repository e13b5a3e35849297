"""Gradients that lie like those of the last step: not asked again, and never mistaken."""

import numpy as np
import pytest
from checks import Pair, assert_same, each_dtype, each_rule, ignores_missing, normal, raises

import ravine

SHAPES = [(4, 6), (), (0, 3), (2100,)]


@each_rule
@each_dtype
def test_steps_with_the_same_arrays_equal_reference(rule, dtype):
    random = np.random.default_rng(1)
    pair = Pair(rule, [normal(random, shape, dtype) for shape in SHAPES], global_clipnorm=1.0)
    grads = [normal(random, shape, dtype) for shape in SHAPES]
    for _ in range(4):
        for g in grads:
            g[...] = normal(random, g.shape, dtype)
        pair.run([grads])


@each_rule
@each_dtype
def test_steps_with_arrays_elsewhere_equal_reference(rule, dtype):
    random = np.random.default_rng(1)
    pair = Pair(rule, [normal(random, shape, dtype) for shape in SHAPES], global_clipnorm=1.0)
    for step in range(6):
        grads = [normal(random, shape, dtype) for shape in SHAPES]
        if 2 <= step < 4:
            grads = [np.stack([g, g], -1)[..., 0] for g in grads]
        pair.run([grads])


def stepped(w, g, **options):
    optimizer = ravine.SGD(0.5, **options)
    optimizer.build([w])
    optimizer.apply([g])
    optimizer.apply([g])
    return optimizer


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_strides_changed_in_place_are_seen():
    w, g = np.zeros((3, 3)), np.arange(9.0).reshape(3, 3)
    optimizer = stepped(w, g)
    w[...] = 0
    g.strides = g.strides[::-1]
    optimizer.apply([g])
    np.testing.assert_array_equal(w, -0.5 * np.arange(9.0).reshape(3, 3).T)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_shape_and_type_changed_in_place_are_refused():
    w, g = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    optimizer = stepped(w, g)
    before = w.copy()
    g.shape = (3, 2)
    with raises(
        ValueError,
        "Gradient 0 has shape (3, 2), variable 0 ('variable_0') has shape (2, 3). Pass the "
        "gradients in the order of the variables.",
    ):
        optimizer.apply([g])
    g.shape = (2, 3)
    g.dtype = np.int32
    with raises(
        TypeError,
        "Gradient 0 ('variable_0') must have dtype float32, float64, float16 or bfloat16, in "
        "native byte order. Received: int32.",
    ):
        optimizer.apply([g])
    assert_same(w, before)
    g.dtype = np.float32
    optimizer.apply([g])
    assert_same(w, before - np.float32(0.5))


def test_gradient_that_was_resized_is_refused():
    w, g = np.ones(100), np.ones(100)
    optimizer = stepped(w, g)
    g.resize(50, refcheck=False)
    with raises(
        ValueError,
        "Gradient 0 has shape (50,), variable 0 ('variable_0') has shape (100,). Pass the "
        "gradients in the order of the variables.",
    ):
        optimizer.apply([g])


def test_masked_array_at_the_same_place_is_refused():
    w, g = np.ones(4), np.ones(4)
    optimizer = stepped(w, g)
    with raises(
        TypeError,
        "Gradient 0 ('variable_0') must not be masked. Pass its data, or the filled array.",
    ):
        optimizer.apply([np.ma.masked_array(g, copy=False)])


def test_another_array_at_the_same_place_serves():
    w, g = np.zeros(4), np.ones(4)
    optimizer = stepped(w, g)
    optimizer.apply([g[...]])
    optimizer.apply((g.view(),))
    assert w.tolist() == [-2.0] * 4


def test_gradient_that_moved_onto_what_is_written_is_refused():
    memory = np.zeros(8)
    w = memory[2:6]
    optimizer = stepped(w, np.ones(4))
    for first in (0, 2, 4):
        with raises(
            ValueError,
            "Gradient 0 ('variable_0') shares memory with variable 0 ('variable_0'), which the "
            "step writes. Pass a copy.",
        ):
            optimizer.apply([memory[first : first + 4]])
        assert memory.tolist() == [0, 0] + [w[0]] * 4 + [0, 0]
        optimizer.apply([np.ones(4)])
    assert w.tolist() == [-2.5] * 4


def test_gradient_that_moved_to_an_odd_address_serves():
    w, memory = np.zeros(4), np.zeros(41, np.uint8)
    optimizer = stepped(w, np.ones(4))
    odd = memory[1:33].view(np.float64)
    odd[...] = 2.0
    optimizer.apply([odd])
    optimizer.apply([np.ones(4)])
    assert w.tolist() == [-2.5] * 4


@ignores_missing
def test_gradients_may_be_missing_and_come_back():
    random = np.random.default_rng(2)
    pair = Pair("rmsprop", [np.ones(5), np.ones(7)], gradient_accumulation_steps=3)
    one, other = normal(random, 5, np.float64), normal(random, 7, np.float64)
    pair.run([[one, other]] * 2 + [[one, None]] + [[None, other]] * 2 + [[one, other]] * 4)


def test_averages_between_steps_change_nothing():
    w, g = np.ones(4), np.ones(4)
    optimizer = stepped(w, g, use_ema=True)
    optimizer.finalize_variable_values()
    before = w.copy()
    optimizer.apply([g])
    assert_same(w, before - 0.5)


def test_read_only_variable_is_found_with_the_same_gradients():
    w, g = np.ones(4), np.ones(4)
    optimizer = stepped(w, g)
    w.flags.writeable = False
    with raises(
        ValueError,
        "Variable 0 ('variable_0') was resized or made read-only after build(). Make a new "
        "optimizer.",
    ):
        optimizer.apply([g])


def test_gradients_of_a_failed_step_are_asked_again():
    w, g = np.zeros(4), np.ones(4)
    optimizer = stepped(w, g)
    with raises(ValueError, "No gradient was given for any variable."):
        optimizer.apply([None])
    optimizer.apply([g])
    assert w.tolist() == [-1.5] * 4
