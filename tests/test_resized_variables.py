"""Variables that others resize or reshape after `build`: what would mix them up says so."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from checks import raises
from own_rules import OwnSGD
from state_checks import each_ending, plain_and_scaled

import ravine


def with_other_type(w):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        w.dtype = np.int32


SPOILT = {
    "smaller": (lambda w: w.resize(2, refcheck=False), "(2,) and dtype float32"),
    "larger": (lambda w: w.resize((200, 30), refcheck=False), "(200, 30) and dtype float32"),
    "empty": (lambda w: w.resize(0, refcheck=False), "(0,) and dtype float32"),
    "shape": (lambda w: w.resize((3, 2), refcheck=False), "(3, 2) and dtype float32"),
    "type": (with_other_type, "(2, 3) and dtype int32"),
}
each_spoilt = pytest.mark.parametrize(("spoil", "now"), SPOILT.values(), ids=SPOILT)
MESSAGE = (
    "Variable 1 ('b') was resized, or given another shape or type, after build(): it is an array "
    "of shape {} now. Make a new optimizer."
)


def own(rule):
    return OwnSGD(0.1)


def stepped(optimizer):
    """Return variables, after a step by the optimizer."""
    w = {"a": np.ones(4), "b": np.ones((2, 3), np.float32)}
    optimizer.apply({"a": np.ones(4), "b": np.ones((2, 3))}, w)
    return w


def stateless(optimizer):
    values = {"a": np.ones(4), "b": np.ones((2, 3), np.float32)}
    optimizer.stateless_apply(optimizer.variables, values, values)


@each_spoilt
@pytest.mark.parametrize("call", [copy.copy, copy.deepcopy, pickle.dumps, stateless])
@plain_and_scaled
def test_copies_are_refused(make_one, call, spoil, now):
    optimizer = make_one("sgd_momentum")
    w = stepped(optimizer)
    spoil(w["b"])
    with raises(ValueError, MESSAGE.format(now)):
        call(optimizer)


@each_spoilt
@each_ending
@pytest.mark.parametrize("make_one", [*plain_and_scaled.args[1], own])
def test_checkpoints_are_refused(make_one, ending, spoil, now, tmp_path):
    path = tmp_path / f"last{ending}"
    optimizer = make_one("sgd_momentum")
    w = stepped(optimizer)
    optimizer.save(path)
    before, state = path.read_bytes(), optimizer.state_dict()
    spoil(w["b"])
    values = {name: array.copy() for name, array in w.items()}
    for call in (optimizer.save, optimizer.load):
        with raises(ValueError, MESSAGE.format(now)):
            call(path)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]
    for name, array in w.items():
        np.testing.assert_array_equal(array, values[name])
    for key, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, state[key], key)


def test_variables_that_were_made_read_only_are_saved(tmp_path):
    optimizer = ravine.SGD(0.5)
    w = stepped(optimizer)
    w["b"].setflags(write=False)
    optimizer.save(tmp_path / "last.npz")
    assert pickle.loads(pickle.dumps(optimizer)).iterations == 1
