"""The averages in place of the variables: for good, and inside a ``with`` block."""

import threading

import numpy as np
import pytest
from checks import assert_same, each_dtype, normal, raises, snapshot

import ravine

SHOWN = (
    "{} inside averaged_weights(), where the variables hold their averages. Do it after the block."
)


def ones_like(variables, value=1.0):
    return [np.full(v.shape, float(value)) for v in variables]


def averaged(steps=3, **options):
    w = [np.zeros(2), np.zeros((2, 2), np.float16)]
    optimizer = ravine.SGD(1.0, use_ema=True, ema_momentum=0.5, **options)
    optimizer.build(w)
    for _ in range(steps):
        optimizer.apply(ones_like(w))
    return optimizer, w


def test_finalize_copies_all_averages():
    optimizer, w = averaged()
    assert [v.flat[0] for v in w] == [-3, -3]
    optimizer.finalize_variable_values()
    # -1, then half of -1 and -2, then half of that and -3
    assert [np.unique(v).tolist() for v in w] == [[-2.25]] * 2


def test_finalize_of_some_variables_is_by_identity():
    optimizer, w = averaged()
    optimizer.finalize_variable_values([w[1]])
    assert [v.flat[0] for v in w] == [-3, -2.25]
    optimizer.finalize_variable_values(w[::-1])
    assert [v.flat[0] for v in w] == [-2.25, -2.25]
    optimizer, w = averaged()
    optimizer.finalize_variable_values({"x": w[0]})
    assert [v.flat[0] for v in w] == [-2.25, -3]


def test_finalize_before_the_first_update_changes_nothing():
    for steps, options in [(0, {}), (2, {"gradient_accumulation_steps": 3})]:
        optimizer, w = averaged(steps, **options)
        w[0][...] = 7
        optimizer.finalize_variable_values()
        optimizer.finalize_variable_values(w)
        assert w[0].tolist() == [7, 7]
    ravine.SGD().finalize_variable_values()
    ravine.SGD(use_ema=True).finalize_variable_values()


def test_finalize_without_averages_changes_nothing():
    w = np.zeros(2)
    optimizer = ravine.SGD(1.0)
    optimizer.apply([np.ones(2)], [w])
    optimizer.finalize_variable_values()
    optimizer.finalize_variable_values([w])
    assert w.tolist() == [-1, -1]


# --- Inside a block


def test_variables_that_are_frozen_inside_come_back():
    optimizer, w = averaged()
    before = snapshot(optimizer, *w)
    with optimizer.averaged_weights():
        w[0].flags.writeable = False
    assert snapshot(optimizer, *w) == before
    assert not w[0].flags.writeable


def test_block_is_refused_where_a_variable_cannot_be_written():
    optimizer, w = averaged()
    w[1].flags.writeable = False
    before = snapshot(optimizer, *w)
    message = "Variable 1 ('variable_1') was made read-only after build(). Make it writable."
    with raises(ValueError, message), optimizer.averaged_weights():
        raise AssertionError
    assert snapshot(optimizer, *w) == before


@each_dtype
@pytest.mark.parametrize("leave", ["end", "raise"])
def test_variables_come_back_to_the_last_bit(dtype, leave):
    random = np.random.default_rng(50)
    w = {
        "strided": normal(random, (4, 6), dtype)[::2, ::-3],
        "scalar": normal(random, (), dtype),
        "fortran": np.asfortranarray(normal(random, (3, 2), dtype)),
        "empty": np.zeros((0, 2), dtype),
    }
    w["strided"][0] = [np.nan, -0.0]
    optimizer = ravine.Nadam(0.1, use_ema=True, ema_momentum=0.5)
    for _ in range(2):
        optimizer.apply({name: np.ones(v.shape, dtype) for name, v in w.items()}, w)
    before = {name: v.tobytes() for name, v in w.items()}
    state = snapshot(optimizer)
    try:
        with optimizer.averaged_weights():
            for name, v in w.items():
                average = optimizer.state_dict()[f"average/{name}"].astype(dtype)
                assert_same(v, average, name)
            if leave == "raise":
                raise KeyError
    except KeyError:
        pass
    assert {name: v.tobytes() for name, v in w.items()} == before
    assert snapshot(optimizer) == state


