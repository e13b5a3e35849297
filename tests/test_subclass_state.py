"""What subclasses build: variables of their own, their names, and their place in the state."""

import json

import numpy as np
import pytest
from checks import DTYPES, assert_same, bits, cases, each_dtype, raises
from own_rules import OwnSGD

import ravine

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")


class Empty(ravine.Optimizer):
    """Does nothing, and builds what it is told to."""

    def __init__(self, make=lambda optimizer, variables: None, **kwargs):
        super().__init__(**kwargs)
        self.make = make

    def build(self, variables):
        super().build(variables)
        self.made = self.make(self, variables)

    def update_step(self, gradient, variable, learning_rate):
        pass


def made(make, variables=None, **kwargs):
    optimizer = Empty(make, **kwargs)
    optimizer.build([np.ones((2, 3))] if variables is None else variables)
    return optimizer, optimizer.made


# --- Variables of its own


@each_dtype
def test_slot_has_the_shape_and_the_arithmetic_type_of_the_variable(dtype):
    w = np.ones((3, 4, 5), dtype).transpose(2, 0, 1)
    _, slot = made(lambda optimizer, v: optimizer.add_variable_from_reference(v[0], "m"), [w])
    assert_same(slot, np.zeros(w.shape, np.float64 if dtype is np.float64 else np.float32))
    # In the order in memory of the variable.
    assert np.argsort(slot.strides).tolist() == np.argsort(w.strides).tolist()


@pytest.mark.parametrize(
    ("initializer", "expected"),
    [
        ("zeros", [[0, 0, 0], [0, 0, 0]]),
        ("ones", [[1, 1, 1], [1, 1, 1]]),
        (0.5, [[0.5] * 3] * 2),
        (np.float16(2), [[2] * 3] * 2),
        (np.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        (np.arange(6.0).reshape(3, 2).T, [[0, 2, 4], [1, 3, 5]]),
        (np.ones((2, 3), ml_dtypes.bfloat16), [[1] * 3] * 2),
        ([[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6]]),
    ],
    ids=str,
)
def test_initializers(initializer, expected):
    def make(optimizer, variables):
        return (
            optimizer.add_variable_from_reference(variables[0], initializer=initializer),
            optimizer.add_variable((2, 3), initializer),
        )

    for array in made(make)[1]:
        assert_same(array, np.array(expected, np.float64))
        assert not np.shares_memory(array, initializer)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ([np.float32], np.float32),
        ([np.float16, ml_dtypes.bfloat16], np.float32),
        ([np.float32, np.float64], np.float64),
        ([], np.float32),
    ],
    ids=str,
)
def test_variable_is_float64_where_one_of_the_variables_is(dtypes, expected):
    def make(optimizer, _):
        return [
            optimizer.add_variable(()),
            optimizer.add_variable(3),
            optimizer.add_variable([2, 1], dtype="int64", initializer=7),
            optimizer.add_variable((), "ones", np.float16),
        ]

    _, arrays = made(make, [np.ones(2, dtype) for dtype in dtypes])
    assert_same(arrays[0], np.zeros((), expected))
    assert_same(arrays[1], np.zeros(3, expected))
    assert_same(arrays[2], np.full((2, 1), 7))
    assert_same(arrays[3], np.ones((), np.float16))


def test_lists_of_slots():
    def make(optimizer, variables):
        return (
            optimizer.add_optimizer_variables(variables, "a"),
            optimizer.add_optimizer_variables(variables, ["b", "c"], "ones"),
            optimizer.add_optimizer_variables(variables[1:], ("d",), (2.0,)),
        )

    optimizer, (first, both, single) = made(make, {"x": np.ones(1), "y": np.ones(2)})
    assert [each.tolist() for each in first] == [[0], [0, 0]]
    assert [[each.tolist() for each in slots] for slots in both] == [[[1], [1, 1]]] * 2
    assert [[each.tolist() for each in slots] for slots in single] == [[[2, 2]]]
    expected = ["a/x", "a/y", "b/x", "c/x", "b/y", "c/y", "d/y"]
    assert list(optimizer.state_dict())[3:] == expected


