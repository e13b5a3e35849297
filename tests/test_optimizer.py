"""What all optimizers share: building, stepping, the rate and decay."""

import warnings

import numpy as np
import pytest
from checks import (
    Pair,
    assert_same,
    each_rule,
    normal,
    snapshot,
)

import ravine


def three():
    return [np.ones(2, np.float32), np.ones((2, 2)), np.ones(())]


def ones_like(variables, value=1.0):
    return [np.full(v.shape, float(value)) for v in variables]


# --- build


@pytest.mark.parametrize("kind", [list, tuple, lambda v: dict(zip("abc", v, strict=True))])
def test_build_takes_lists_tuples_and_dicts(kind):
    variables = three()
    optimizer = ravine.SGD(0.5)
    assert not optimizer.built
    optimizer.build(kind(variables))
    assert optimizer.built
    optimizer.apply(kind(ones_like(variables)))
    assert [np.unique(v).tolist() for v in variables] == [[0.5]] * 3


def test_build_again_for_the_same_variables_changes_nothing():
    variables = three()
    optimizer = ravine.Nadam(0.1)
    optimizer.build(variables)
    optimizer.apply(ones_like(variables))
    before = snapshot(optimizer, *variables)
    state = optimizer.variables
    optimizer.build(tuple(variables))
    optimizer.build([v[...] for v in variables])  # other objects, the same memory
    assert snapshot(optimizer, *variables) == before
    assert all(a is b for a, b in zip(state[2:-1], optimizer.variables[2:-1], strict=True))


def test_build_keeps_its_own_list():
    variables = three()
    given = list(variables)
    optimizer = ravine.SGD(0.5)
    optimizer.build(given)
    given.clear()
    optimizer.apply(ones_like(variables))
    assert variables[0].tolist() == [0.5, 0.5]


def test_apply_builds_on_first_use():
    variables = dict(zip("abc", three(), strict=True))
    optimizer = ravine.SGD(0.5, momentum=0.5)
    optimizer.apply({k: np.ones(v.shape) for k, v in variables.items()}, variables)
    assert optimizer.built
    assert [*optimizer.state_dict()][3:] == ["momentum/a", "momentum/b", "momentum/c"]


def test_variables_is_a_new_list_of_the_arrays_that_steps_update():
    w = np.ones(3)
    optimizer = ravine.SGD(1.0, momentum=0.5)
    optimizer.build([w])
    optimizer.variables.clear()
    (slot,) = optimizer.variables[2:]
    optimizer.apply([np.ones(3)])
    assert slot.tolist() == [-1] * 3
    assert slot is optimizer.variables[2]


@pytest.mark.parametrize("arguments", [{}, {"use_ema": True}])
def test_variables_begin_with_iteration_rate_averages_accumulators(arguments):
    variables = [np.ones(2, np.float32), np.ones((2, 2))]
    optimizer = ravine.SGD(0.5, momentum=0.5, gradient_accumulation_steps=2, **arguments)
    optimizer.build(variables)
    for value in (1, 2, 3):
        optimizer.apply(ones_like(variables, value))
    state = optimizer.state_dict()
    kinds = [*(["average"] if arguments else []), "gradient_accumulator", "momentum"]
    keys = [f"{kind}/variable_{i}" for kind in kinds for i in range(2)]
    assert len({float(state[key].flat[0]) for key in keys}) == len(kinds)
    assert optimizer.variables[0] == 3
    assert optimizer.variables[1] == 0.5
    for array, key in zip(optimizer.variables[2:], keys, strict=True):
        assert_same(array, state[key], key)


# --- apply


def test_apply_of_nothing_does_nothing():
    variables = three()
    optimizer = ravine.Nadam()
    for nothing in ([], (), {}):
        optimizer.apply(nothing)
    assert not optimizer.built
    optimizer.build(dict(zip("abc", variables, strict=True)))
    before = snapshot(optimizer, *variables)
    for nothing in ([], (), {}):
        assert optimizer.apply(nothing) is None
        for some in (variables, [], {"a": variables[0]}):
            assert optimizer.apply(nothing, some) is None
    assert snapshot(optimizer, *variables) == before


def test_apply_gradients_takes_pairs_and_counts_calls():
    a, b = np.ones(2), np.ones(3)
    optimizer = ravine.SGD(1.0, gradient_accumulation_steps=2)
    assert optimizer.apply_gradients([(np.ones(2), a), (np.ones(3), b)]) == 1
    assert optimizer.apply_gradients(zip([np.ones(3), np.ones(2)], [b, a], strict=True)) == 2
    assert optimizer.iterations == 1
    assert a.tolist() == [0, 0]
    assert b.tolist() == [0, 0, 0]