def test_what_the_block_writes_into_the_variables_is_undone():
    optimizer, w = averaged()
    with optimizer.averaged_weights():
        w[0][...] = 5
    assert w[0].tolist() == [-3, -3]


def test_blocks_may_be_nested():
    optimizer, w = averaged()
    with optimizer.averaged_weights():
        with optimizer.averaged_weights():
            assert w[0].tolist() == [-2.25, -2.25]
        assert w[0].tolist() == [-2.25, -2.25]
        with raises(ValueError, SHOWN.format("A step cannot be made")):
            optimizer.apply(ones_like(w))
    assert w[0].tolist() == [-3, -3]
    optimizer.apply(ones_like(w))
    assert w[0].tolist() == [-4, -4]


def test_last_of_several_threads_brings_the_variables_back():
    optimizer, w = averaged()
    entered, leave = threading.Event(), threading.Event()

    def evaluate():
        with optimizer.averaged_weights():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=evaluate)
    with optimizer.averaged_weights():
        thread.start()
        assert entered.wait(10)
    assert w[0].tolist() == [-2.25, -2.25]
    leave.set()
    thread.join()
    assert w[0].tolist() == [-3, -3]


INSIDE = {
    "step": (lambda o, w, path: o.apply(ones_like(w)), "A step cannot be made"),
    "pairs": (
        lambda o, w, path: o.apply_gradients(zip(ones_like(w), w, strict=True)),
        "A step cannot be made",
    ),
    "minimize": (
        lambda o, w, path: o.minimize(lambda: (1.0, ones_like(w)), w),
        "A step cannot be made",
    ),
    "finalize": (
        lambda o, w, path: o.finalize_variable_values(),
        "Variables cannot be overwritten by their averages",
    ),
}


@pytest.mark.parametrize(("call", "what"), INSIDE.values(), ids=INSIDE)
@pytest.mark.parametrize("wrap", [False, True])
def test_refused_inside_the_block(call, what, wrap, tmp_path):
    optimizer, w = averaged()
    before = snapshot(optimizer, *w)
    outer = ravine.LossScaleOptimizer(optimizer, 1.0) if wrap else optimizer
    with outer.averaged_weights(), raises(ValueError, SHOWN.format(what)):
        call(outer, w, tmp_path / "checkpoint.npz")
    if not wrap:
        assert snapshot(optimizer, *w) == before
    assert [v.flat[0] for v in w] == [-3, -3]
    assert list(tmp_path.iterdir()) == []


def test_settings_and_state_may_be_touched_inside_the_block():
    optimizer, w = averaged()
    state = optimizer.state_dict()
    with optimizer.averaged_weights():
        optimizer.learning_rate = 0.5
        optimizer.load_state_dict(state)
        assert w[0].tolist() == [-2.25, -2.25]
    assert w[0].tolist() == [-3, -3]


def test_block_needs_averages():
    message = (
        "averaged_weights() needs averages, and this optimizer keeps none. Make it with "
        "use_ema=True."
    )
    w = np.ones(2)
    built = ravine.SGD(1.0)
    built.apply([np.ones(2)], [w])
    for optimizer in (ravine.SGD(), built, ravine.LossScaleOptimizer(ravine.SGD())):
        with raises(ValueError, message), optimizer.averaged_weights():
            pass
    built.apply([np.ones(2)])
    assert w.tolist() == [-1, -1]


def test_block_before_the_first_update_leaves_the_variables():
    for steps, options in [(0, {}), (2, {"gradient_accumulation_steps": 3})]:
        optimizer, w = averaged(steps, **options)
        w[0][...] = 7
        with optimizer.averaged_weights():
            assert w[0].tolist() == [7, 7]
        assert w[0].tolist() == [7, 7]
    with ravine.SGD(use_ema=True).averaged_weights():
        pass


def test_block_that_cannot_begin_leaves_everything(monkeypatch):
    optimizer, w = averaged()

    def fail(self, variables=None):
        w[0][...] = 9
        raise RuntimeError("no device")

    with monkeypatch.context() as patch:
        patch.setattr(ravine.SGD, "finalize_variable_values", fail)
        with pytest.raises(RuntimeError, match="no device"), optimizer.averaged_weights():
            pass
    assert w[0].tolist() == [-3, -3]
    optimizer.apply(ones_like(w))