def test_names_that_are_taken_get_a_number():
    def make(optimizer, variables):
        for name in (None, None, "iteration", "dynamic_scale", "count", "count", "count"):
            optimizer.add_variable((), name=name)
        for name in (None, None, "average", "count"):
            optimizer.add_variable_from_reference(variables[0], name)

    optimizer, _ = made(make, {"w": np.ones(1)}, use_ema=True)
    assert list(optimizer.state_dict())[3:] == [
        *("average/w", "variable", "variable_1", "iteration_1", "dynamic_scale_1"),
        *("count", "count_1", "count_2", "var/w", "var_1/w", "average_1/w", "count/w"),
    ]


def test_variables_come_in_the_order_of_keras():
    def make(optimizer, variables):
        count = optimizer.add_variable((), 5, name="count")
        return count, optimizer.add_variable_from_reference(variables[0])

    optimizer, own = made(make, use_ema=True, gradient_accumulation_steps=2, learning_rate=0.25)
    iteration, rate, average, accumulator, *added = optimizer.variables
    assert (int(iteration), float(rate)) == (0, 0.25)
    assert average.shape == accumulator.shape == (2, 3)
    assert all(map(np.shares_memory, added, own))


REFUSED = {
    "initializer_name": (
        lambda o, v: o.add_variable((), "normal"),
        ValueError,
        'initializer must be "zeros", "ones", a number or an array. Received: \'normal\'.',
    ),
    "initializer_type": (
        lambda o, v: o.add_variable((), None),
        ValueError,
        'initializer must be "zeros", "ones", a number or an array. Received: None.',
    ),
    "initializer_shape": (
        lambda o, v: o.add_variable_from_reference(v[0], "m", np.ones(3)),
        ValueError,
        "initializer must be a number, or have the shape (2, 3) of what it initializes. Received: "
        "shape (3,).",
    ),
    "name_with_slash": (
        lambda o, v: o.add_variable((), name="a/b"),
        ValueError,
        "name must be a string without a slash. Received: 'a/b'.",
    ),
    "empty_name": (
        lambda o, v: o.add_variable_from_reference(v[0], ""),
        ValueError,
        "name must be a string without a slash. Received: ''.",
    ),
    "reference": (
        lambda o, v: o.add_variable_from_reference(np.ones(1)),
        ValueError,
        "Unknown variable: array of shape (1,) and dtype float64. This optimizer was built for "
        "['variable_0']. Variables are updated in place and known by their memory: pass the arrays "
        "given to build(), or make a new optimizer.",
    ),
    "dtype": (
        lambda o, v: o.add_variable((), dtype="complex64"),
        ValueError,
        "dtype must be one of booleans, integers or floats. Received: complex64.",
    ),
    "number_of_initializers": (
        lambda o, v: o.add_optimizer_variables(v, ["a", "b"], ["zeros"]),
        ValueError,
        "There must be one initializer, or one for each name. Received: 2 names, 1 initializers.",
    ),
}


@cases(REFUSED)
def test_what_cannot_be_made_is_refused_and_build_undone(call, kind, message):
    optimizer = Empty(call)
    with raises(kind, message):
        optimizer.build([np.ones((2, 3))])
    assert not optimizer.built
    optimizer.make = lambda *_: None
    optimizer.build([np.ones(1)])


def test_variables_are_made_in_build_only():
    optimizer, _ = made(lambda *_: None)
    message = (
        "add_variable() is for the build() of a subclass, after super().build(variables): the "
        "state is complete when that returns."
    )
    for each in (optimizer, ravine.SGD(), Empty()):
        with raises(ValueError, message):
            each.add_variable(())
    message = message.replace("add_variable", "add_variable_from_reference")
    with raises(ValueError, message):
        optimizer.add_variable_from_reference(np.ones(1))


# --- build


def test_building_twice_changes_nothing():
    w = [np.ones(2), np.ones(3)]
    optimizer = OwnSGD()
    optimizer.build(w)
    optimizer.apply([np.ones(2), np.ones(3)])
    before = [bits(array) for array in optimizer.variables]
    slots = list(optimizer.momentums)
    optimizer.build(tuple(w))
    assert [bits(array) for array in optimizer.variables] == before
    assert all(a is b for a, b in zip(slots, optimizer.momentums, strict=True))
    with pytest.raises(ValueError, match=r"^This optimizer was built for the variables"):
        optimizer.build(w[:1])
    assert [bits(array) for array in optimizer.variables] == before


