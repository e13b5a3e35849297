"""Multipliers of learning rate and weight decay: choosing variables, what follows, what is kept.

That a step with them equals the reference, for every rule and with every option, is seen in
`test_passes`.
"""

import copy
import json
import pickle

import numpy as np
import pytest
from checks import (
    OPTIMIZERS,
    Pair,
    assert_same,
    cases,
    config_and,
    each_dtype,
    each_rule,
    make,
    normal,
    raises,
)

import ravine

NEITHER = "set_multipliers() needs learning_rate, weight_decay or both."


def variables():
    return {"backbone/kernel": np.ones(3), "backbone/bias": np.ones(2), "head": np.ones(4)}


def built(cls=ravine.SGD, w=None, **options):
    optimizer = cls(0.5, **options)
    optimizer.build(variables() if w is None else w)
    return optimizer


def of(optimizer):
    return [tuple(each) for each in optimizer.multipliers.values()]


def test_all_are_1_at_first():
    assert built().multipliers == dict.fromkeys(variables(), (1.0, 1.0))


def test_choose_by_pattern_identity_or_neither():
    w = variables()
    optimizer = built(w=w)
    optimizer.set_multipliers(var_names=["^backbone/", "nothing"], learning_rate=0.5)
    assert of(optimizer) == [(0.5, 1), (0.5, 1), (1, 1)]
    optimizer.set_multipliers([w["head"][...]], learning_rate=3, weight_decay=np.float32(0.25))
    assert of(optimizer) == [(0.5, 1), (0.5, 1), (3, 0.25)]
    optimizer.set_multipliers([w["head"]], ["bias"], weight_decay=np.array(2))
    assert of(optimizer) == [(0.5, 1), (0.5, 2), (3, 2)]
    optimizer.set_multipliers([], learning_rate=7)
    assert of(optimizer) == [(0.5, 1), (0.5, 2), (3, 2)]
    optimizer.set_multipliers(weight_decay=0)
    assert of(optimizer) == [(0.5, 0), (0.5, 0), (3, 0)]
    optimizer.set_multipliers(learning_rate=1, weight_decay=1)
    assert of(optimizer) == [(1, 1)] * 3
    assert "multipliers" not in optimizer.get_config()


def test_choose_before_build():
    w = variables()
    optimizer = ravine.SGD(0.5)
    optimizer.set_multipliers(var_names=["bias"], learning_rate=2)
    optimizer.set_multipliers([w["head"]], weight_decay=3)
    optimizer.build(w)
    assert of(optimizer) == [(1, 1), (2, 1), (1, 3)]


@each_rule
@each_dtype
def test_step_is_that_of_optimizers_with_the_products(rule, dtype):
    random = np.random.default_rng(1)
    together = [normal(random, shape, dtype) for shape in ((40,), (3, 5), (2100,))]
    alone = [w.copy() for w in together]
    options = {"weight_decay": 0.3, "clipnorm": 1.0, "use_ema": True}
    optimizer = make(rule, **{**options, "learning_rate": 0.1})
    optimizer.build(together)
    optimizer.set_multipliers([together[1]], learning_rate=0.7, weight_decay=0.9)
    optimizer.set_multipliers([together[2]], learning_rate=-2)
    singles = [
        make(rule, **{**options, "learning_rate": 0.1 * rate, "weight_decay": 0.3 * decay})
        for rate, decay in optimizer.multipliers.values()
    ]
    for _ in range(4):
        grads = [normal(random, w.shape, dtype) for w in together]
        optimizer.apply(grads)
        for single, g, w in zip(singles, grads, alone, strict=True):
            single.apply([g], [w])
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other)


def test_change_counts_from_the_next_step_on():
    random = np.random.default_rng(2)
    pair = Pair("nadam", [normal(random, 50, np.float32) for _ in range(3)], weight_decay=0.1)
    for multipliers in ({}, {0: (0.5, 1)}, {0: (2, 2), 2: (0, 0)}, {0: (1, 1), 2: (1, 1)}):
        pair.set_multipliers(multipliers)
        pair.reference.multipliers = {**pair.reference.multipliers, **multipliers}
        pair.run([[normal(random, 50, np.float32) for _ in range(3)]])


def test_rate_of_0_leaves_a_variable_and_moves_its_state():
    w = [np.ones(3), np.ones(3)]
    optimizer = ravine.SGD(0.5, momentum=0.9, weight_decay=0.1)
    optimizer.build(w)
    optimizer.set_multipliers([w[0]], learning_rate=0)
    optimizer.apply([np.ones(3), np.ones(3)])
    assert w[0].tolist() == [1, 1, 1]
    assert w[1].tolist() != [1, 1, 1]


