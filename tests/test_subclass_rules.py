"""Which rule a subclass has, and what it is written with: `assign` and its like."""

import numpy as np
from checks import assert_same, cases, each_dtype, raises

import ravine


def test_class_needs_a_rule():
    class NoRule(ravine.Optimizer):
        pass

    for cls in (ravine.Optimizer, NoRule):
        message = (
            f"{cls.__name__} has no rule: use SGD or another optimizer of ravine, or override "
            "update_step() in a subclass of Optimizer."
        )
        with raises(TypeError, message):
            cls(0.1)


def test_subclass_of_a_native_class_stays_native():
    class Mine(ravine.SGD):
        factor = 2

        def build(self, variables):
            super().build(variables)
            self.count = self.add_variable((), dtype=np.int64, name="count")

    w, same = np.ones(3, np.float16), np.ones(3, np.float16)
    mine, native = Mine(0.1, momentum=0.9), ravine.SGD(0.1, momentum=0.9)
    mine.apply([np.ones(3)], [w])
    native.apply([np.ones(3)], [same])
    assert_same(w, same)
    assert type(mine._plan) is type(native._plan)
    assert list(mine.state_dict())[3:] == ["momentum/variable_0", "count"]
    message = (
        "update_step() of {} cannot be called: only that of a native class can, by the one that "
        "overrides it in a subclass. Call apply()."
    )
    with raises(TypeError, message.format("Mine")):
        mine.update_step(np.ones(3), w, 0.1)


def test_update_step_goes_before_a_native_rule():
    class Mine(ravine.SGD):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, gradient * self.momentum)

    w = np.ones(2)
    optimizer = Mine(1.0, momentum=0.25)
    optimizer.apply([np.ones(2)], [w])
    assert w.tolist() == [0.75, 0.75]
    optimizer.momentum = 0.5
    optimizer.apply([np.ones(2)])
    assert w.tolist() == [0.25, 0.25]


# --- assign


@each_dtype
def test_assign_rounds_to_the_type_of_the_array(dtype):
    optimizer, third = ravine.SGD(), np.full(2, 1 / 3)
    w = np.ones(2, dtype)
    optimizer.assign(w, third)
    assert_same(w, third.astype(dtype))
    optimizer.assign_add(w, 2.0)
    assert_same(w, (third.astype(dtype) + dtype(2)).astype(dtype))
    optimizer.assign_sub(w, w)
    assert_same(w, np.zeros(2, dtype))
    optimizer.assign(w, 0.5)
    assert_same(w, np.full(2, 0.5, dtype))


def test_assign_to_numbers():
    optimizer, count = ravine.SGD(), np.array(3)
    optimizer.assign_add(count, 2)
    optimizer.assign_sub(count, np.array(1))
    assert (count.dtype, int(count)) == (np.int64, 4)


ASSIGNED = {
    "shape": (
        lambda o: o.assign(np.ones((2, 3)), np.ones(3)),
        ValueError,
        "What is assigned to an array of shape (2, 3) must have that shape, or be a number. "
        "Received: shape (3,).",
    ),
    "shape_of_a_list": (
        lambda o: o.assign_add(np.ones(2), [1.0]),
        ValueError,
        "What is assigned to an array of shape (2,) must have that shape, or be a number. "
        "Received: shape (1,).",
    ),
    "no_array": (
        lambda o: o.assign_sub(1.0, 2.0),
        TypeError,
        "Only arrays can be assigned to. Received: float.",
    ),
}


@cases(ASSIGNED)
def test_assign_refuses(call, kind, message):
    with raises(kind, message):
        call(ravine.SGD())
