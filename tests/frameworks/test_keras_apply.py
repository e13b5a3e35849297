"""Steps of `apply` on variables of Keras: semantics, what is refused, and what autograd sees."""

import numpy as np
import pytest
from keras_checks import (
    BACKEND,
    RULES,
    array,
    assert_equal,
    assert_near,
    assert_same,
    each_name,
    each_rule,
    keras,
    make,
    ml_dtypes,
    ravine,
    refused,
    tensor,
    types_of,
    values,
    variable,
)

SHAPES = [(5, 30), (7,), (), (2, 3, 4, 5)]


def start(dtype="float32", seed=0):
    random = np.random.default_rng(seed)
    return [variable(random.standard_normal(shape), dtype) for shape in SHAPES]


def gradients(step, dtype="float32"):
    random = np.random.default_rng(100 + step)
    return [tensor(random.standard_normal(shape), dtype) for shape in SHAPES]


def stepped(optimizer, steps=5, dtype="float32"):
    variables = start(dtype)
    for step in range(steps):
        optimizer.apply(gradients(step), variables)
    return variables


@each_rule
def test_bits_are_those_of_arrays(rule):
    options = {"global_clipnorm": 1.0, "use_ema": True, "gradient_accumulation_steps": 2}
    optimizer, twin = (make(x, rule, **options) for x in (ravine.keras, ravine))
    twin.learning_rate = float(np.float32(twin.learning_rate))  # as Keras keeps it
    expected = values(start())
    for step in range(3):
        twin.apply([array(g) for g in gradients(step)], expected)
    assert_equal(stepped(optimizer, 3), expected)


@each_rule
def test_values_are_those_of_keras_in_its_defaults(rule):
    name, options = RULES[rule]
    options = {key: value for key, value in options.items() if key != "epsilon"}
    ours, theirs = (getattr(x, name)(**options) for x in (ravine.keras, keras.optimizers))
    assert_near(stepped(ours), stepped(theirs))


@each_rule
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_types_of_variables(rule, dtype):
    with types_of(dtype):
        optimizer, twin = make(ravine.keras, rule), make(ravine, rule)
        twin.learning_rate = float(np.float32(twin.learning_rate))
        expected = [array(v).astype(getattr(ml_dtypes, dtype, dtype)) for v in start(dtype)]
        for step in range(3):
            twin.apply([array(g) for g in gradients(step)], expected)
        variables = stepped(optimizer, 3, dtype)
        for v, w in zip(variables, expected, strict=True):
            assert_same(array(v).astype(w.dtype), w)
        slots = {v.dtype for v in optimizer.variables[2:]}
        assert slots <= {"float64" if dtype == "float64" else "float32"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_types_of_gradients(dtype):
    with types_of(dtype):
        optimizer, variables = ravine.keras.SGD(0.5), start()
        before, grads = values(variables), gradients(0, dtype)
        optimizer.apply(grads, variables)
        for v, w, g in zip(variables, before, grads, strict=True):
            rounded = keras.ops.convert_to_numpy(keras.ops.cast(g, "float32"))
            assert_same(array(v), (w - np.float32(0.5) * rounded).astype(np.float32))


def test_gradients_may_be_arrays():
    w = variable([1, 2])
    ravine.keras.SGD(0.5).apply([np.array([1.0, 1.0])], [w])
    assert w.numpy().tolist() == [0.5, 1.5]


def test_some_variables_in_any_order():
    a, b, c = (variable(1.0) for _ in range(3))
    optimizer = ravine.keras.SGD(1.0)
    optimizer.build([a, b, c])
    optimizer.apply([tensor(0.25), tensor(0.5)], [c, a])
    assert [v.numpy() for v in (a, b, c)] == [0.5, 1, 0.75]


def test_missing_gradient_leaves_its_variable_alone():
    a, b = variable(1.0, name="a"), variable(1.0, name="b")
    optimizer = ravine.keras.SGD(1.0, momentum=0.5, weight_decay=0.5)
    with pytest.warns(UserWarning, match=r"Gradients do not exist for variables \['b'\]"):
        optimizer.apply([tensor(0.25), None], [a, b])
    assert [a.numpy(), b.numpy()] == [0.25, 1]
    assert int(optimizer.iterations) == 1


def test_without_gradients_nothing_happens():
    optimizer = ravine.keras.SGD(1.0)
    optimizer.build([variable(1.0)])
    optimizer.apply([])
    assert int(optimizer.iterations) == 0


def test_apply_gradients_counts():
    w = variable(1.0)
    optimizer = ravine.keras.SGD(0.5)
    optimizer.apply_gradients([(tensor(1.0), w)])
    assert int(optimizer.apply_gradients([(tensor(1.0), w)])) == 2
    assert w.numpy() == 0


def test_constraints_come_last():
    class Bounded(keras.constraints.Constraint):
        def __call__(self, w):
            return keras.ops.clip(w, -1.0, 1.0)

    w = keras.Variable(np.array([0.5, -2.0], "float32"))
    w.constraint = Bounded()
    ravine.keras.SGD(1.0).apply([tensor([-3.0, 0.25])], [w])
    assert w.numpy().tolist() == [1, -1]


@pytest.mark.parametrize("steps", [None, 2])
@each_name
def test_overwriting_with_gradients(name, steps):
    def run(library):
        a, scale, b = variable([1, 2]), variable(1.0), variable(3.0)
        scale.overwrite_with_gradient = True
        optimizer = make(library, name, gradient_accumulation_steps=steps, weight_decay=0.5)
        for i in range(4):
            optimizer.apply([tensor([1.0, -1.0]), tensor(10.0 - i), tensor(0.5)], [a, scale, b])
        return [a, scale, b], optimizer

    (ours, optimizer), (theirs, other) = run(ravine.keras), run(keras.optimizers)
    assert_near(ours, theirs)
    assert ours[1].numpy() == (7 if steps is None else 8)
    assert_near(optimizer.variables, other.variables, 1e-5)


def test_only_variables_that_are_overwritten():
    scale = variable(1.0)
    scale.overwrite_with_gradient = True
    optimizer = ravine.keras.Nadam()
    optimizer.apply([tensor(5.0)], [scale])
    assert scale.numpy() == 5
    assert int(optimizer.iterations) == 1


def test_exclusions_from_decay():
    a, b, c = (variable(1.0, name=name) for name in ("kernel", "bias", "other"))
    optimizer = ravine.keras.SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[c], var_names=["bias"])
    zeros = [tensor(0.0)] * 3
    optimizer.apply(zeros, [a, b, c])
    assert [v.numpy() for v in (a, b, c)] == [0.5, 1, 1]
    optimizer.exclude_from_weight_decay(var_list=[a])
    optimizer.apply(zeros, [a, b, c])
    assert [v.numpy() for v in (a, b, c)] == [0.5, 0.5, 0.5]