def test_exclusion_counts_before_a_multiplier():
    w = [np.ones(2), np.ones(2)]
    optimizer = ravine.SGD(0.5, weight_decay=0.5)
    optimizer.build(w)
    optimizer.exclude_from_weight_decay([w[0]])
    optimizer.set_multipliers(weight_decay=2)
    optimizer.apply([np.zeros(2), np.zeros(2)])
    assert [each.tolist() for each in w] == [[1, 1], [0.5, 0.5]]


def test_schedule_and_callable_are_multiplied():
    for rate in (lambda: 0.5, ravine.schedules.ExponentialDecay(0.5, 1, 0.5)):
        w = [np.ones(1), np.ones(1)]
        optimizer = ravine.SGD(rate)
        optimizer.build(w)
        optimizer.set_multipliers([w[1]], learning_rate=0.5)
        optimizer.apply([np.ones(1), np.ones(1)])
        assert [float(each[0]) for each in w] == [0.5, 0.75]
        assert optimizer.learning_rate in (0.5, 0.25)


def test_update_step_in_python_gets_the_product():
    class Own(ravine.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            rates.append(learning_rate)
            self.assign_sub(variable, gradient * learning_rate)

    rates = []
    w, native = [np.ones(2), np.ones(2)], [np.ones(2), np.ones(2)]
    for optimizer, arrays in ((Own(0.5), w), (ravine.SGD(0.5), native)):
        optimizer.weight_decay = 0.25
        optimizer.build(arrays)
        optimizer.set_multipliers([arrays[1]], learning_rate=0.5, weight_decay=3)
        optimizer.apply([np.ones(2), np.ones(2)])
    assert rates == [0.5, 0.25]
    for one, other in zip(w, native, strict=True):
        assert_same(one, other)


def test_update_step_of_a_native_class_multiplies_once():
    class Own(ravine.Nadam):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, learning_rate)

    results = []
    for cls in (Own, ravine.Nadam):
        w = [np.ones(2), np.ones(2)]
        optimizer = built(cls, w)
        optimizer.set_multipliers([w[1]], learning_rate=0.1)
        for _ in range(3):
            optimizer.apply([np.full(2, 3.0), np.full(2, 3.0)])
        results.append(w)
    assert_same(results[0][0], results[1][0])
    assert_same(results[0][1], results[1][1])


def test_loss_scale_optimizer_hands_them_on():
    optimizer = ravine.LossScaleOptimizer(ravine.SGD(0.5), initial_scale=2.0)
    w = variables()
    optimizer.set_multipliers(var_names=["head"], learning_rate=0.5)
    optimizer.build(w)
    assert optimizer.multipliers == optimizer.inner_optimizer.multipliers
    assert optimizer.multipliers["head"] == (0.5, 1)
    optimizer.apply({name: np.full_like(array, 2) for name, array in w.items()})
    assert w["head"].tolist() == [0.75] * 4
    assert w["backbone/bias"].tolist() == [0.5] * 2
    again = ravine.LossScaleOptimizer.from_config(json.loads(json.dumps(optimizer.get_config())))
    again.build(variables())
    assert again.multipliers == optimizer.multipliers


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_config_keeps_them(name):
    if name == "LossScaleOptimizer":
        return
    w = variables()
    optimizer = getattr(ravine, name)()
    optimizer.build(w)
    optimizer.set_multipliers([w["head"]], ["^back"], learning_rate=0.5)
    optimizer.set_multipliers(weight_decay=2.0)
    config = optimizer.get_config()
    assert config["multipliers"] == [
        {"var_names": ["^back"], "names": ["head"], "learning_rate": 0.5, "weight_decay": None},
        {"learning_rate": None, "weight_decay": 2.0},
    ]
    again = ravine.deserialize(json.loads(json.dumps(ravine.serialize(optimizer))))
    assert again.get_config() == config
    again.build(variables())
    assert again.multipliers == optimizer.multipliers