def test_names_of_a_dict_reach_the_state():
    w = {"kernel": np.ones((2, 2)), "bias": np.ones(2)}
    optimizer = OwnSGD()
    optimizer.build(w)
    optimizer.apply({name: np.ones_like(each) for name, each in w.items()})
    assert list(optimizer.state_dict())[3:] == ["momentum/kernel", "momentum/bias"]
    optimizer.build(w)


def test_build_that_fails_leaves_the_optimizer_unbuilt():
    def make(optimizer, variables):
        optimizer.add_variable(())
        raise RuntimeError("in build")

    w = np.ones(2)
    optimizer = Empty(make)
    for call in (lambda: optimizer.build([w]), lambda: optimizer.apply([np.ones(2)], [w])):
        with pytest.raises(RuntimeError, match="in build"):
            call()
        assert not optimizer.built
        assert len(optimizer.variables) == 2


def test_build_must_call_that_of_the_base():
    class Own(ravine.Optimizer):
        def build(self, variables):
            pass

        def update_step(self, gradient, variable, learning_rate):
            pass

    with raises(ValueError, "build() of Own must call super().build(variables)."):
        Own().build([np.ones(1)])


def test_subclass_of_a_subclass_builds_both():
    class More(OwnSGD):
        def build(self, variables):
            super().build(variables)
            self.more = self.add_variable((), name="more")

    optimizer = More()
    optimizer.build({"w": np.ones(2)})
    assert list(optimizer.state_dict())[3:] == ["momentum/w", "more"]


def test_build_may_leave_variables_out():
    class Own(Empty):
        def build(self, variables):
            super().build(variables[1:])

    w = [np.ones(1), np.ones(2)]
    optimizer = Own()
    optimizer.build(w)
    assert optimizer._get_variable_index(w[1]) == 0


# --- Configuration and state


def test_default_rate_and_config():
    assert OwnSGD().learning_rate == Empty().learning_rate == 0.01
    config = json.loads(json.dumps(OwnSGD(0.5, nesterov=True, clipnorm=1.0).get_config()))
    assert (config["momentum"], config["nesterov"]) == (0.9, True)
    again = OwnSGD.from_config(config)
    assert again.get_config() == config
    assert again.nesterov


def test_state_moves_to_another_optimizer_and_to_the_native_one():
    random = np.random.default_rng(43)
    w = [random.standard_normal(3).astype(dtype) for dtype in DTYPES]
    grads = [random.standard_normal(3) for _ in DTYPES]
    optimizer = OwnSGD(0.1, use_ema=True)
    optimizer.build(w)
    for _ in range(3):
        optimizer.apply(grads)
    state = optimizer.state_dict()
    copies, others = [w.copy() for w in w], [w.copy() for w in w]
    again, native = OwnSGD(0.5, use_ema=True), ravine.SGD(0.5, momentum=0.9, use_ema=True)
    again.build(copies)
    native.build(others)
    again.load_state_dict(state)
    native.load_state_dict({**state, "class_name": "SGD"})
    for each in (optimizer, again, native):
        each.apply(grads)
    for own, same, other in zip(w, copies, others, strict=True):
        assert_same(same, own)
        assert_same(other, own)
    assert np.shares_memory(again.momentums[0], again.variables[-len(w)])


def test_setting_that_needs_other_state_is_refused():
    optimizer = OwnSGD()
    optimizer.build([np.ones(1)])
    optimizer.clipnorm = 1.0
    with pytest.raises(ValueError, match=r"^use_ema cannot be changed so after build"):
        optimizer.use_ema = True


def test_averages_can_be_shown():
    w = np.array([1.0])
    optimizer = OwnSGD(1.0, momentum=0.0, use_ema=True, ema_momentum=0.5)
    for _ in range(2):
        optimizer.apply([np.array([1.0])], [w] if not optimizer.built else None)
    with optimizer.averaged_weights():
        assert w.tolist() == [-0.5]
    assert w.tolist() == [-1.0]
