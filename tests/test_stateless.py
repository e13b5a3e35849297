"""stateless_apply: the numbers of apply, in new arrays, and nothing changed."""

import numpy as np
import pytest
from checks import (
    assert_same,
    bits,
    config_and,
    each_dtype,
    each_rule,
    ignores_missing,
    make,
    normal,
    raises,
)
from state_checks import plain_and_everything, plain_and_scaled, scaled

import ravine

SHAPES = [(3, 4), (), (70,)]


@ignores_missing
@plain_and_scaled
@plain_and_everything
@each_dtype
@each_rule
def test_same_bits_as_apply(rule, dtype, options, make_one):
    random = np.random.default_rng(80)
    start = [normal(random, shape, dtype) for shape in SHAPES]
    start[0] = np.asfortranarray(start[0])
    steps = [[normal(random, shape, np.float32) for shape in SHAPES] for _ in range(7)]
    steps[1][1] = steps[4][2] = None
    steps[2][0][0, 0] = np.inf if make_one is scaled else 1
    trained, stateless = make_one(rule, **options), make_one(rule, **options)
    variables, values = [w.copy() for w in start], [w.copy() for w in start]
    for optimizer, arrays in ((trained, variables), (stateless, start)):
        optimizer.build(arrays)
        optimizer.exclude_from_weight_decay([arrays[2]])
    before = config_and(stateless, *start)
    state = [array.copy() for array in stateless.variables]
    for grads in steps:
        given = [bits(array) for array in [*values, *state]]
        old_values, old_state = values, state
        values, state = stateless.stateless_apply(state, grads, values)
        assert [bits(array) for array in [*old_values, *old_state]] == given
        trained.apply(grads)
        assert type(values) is type(state) is list
        for actual, expected in zip(
            [*values, *state], [*variables, *trained.variables], strict=True
        ):
            assert_same(actual, expected)
    assert config_and(stateless, *start) == before


def test_result_shares_no_memory():
    w = np.ones(3)
    optimizer = make("sgd_momentum", use_ema=True)
    optimizer.build([w])
    state = optimizer.variables
    (new_w,), new_state = optimizer.stateless_apply(state, [np.ones(3)], [w])
    for new in (new_w, *new_state):
        assert not any(np.shares_memory(new, old) for old in (w, *state))


def test_dict_makes_a_dict():
    w = {"a": np.ones(3), "b": np.ones(2)}
    optimizer = make("nadam")
    optimizer.build(w)
    new, _ = optimizer.stateless_apply(
        optimizer.variables, {"a": np.ones(3), "b": np.ones(2)}, {n: v * 2 for n, v in w.items()}
    )
    assert [*new] == ["a", "b"]
    assert (new["a"] < 2).all()
    in_a_list, _ = optimizer.stateless_apply(
        optimizer.variables, [np.ones(3), np.ones(2)], [v * 2 for v in w.values()]
    )
    assert [bits(v) for v in in_a_list] == [bits(v) for v in new.values()]


def test_exclusions_by_name_count_for_lists_too():
    optimizer = ravine.SGD(1.0, weight_decay=0.5)
    optimizer.build({"kernel": np.ones(2), "bias": np.ones(2)})
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    new, _ = optimizer.stateless_apply(optimizer.variables, [np.zeros(2)] * 2, [np.ones(2)] * 2)
    assert [w[0] for w in new] == [0.5, 1]


def test_rate_and_counter_are_those_that_are_given():
    optimizer = ravine.SGD(0.5)
    optimizer.build([np.ones(2)])
    (w,), state = optimizer.stateless_apply(
        [np.array(7), np.array(0.25)], [np.ones(2)], [np.ones(2)]
    )
    assert w.tolist() == [0.75, 0.75]
    assert [float(a) for a in state] == [8, 0.25]
    scheduled = ravine.SGD(lambda: 0.125)
    scheduled.build([np.ones(2)])
    (w,), state = scheduled.stateless_apply([np.array(7)], [np.ones(2)], [np.ones(2)])
    assert w.tolist() == [0.875, 0.875]
    assert [float(a) for a in state] == [8]


def test_read_only_values_are_accepted():
    optimizer = make("sgd")
    optimizer.build([np.ones(2)])
    value = np.broadcast_to(2.0, 2)
    (w,), _ = optimizer.stateless_apply(optimizer.variables, [np.ones(2)], [value])
    assert w.tolist() == [1.9, 1.9]


def call(state=None, grads=None, values=None):
    def make_call(optimizer):
        return optimizer.stateless_apply(
            optimizer.variables if state is None else state(optimizer.variables),
            [np.ones(2), np.ones(3)] if grads is None else grads,
            [np.ones(2), np.ones(3)] if values is None else values,
        )

    return make_call


VALUES = "Pass a value for each variable, in the order given to build(): ['a', 'b']. Received: "
REFUSED = {
    "few_values": (call(values=[np.ones(2)]), VALUES + "['variable_0']."),
    "other_keys": (
        call(values={"a": np.ones(2), "c": np.ones(3)}),
        VALUES + "['a', 'c'].",
    ),
    "shape": (
        call(values=[np.ones(2), np.ones(2)]),
        "The value of variable 1 ('b') must be an array of shape (3,) and dtype float64. Received: "
        "array of shape (2,) and dtype float64.",
    ),
    "dtype": (
        call(values=[np.ones(2), np.ones(3, np.float32)]),
        "The value of variable 1 ('b') must be an array of shape (3,) and dtype float64. Received: "
        "array of shape (3,) and dtype float32.",
    ),
    "no_array": (
        call(values=[np.ones(2), [1.0, 1.0, 1.0]]),
        "The value of variable 1 ('b') must be an array of shape (3,) and dtype float64. Received: "
        "list.",
    ),
    "short_state": (
        call(state=lambda variables: variables[:-1]),
        "Expected 4 arrays, in the order of the optimizer's variables: ['iteration', "
        "'learning_rate', 'momentum/a', 'momentum/b']. Received: 3. Nothing was loaded.",
    ),
    "state_of_other_shape": (
        call(state=lambda variables: [*variables[:3], np.ones(2)]),
        "'momentum/b' must have shape (3,) and dtype float64. Received: shape (2,), dtype float64. "
        "Nothing was loaded.",
    ),
    "few_gradients": (
        call(grads=[np.ones(2)]),
        "Expected 2 gradients, one for each variable given to build(), with None for a missing "
        "one. Received: 1.",
    ),
    "gradient_of_other_shape": (
        call(grads=[np.ones(2), np.ones(2)]),
        "Gradient 1 has shape (2,), variable 1 ('b') has shape (3,). Pass the gradients in the "
        "order of the variables.",
    ),
}


@pytest.mark.parametrize(("function", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(function, message):
    optimizer = make("sgd_momentum")
    w = {"a": np.ones(2), "b": np.ones(3)}
    optimizer.build(w)
    before = config_and(optimizer, *w.values())
    with raises(ValueError, message):
        function(optimizer)
    assert config_and(optimizer, *w.values()) == before


@plain_and_scaled
def test_it_needs_build(make_one):
    with raises(ValueError, "The optimizer has no state yet. Call build(variables) first."):
        make_one("sgd").stateless_apply([], [np.ones(2)], [np.ones(2)])


def test_loss_scale_checks_the_number_of_arrays():
    optimizer = scaled("sgd")
    optimizer.build([np.ones(2)])
    with pytest.raises(ValueError, match=r"^Expected 6 arrays, .* Received: 2\. Nothing was"):
        optimizer.stateless_apply(optimizer.variables[:2], [np.ones(2)], [np.ones(2)])