WAYS = {
    "pickle": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("way", WAYS)
def test_copy_keeps_them_and_shares_none(way):
    w = variables()
    optimizer = built(w=w)
    optimizer.set_multipliers([w["head"]], learning_rate=0.5, weight_decay=3)
    new = WAYS[way](optimizer)
    if way != "copy":
        new.build(variables())
    assert new.multipliers == optimizer.multipliers
    new.set_multipliers(learning_rate=9)
    assert of(optimizer) == [(1, 1), (1, 1), (0.5, 3)]


def test_stateless_apply_has_them():
    w = variables()
    optimizer = built(w=w)
    optimizer.set_multipliers([w["head"]], learning_rate=0.5)
    grads = {name: np.ones_like(array) for name, array in w.items()}
    new, _ = optimizer.stateless_apply(optimizer.variables, grads, w)
    optimizer.apply(grads)
    for name, array in w.items():
        assert_same(new[name], array)


def test_checkpoint_says_them(tmp_path):
    w = variables()
    optimizer = built(w=w)
    optimizer.set_multipliers([w["head"]], learning_rate=0.5)
    path = tmp_path / "last.npz"
    optimizer.save(path)
    with np.load(path) as file:
        (choice,) = json.loads(file["metadata.json"])["config"]["multipliers"]
    assert choice["names"] == ["head"]
    optimizer.load(path)
    assert optimizer.multipliers["head"] == (0.5, 1)


CASES = {
    "nothing": (lambda o, w: o.set_multipliers([w[0]]), ValueError, NEITHER),
    "infinite_rate": (
        lambda o, w: o.set_multipliers(learning_rate=float("inf")),
        ValueError,
        "The multiplier of learning_rate must be a finite number. Received: inf.",
    ),
    "nan_decay": (
        lambda o, w: o.set_multipliers(weight_decay=float("nan")),
        ValueError,
        "The multiplier of weight_decay must be a finite number. Received: nan.",
    ),
    "text": (
        lambda o, w: o.set_multipliers(learning_rate="half"),
        ValueError,
        "The multiplier of learning_rate must be a number. Received: 'half'.",
    ),
    "unknown": (
        lambda o, w: o.set_multipliers([np.ones(7)], learning_rate=2),
        ValueError,
        "Unknown variable: array of shape (7,) and dtype float64. This optimizer was built for "
        "['variable_0', 'variable_1']. Variables are updated in place and known by their memory: "
        "pass the arrays given to build(), or make a new optimizer.",
    ),
    "empty_pattern": (
        lambda o, w: o.set_multipliers(var_names=[""], learning_rate=2),
        ValueError,
        "var_names must be regular expressions that are not empty: an empty one would choose "
        "every variable. Received: ''.",
    ),
    "array": (
        lambda o, w: o.set_multipliers(w[0], learning_rate=2),
        ValueError,
        "Pass lists to set_multipliers(), also of one element.",
    ),
}


@cases(CASES)
def test_refused_and_nothing_changed(call, kind, message):
    w = [np.ones(5), np.ones(6)]
    optimizer = ravine.SGD(0.5)
    optimizer.build(w)
    optimizer.set_multipliers([w[1]], learning_rate=0.5)
    before = config_and(optimizer, *w), optimizer.multipliers
    with raises(kind, message):
        call(optimizer, w)
    assert (config_and(optimizer, *w), optimizer.multipliers) == before


def test_config_without_names_is_refused():
    optimizer = ravine.SGD()
    optimizer.set_multipliers([np.ones(2)], learning_rate=2)
    with raises(
        ValueError,
        "Variables given to set_multipliers() by identity have names only after build(). Call "
        "build() before get_config(), or choose them by name.",
    ):
        optimizer.get_config()


def test_names_of_a_configuration_must_be_there():
    config = built().get_config()
    config["multipliers"] = [{"names": ["tail"], "var_names": [], "learning_rate": 2}]
    optimizer = ravine.SGD.from_config(config)
    with raises(
        ValueError, "Names given to set_multipliers() are not among the variables: ['tail']."
    ):
        optimizer.build(variables())
    assert not optimizer.built


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"bias": 2.0}, "'multipliers' must be a list of dicts. Received: {'bias': 2.0}."),
        (
            [{"var_list": [], "learning_rate": 2}],
            "In a configuration, what set_multipliers() has chosen must be a dict with "
            "'var_names' and 'names', lists of strings. Received: {'var_list': []}.",
        ),
    ],
)
def test_configuration_must_have_the_form_of_our_own(config, message):
    with raises(ValueError, message):
        ravine.SGD.from_config({"multipliers": config})


def test_rate_must_be_finite_with_them():
    w = [np.ones(2), np.ones(2)]
    optimizer = ravine.SGD(1e10)
    optimizer.build(w)
    optimizer.set_multipliers([w[1]], learning_rate=1e300)
    before = config_and(optimizer, *w)
    with raises(
        ValueError, "learning_rate must be finite, also times the multiplier of each variable."
    ):
        optimizer.apply([np.ones(2), np.ones(2)])
    assert config_and(optimizer, *w) == before


def test_asked_for_after_build_only():
    with raises(ValueError, "The optimizer has no variables yet. Call build(variables) first."):
        ravine.SGD().multipliers  # noqa: B018
