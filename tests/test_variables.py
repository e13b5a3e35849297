"""Variables and which of them decay: any order, by memory, by key, by name."""

import numpy as np
from checks import Pair, each_rule, ignores_missing, normal

import ravine


def three():
    return [np.ones(2, np.float32), np.ones((2, 2)), np.ones(())]


@ignores_missing
@each_rule
def test_apply_takes_any_subset_in_any_order(rule):
    random = np.random.default_rng(30)
    pair = Pair(rule, [normal(random, n, np.float32) for n in (3, 4, 5, 6)], global_clipnorm=1.0)
    for order in ([3, 2, 1, 0], [2], [0, 3], [1, 0, 2], [3, 1], [0, 1, 2, 3]):
        full = [None] * 4
        for i in order:
            full[i] = normal(random, pair.variables[i].shape, np.float32)
        pair.product.apply([full[i] for i in order], [pair.variables[i] for i in order])
        pair.reference.apply(full)
        pair.assert_equal()


def test_apply_knows_a_variable_by_its_memory():
    store = np.ones(10)
    optimizer = ravine.SGD(1.0)
    optimizer.build([store[:4], store[4:]])
    optimizer.apply([np.ones(6), np.zeros(4)], [store[4:], store[:4]])
    assert store.tolist() == [1] * 4 + [0] * 6


def test_apply_takes_dicts_by_key():
    variables = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = ravine.SGD(1.0)
    optimizer.build(variables)
    optimizer.apply({"b": np.full(2, 3.0), "a": np.full(2, 2.0)})
    assert [v.tolist() for v in variables.values()] == [[-1, -1], [-2, -2]]
    reordered = {"b": variables["b"], "a": variables["a"]}
    optimizer.apply({"a": np.zeros(2), "b": np.ones(2)}, reordered)
    assert [v.tolist() for v in variables.values()] == [[-1, -1], [-3, -3]]


def test_keys_need_not_be_strings():
    variables = {1: np.ones(2), ("b", 2): np.ones(2)}
    optimizer = ravine.SGD(1.0)
    optimizer.build(variables)
    optimizer.apply({1: np.ones(2), ("b", 2): np.full(2, 2.0)})
    assert [v.tolist() for v in variables.values()] == [[0, 0], [-1, -1]]


# --- weight decay


def decayed(optimizer, variables):
    """Return which variables, all ones, a step without gradient to speak of makes smaller."""
    for v in variables:
        v[...] = 1
    optimizer.apply([np.zeros(v.shape) for v in variables])
    return [i for i, v in enumerate(variables) if (v != 1).all()]


def test_exclude_by_identity():
    variables = three()
    optimizer = ravine.SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([variables[1]])
    optimizer.build(variables)
    assert decayed(optimizer, variables) == [0, 2]


def test_exclude_by_another_view_of_the_same_memory():
    variables = three()
    optimizer = ravine.SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([variables[1][...], variables[2].view()])
    optimizer.build(variables)
    assert decayed(optimizer, variables) == [0]


def test_exclude_by_regular_expressions_of_names():
    variables = dict(zip(["dense/kernel", "dense/bias", "norm/scale"], three(), strict=True))
    optimizer = ravine.SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias$", "^norm"])
    optimizer.build(variables)
    grads = {name: np.zeros(v.shape) for name, v in variables.items()}
    optimizer.apply(grads)
    assert [float(v.flat[0]) for v in variables.values()] == [0.5, 1, 1]


def test_exclude_after_build_replaces_what_was_excluded_before():
    variables = three()
    optimizer = ravine.SGD(1.0, weight_decay=0.5)
    optimizer.build(variables)
    assert decayed(optimizer, variables) == [0, 1, 2]
    optimizer.exclude_from_weight_decay([variables[0]])
    assert decayed(optimizer, variables) == [1, 2]
    optimizer.exclude_from_weight_decay(var_names=["_2"])
    assert decayed(optimizer, variables) == [0, 1]
    optimizer.exclude_from_weight_decay([variables[1]], ["_2"])
    assert decayed(optimizer, variables) == [0]
    optimizer.exclude_from_weight_decay()
    assert decayed(optimizer, variables) == [0, 1, 2]