def test_missing_gradients_are_warned_of_once():
    variables = {"kernel": np.ones(2), "bias": np.ones(2), "scale": np.ones(2)}
    optimizer = ravine.SGD(1.0)
    optimizer.build(variables)
    message = (
        r"^Some variables have no gradient and are not updated: \['bias', 'scale'\]. "
        r"This is said once.$"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        optimizer.apply({"kernel": np.ones(2), "bias": None, "scale": None})
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.apply({"kernel": None, "bias": np.ones(2), "scale": None})
    assert optimizer.iterations == 2
    with pytest.warns(UserWarning, match="no gradient"):
        ravine.SGD(1.0).apply([None, np.ones(2)], [np.ones(2), np.ones(2)])


def test_scale_loss_multiplies_by_the_factor():
    assert ravine.SGD(loss_scale_factor=8.0).scale_loss(2.5) == 20
    assert ravine.SGD().scale_loss(2.5) == 2.5
    array = np.ones(2)
    assert ravine.SGD().scale_loss(array) is array


def test_minimize_steps_and_returns_the_loss():
    w = np.array([3.0])
    optimizer = ravine.SGD(0.5)
    assert optimizer.minimize(lambda: (float(w[0]) ** 2, [2 * w]), [w]) == 9
    assert w.tolist() == [0]
    variables = {"w": w}

    def value_and_grad(given):
        assert given is variables
        return "loss", {"w": np.array([4.0])}

    other = ravine.SGD(0.5)
    assert other.minimize(variables=variables, value_and_grad=value_and_grad) == "loss"
    assert w.tolist() == [-2]


# --- attributes set after build


@each_rule
def test_numbers_may_change_between_steps(rule):
    random = np.random.default_rng(33)
    pair = Pair(rule, [normal(random, 9, np.float32)], use_ema=True)
    for name, value in [
        ("weight_decay", 0.25),
        ("clipnorm", 0.5),
        ("clipnorm", None),
        ("global_clipnorm", 0.25),
        ("global_clipnorm", None),
        ("clipvalue", 0.125),
        ("loss_scale_factor", 4.0),
        ("ema_momentum", 0.5),
        ("ema_overwrite_frequency", 2),
        *([("rho", 0.5)] if "rmsprop" in rule else []),
        *([("epsilon", 0.5)] if "sgd" not in rule else []),
        *([("momentum", 0.5)] if "momentum" in rule else []),
        *([("beta_1", 0.5), ("beta_2", 0.25)] if "nadam" in rule else []),
    ]:
        setattr(pair.product, name, value)
        setattr(pair.reference, name, value)
        assert getattr(pair.product, name) == value
        pair.run([[normal(random, 9, np.float32)] for _ in range(2)])


def test_nesterov_may_be_set_after_build():
    pair = Pair("sgd_momentum", [np.ones(3)])
    pair.run([[np.ones(3)]])
    pair.product.nesterov = pair.reference.nesterov = True
    pair.run([[np.ones(3)] for _ in range(2)])


def test_averaging_may_be_switched_off_and_on_after_build():
    w = np.zeros(1)
    optimizer = ravine.SGD(1.0, use_ema=True, ema_momentum=0.5)
    optimizer.build([w])
    optimizer.apply([np.ones(1)])
    optimizer.use_ema = False
    optimizer.apply([np.ones(1)])
    optimizer.use_ema = True
    optimizer.apply([np.ones(1)])
    assert optimizer.variables[2].tolist() == [0.5 * -1 + 0.5 * -3]


# --- Classes of one's own


def test_subclass_is_the_same_optimizer():
    class Mine(ravine.Nadam):
        pass

    class Fixed(ravine.Nadam):
        def __init__(self, **options):
            super().__init__(0.1, beta_1=lambda: 0.5, **options)

    random = np.random.default_rng(34)
    start, g = normal(random, 9, np.float32), normal(random, 9, np.float32)
    results = []
    for optimizer in (ravine.Nadam(0.1, beta_1=0.5), Mine(0.1, beta_1=lambda: 0.5), Fixed()):
        w = start.copy()
        optimizer.apply([g], [w])
        results.append(w)
        optimizer.beta_1 = 0.5
        assert optimizer.get_config() == ravine.Nadam(0.1, beta_1=0.5).get_config()
    for w in results[1:]:
        assert_same(w, results[0])
