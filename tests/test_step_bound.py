"""The step that `apply` leaves to the plan, lock and all: when it does, and as what."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from threading import Event

import numpy as np
import pytest
from checks import assert_same, each_dtype, each_rule, ignores_missing, make, normal, raises
from own_rules import OwnSGD

import ravine
from ravine import _core

REFUSED = (
    "A step cannot be made inside averaged_weights(), where the variables hold their averages. Do "
    "it after the block."
)
SHORT, LONG = [(4, 6), (), (0, 3)], [(4, 6), (5000,)]  # 4,096 elements are short


def asked(optimizer, grads):
    """Make a step; return the methods of the plan that have made it."""
    steps, plan = [], type(optimizer._plan)

    def telling(name):
        method = getattr(plan, name)

        def called(*arguments):
            result = method(*arguments)
            if result is not False:
                steps.append(name)
            return result

        return called

    with pytest.MonkeyPatch.context() as patch:
        for name in ("step_bound", "step"):
            patch.setattr(plan, name, telling(name))
        optimizer.apply(grads)
    return steps


def built(optimizer, *arrays):
    optimizer.build(list(arrays) or [np.ones(3)])
    return optimizer


@each_rule
@each_dtype
@pytest.mark.parametrize("shapes", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 1.0, "use_ema": True}], ids=str)
def test_has_the_bits_of_a_general_step(rule, dtype, shapes, options):
    random = np.random.default_rng(1)
    w = [normal(random, shape, dtype) for shape in shapes]
    bound, general = [[array.copy() for array in w] for _ in range(2)]
    one, other = built(make(rule, **options), *bound), built(make(rule, **options), *general)
    moved = [normal(random, shape, dtype) for shape in shapes]
    for step in range(6):
        if step % 2:
            moved = [normal(random, shape, dtype) for shape in shapes]
        one.apply(moved)
        other.apply(tuple(moved))
    for mine, of_general in zip(
        [*bound, *one.variables], [*general, *other.variables], strict=False
    ):
        assert_same(mine, of_general)


def test_is_made_where_nothing_else_is_to_be_found_out():
    optimizer = built(ravine.Adam(0.1, use_ema=True, weight_decay=0.1))
    assert asked(optimizer, [np.ones(3)]) == ["step_bound"]
    optimizer.learning_rate = 0.2
    assert asked(optimizer, [np.ones(3)]) == ["step_bound"]


def test_is_made_after_a_copy_and_after_loading():
    optimizer = built(ravine.Adam(0.1))
    copy = deepcopy(optimizer)
    copy.load_state_dict(optimizer.state_dict())
    w = copy._variables.bound[0]
    assert asked(copy, [np.ones(3)]) == ["step_bound"]
    assert (w < 1).all()
    assert copy.iterations == 1
    assert optimizer.iterations == 0


@pytest.mark.parametrize(
    ("optimizer", "grads"),
    {
        "tuple": (ravine.SGD(0.1), (np.ones(3),)),
        "dict": (ravine.SGD(0.1), {"variable_0": np.ones(3)}),
        "schedule": (ravine.SGD(ravine.schedules.ExponentialDecay(0.1, 1, 0.5)), [np.ones(3)]),
        "function": (ravine.SGD(lambda: 0.1), [np.ones(3)]),
        "function_of_rule": (ravine.Adam(0.1, beta_1=lambda: 0.5), [np.ones(3)]),
    }.values(),
    ids=["tuple", "dict", "schedule", "function", "function_of_rule"],
)
def test_is_not_made_where_something_is(optimizer, grads):
    w = {"variable_0": np.ones(3)} if isinstance(grads, dict) else [np.ones(3)]
    optimizer.build(w)
    assert asked(optimizer, grads) == ["step"]


def test_is_not_made_with_a_loss_scale():
    inner = built(ravine.SGD(0.1))
    ravine.LossScaleOptimizer(inner, initial_scale=2.0)
    assert asked(inner, [np.ones(3)]) == ["step"]


def test_is_not_made_with_a_rule_in_python():
    optimizer = built(OwnSGD(0.1))
    assert asked(optimizer, [np.ones(3)]) == ["step"]
    assert optimizer.iterations == 1


def test_is_refused_while_averages_are_shown():
    w = np.ones(3)
    optimizer = built(ravine.SGD(0.1, use_ema=True), w)
    optimizer.apply([np.ones(3)])
    with optimizer.averaged_weights():
        before = w.copy()
        with raises(ValueError, REFUSED):
            optimizer.apply([np.ones(3)])
        np.testing.assert_array_equal(w, before)
    assert asked(optimizer, [np.ones(3)]) == ["step_bound"]


def test_is_refused_if_averages_are_shown_before_it_is_built():
    optimizer = ravine.SGD(0.1, use_ema=True)
    with optimizer.averaged_weights():
        built(optimizer)
        with raises(ValueError, REFUSED):
            optimizer.apply([np.ones(3)])
    assert asked(optimizer, [np.ones(3)]) == ["step_bound"]


def test_waits_for_the_lock_and_sees_what_was_done_under_it():
    optimizer = built(ravine.SGD(0.1, use_ema=True))
    optimizer.apply([np.ones(3)])
    begins = Event()

    def step():
        begins.set()
        optimizer.apply([np.ones(3)])

    with ThreadPoolExecutor(1) as pool:
        with optimizer._lock:
            stepped = pool.submit(step)
            begins.wait()
            assert not stepped.done()
            block = optimizer.averaged_weights()
            block.__enter__()
        with raises(ValueError, REFUSED):
            stepped.result()
    block.__exit__(None, None, None)
    assert optimizer.iterations == 1


@pytest.mark.parametrize(
    "grads",
    [[np.ones(4)], [None], [np.ones(3, int)], [np.ones(3)] * 2, [object()]],
    ids=["shape", "missing", "type", "number", "no_array"],
)
def test_lets_go_of_the_lock_after_an_error(grads):
    optimizer = built(ravine.SGD(0.1))
    for _ in range(2):
        with pytest.raises((TypeError, ValueError)) as error:
            optimizer.apply(grads)
        with pytest.raises(error.type) as general:
            optimizer.apply(tuple(grads))
        assert str(error.value) == str(general.value)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(optimizer.apply, [np.ones(3)]).result(timeout=20)


@ignores_missing
def test_passes_missing_gradients():
    w = [np.ones(3), np.ones(2)]
    optimizer = built(ravine.SGD(0.5), *w)
    optimizer.apply([None, np.ones(2)])
    assert (w[0] == 1).all()
    assert (w[1] == 0.5).all()


def test_warns_of_missing_gradients():
    w = [np.ones(3), np.ones(2)]
    optimizer = built(ravine.SGD(0.5), *w)
    with pytest.warns(UserWarning, match="[Gg]radient"):
        optimizer.apply([None, np.ones(2)])
    assert optimizer.iterations == 1


def test_plan_without_a_bound_step_makes_none():
    w = np.ones(3)
    plan = _core.Plan(["w"], [w], [[np.zeros(3)]], None, None)
    assert plan.step_bound([np.ones(3)], 0.1, None) is False
    assert (w == 1).all()


@pytest.mark.parametrize("arguments", [(), ([],), ([], 0.1), ([], "0.1", None), ([], 0.1, None, 1)])
def test_wrong_arguments_are_refused(arguments):
    plan = _core.Plan(["w"], [np.ones(3)], [[np.zeros(3)]], None, None)
    with pytest.raises(TypeError):
        plan.step_bound(*arguments)
    with pytest.raises(TypeError):
        _core.Plan.step_bound(3, [], 0.1, None)