def test_attributes_count_when_they_are_set():
    w = variable(1.0)
    optimizer = ravine.keras.SGD(1.0, momentum=0.5)
    optimizer.apply([tensor(0.25)], [w])
    optimizer.momentum = 0.0
    optimizer.clipvalue = 0.125
    optimizer.apply([tensor(0.25)], [w])
    assert w.numpy() == 0.625


def test_attributes_may_be_properties():
    class Falling(ravine.keras.SGD):
        now = 0.5

        @property
        def momentum(self):
            return self.now

        @momentum.setter
        def momentum(self, value):
            pass

    w = variable(1.0)
    optimizer = Falling(1.0)
    optimizer.apply([tensor(0.25)], [w])
    Falling.now = 0.0
    optimizer.apply([tensor(0.25)], [w])
    assert w.numpy() == 0.5


def test_settings_are_asked_once():
    optimizer = ravine.keras.Adam()
    assert optimizer._settings()[1] is optimizer._settings()[1]
    before = optimizer._settings()[1]
    optimizer.epsilon = 1e-3
    assert optimizer._settings()[1] is not before


def test_betas_may_be_functions_and_tensors():
    functions = ravine.keras.Adam(beta_1=lambda: 0.5, beta_2=tensor(0.75))
    numbers = ravine.keras.Adam(beta_1=0.5, beta_2=0.75)
    assert_equal(stepped(functions), stepped(numbers))


# --- What is refused


def test_gradient_of_another_shape():
    refused(
        ravine.keras.Nadam(),
        [tensor([1.0]), tensor([1.0, 1.0])],
        [variable([1], name="a"), variable([1, 2, 3], name="b")],
        ValueError,
        "Gradient 1 has shape (2,), variable 1 ('b') has shape (3,). Pass the gradients in the "
        "order of the variables.",
    )


def test_gradient_of_integers():
    refused(
        ravine.keras.SGD(),
        [tensor([1], "int32")],
        [variable([1], name="a")],
        TypeError,
        "Gradient 0 ('a') must have dtype float32, float64, float16 or bfloat16"
        f"{', in native byte order' if BACKEND == 'torch' else ''}. Received: int32.",
    )


def test_variable_given_twice():
    w = variable(1.0, name="w")
    optimizer = ravine.keras.SGD()
    optimizer.build([w])
    with pytest.raises(ValueError, match="Variable 'w' cannot be stepped: it was given twice"):
        optimizer.apply([tensor(1.0), tensor(1.0)], [w, w])
    assert w.numpy() == 1


def test_number_of_gradients():
    refused(
        ravine.keras.SGD(),
        [tensor(1.0)],
        [variable(1.0), variable(2.0)],
        ValueError,
        "Expected 2 gradients, one for each variable, with None for a missing one. Received: 1.",
    )


def test_unknown_variables():
    optimizer = ravine.keras.SGD()
    with pytest.raises(ValueError, match="The optimizer does not know its variables"):
        optimizer.apply([tensor(1.0)])
    optimizer.build([variable(1.0)])
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply([tensor(1.0)], [variable(1.0)])


def test_only_missing_gradients():
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        ravine.keras.SGD().apply([None], [variable(1.0)])


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="beta_2 must be in"):
        ravine.keras.Adam(beta_2=1.0)
    with pytest.raises(ValueError, match="Only one of `clipnorm`"):
        ravine.keras.SGD(clipnorm=1.0, clipvalue=1.0)


def test_slot_that_was_not_made():
    w = variable(1.0)
    optimizer = ravine.keras.SGD()
    optimizer.build([w])
    optimizer.momentum = 0.5
    with pytest.raises(ValueError, match="built without the slot 'momentum'"):
        optimizer.apply([tensor(1.0)], [w])
