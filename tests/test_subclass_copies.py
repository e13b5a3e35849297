"""Optimizers with a rule in Python: copied, pickled, saved; what `build` has set in a copy."""

import copy
import pickle

import numpy as np
import pytest
from checks import assert_same, config_and, ignores_missing, normal, snapshot
from own_rules import OwnSGD
from state_checks import plain_and_everything

import ravine

SHAPES = {"a/kernel": (3, 4), "b": (), "c": (70,)}


class Counted(OwnSGD):
    """Has variables of its own that are no slots."""

    def build(self, variables):
        super().build(variables)
        self.count = self.add_variable((), "zeros", "int64", name="count")
        self.total = self.add_variable((2,), "ones", name="total")

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate)
        self.assign_add(self.count, 1)
        self.assign_add(self.total, 0.5)


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


def through_file(ending):
    def way(pair, path):
        weights, optimizer = pair
        optimizer.save(path / f"last{ending}")
        other = copy.deepcopy(weights)
        resumed = type(optimizer).from_config(optimizer.get_config())
        resumed.build(other)
        for w in other.values():
            w[...] = 0
        resumed.load(path / f"last{ending}")
        return other, resumed

    return way


def through_list(pair, path):
    weights, optimizer = pair
    other = copy.deepcopy(weights)
    resumed = type(optimizer).from_config(optimizer.get_config())
    resumed.build(other)
    resumed.set_weights(optimizer.get_weights())
    return other, resumed


def moved(pair, path):
    weights, optimizer = pair
    alone, other = pickled(optimizer), copy.deepcopy(weights)
    alone.build(other)
    return other, alone


WAYS = {
    "pickle": lambda pair, path: pickled(pair),
    "deepcopy": lambda pair, path: copy.deepcopy(pair),
    "npz": through_file(".npz"),
    "safetensors": through_file(".safetensors"),
    "list": through_list,
    "moved": moved,
}


def steps(count):
    random = np.random.default_rng(160)
    return [{n: normal(random, s, np.float32) for n, s in SHAPES.items()} for _ in range(count)]


@ignores_missing
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("stop", [0, 2, 4])
@plain_and_everything
def test_everything_is_kept(options, stop, way, tmp_path):
    random = np.random.default_rng(161)
    weights = {name: normal(random, shape, np.float32) for name, shape in SHAPES.items()}
    optimizer = Counted(0.1, momentum=0.9, **options)
    optimizer.build(weights)
    for grads in steps(stop):
        optimizer.apply(grads)
    before = config_and(optimizer, *weights.values())
    other, resumed = way((weights, optimizer), tmp_path)
    assert config_and(resumed, *other.values()) == before
    for grads in steps(7)[stop:]:
        resumed.apply(grads)
    assert config_and(optimizer, *weights.values()) == before
    for grads in steps(7)[stop:]:
        optimizer.apply(grads)
    assert snapshot(resumed) == snapshot(optimizer)
    assert resumed.count is resumed._state.added["count"]
    for name, w in weights.items():
        assert_same(other[name], w, name)


def test_stateless_apply_and_a_loss_scale():
    weights = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}
    optimizer = ravine.LossScaleOptimizer(Counted(0.1, momentum=0.9), 64.0, 2)
    optimizer.build(weights)
    new, state = dict(weights), optimizer.variables
    before = snapshot(optimizer)
    for grads in steps(4):
        new, state = optimizer.stateless_apply(state, grads, new)
    assert snapshot(optimizer) == before
    for grads in steps(4):
        optimizer.apply(grads)
    for name, w in weights.items():
        assert_same(new[name], w, name)
    for actual, expected in zip(state, optimizer.variables, strict=True):
        assert_same(actual, expected)
    again = pickled(optimizer)
    assert snapshot(again) == snapshot(optimizer)


def test_move_that_fails_leaves_the_copy():
    weights = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}
    optimizer = Counted(0.1, momentum=0.9)
    optimizer.build(weights)
    alone = copy.deepcopy(optimizer)
    before, count = snapshot(alone), alone.count
    with pytest.raises(ValueError, match="must have shape"):
        alone.build({**weights, "c": np.ones(71, np.float32)})
    assert snapshot(alone) == before
    assert alone.count is count
    alone.apply(steps(1)[0])


# --- Attributes


class Filling(ravine.Optimizer):
    """Fills in `build` what `__init__` has made, and sets more."""

    def __init__(self, learning_rate=0.5, **options):
        super().__init__(learning_rate, **options)
        self.slots, self.by_place, self.factor = [], {}, 1.0
        self.fails = False

    def build(self, variables):
        super().build(variables)
        for place, variable in enumerate(variables):
            self.slots.append(self.add_variable_from_reference(variable, "sum"))
            self.by_place[place] = self.slots[-1]
        if not hasattr(self, "places"):
            self.places = len(self.slots)
        if self.fails:
            raise RuntimeError("not now")

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        self.assign_add(self.by_place[index], gradient)
        self.assign_sub(variable, self.slots[index] * (self.factor * learning_rate))


def assert_is_filled(optimizer):
    added = [*optimizer._state.added.values()]
    assert [*map(id, optimizer.slots)] == [*map(id, added)]
    assert [*map(id, optimizer.by_place.values())] == [*map(id, added)]
    assert optimizer.places == len(added)


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickled,
    "copy_of_a_copy": lambda optimizer: copy.copy(pickled(optimizer)),
}


@pytest.mark.parametrize("way", COPIES.values(), ids=COPIES)
def test_build_of_a_copy_finds_the_attributes_of_before(way):
    w = {"a": np.ones(3), "b": np.ones(())}
    optimizer = Filling()
    optimizer.build(w)
    optimizer.factor = 0.5
    optimizer.apply({"a": np.ones(3), "b": np.ones(())})
    new = way(optimizer)
    assert_is_filled(new)
    assert_is_filled(optimizer)
    assert new.factor == 0.5
    assert snapshot(new) == snapshot(optimizer)
    assert not any(map(np.shares_memory, new.slots, optimizer.slots))
    new.build({"a": np.ones(3), "b": np.ones(())})
    assert_is_filled(new)
    optimizer.stateless_apply(optimizer.variables, {"a": np.ones(3), "b": np.ones(())}, w)
    assert_is_filled(optimizer)


def test_build_after_one_that_failed_finds_the_attributes_of_before():
    w = np.ones(3)
    optimizer = Filling()
    optimizer.fails = True
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not now"):
            optimizer.build([w])
    assert not copy.copy(optimizer).slots
    optimizer.fails = False
    with pytest.raises(ValueError, match="has shape"):
        optimizer.apply([np.ones(2)], [w])
    assert not optimizer.built
    optimizer.apply([np.ones(3)], [w])
    assert_is_filled(optimizer)
    assert w.tolist() == [0.5] * 3
