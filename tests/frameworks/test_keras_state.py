"""State of our optimizers in Keras's files and in its hands, also from Keras's own and back."""

import copy
import pickle

import pytest
from keras_checks import (
    BACKEND,
    RULES,
    array,
    assert_equal,
    assert_near,
    compiled,
    each_name,
    each_name_in_fit,
    each_rule,
    each_rule_in_fit,
    fit,
    keras,
    make,
    ravine,
    tensor,
    values,
    variable,
)

OPTIONS = {"global_clipnorm": 0.5, "use_ema": True, "weight_decay": 0.05}


def saved_and_loaded(model, path, **options):
    path = path / "model.keras"
    model.save(path)
    return keras.saving.load_model(path, **options)


@each_rule_in_fit
def test_training_goes_on_from_a_file(rule, tmp_path):
    model = compiled(make(ravine.keras, rule, **OPTIONS))
    fit(model, epochs=1)
    again = saved_and_loaded(model, tmp_path)
    assert type(again.optimizer) is type(model.optimizer)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    assert_equal(again.optimizer.variables, values(model.optimizer.variables))
    for each in (model, again):
        fit(each, epochs=1)
    assert_equal(again.weights, model.weights)
    assert_equal(again.optimizer.variables, model.optimizer.variables)


@each_rule
def test_training_goes_on_within_a_window(rule):
    def steps(optimizer, variables, numbers):
        for i in numbers:
            count = 1 if i % 3 else 2  # the second variable has one gradient in three
            optimizer.apply([tensor([i + 1.0, -1.0]), tensor(0.5)][:count], variables[:count])

    optimizers = [make(ravine.keras, rule, gradient_accumulation_steps=3) for _ in range(2)]
    sets = [[variable([1, 2]), variable(3.0)] for _ in range(2)]
    for optimizer, variables in zip(optimizers, sets, strict=True):
        optimizer.build(variables)
    steps(optimizers[0], sets[0], range(4))
    for v, w in zip(sets[1], sets[0], strict=True):
        v.assign(w)
    optimizers[1].set_weights(values(optimizers[0].variables))
    for optimizer, variables in zip(optimizers, sets, strict=True):
        steps(optimizer, variables, range(4, 9))
    assert_equal(sets[1], sets[0])
    assert_equal(optimizers[1].variables, optimizers[0].variables)


def gone_over(optimizer, other):
    """Make an optimizer of another class with the same state."""
    made = other.from_config(optimizer.get_config())
    made.build(optimizer._trainable_variables)
    made.set_weights(values(optimizer.variables))
    return made


@each_rule_in_fit
@pytest.mark.parametrize("direction", ["to ours", "from ours"])
def test_training_goes_on_with_the_other(rule, direction, tmp_path, monkeypatch):
    first, then = ravine.keras, keras.optimizers
    if direction == "to ours":
        first, then = then, first
    name = RULES[rule][0]
    other = getattr(then, name)
    model = compiled(make(first, rule))
    fit(model, epochs=1)
    # What is registered comes before what is passed.
    monkeypatch.delitem(keras.saving.get_custom_objects(), f"ravine>{name}")
    names = (name, f"ravine>{name}")
    again = saved_and_loaded(model, tmp_path, custom_objects=dict.fromkeys(names, other))
    if BACKEND == "jax" and direction == "to ours":  # Keras finds its own by their module
        again.compile(gone_over(again.optimizer, other), again.loss)
    is_ours = [isinstance(each.optimizer, getattr(ravine.keras, name)) for each in (model, again)]
    assert is_ours == [direction == "from ours", direction == "to ours"]
    assert_equal(again.optimizer.variables, values(model.optimizer.variables))
    for each in (model, again):
        fit(each, epochs=1)
    assert_near(again.weights, model.weights)


@each_name
@pytest.mark.parametrize("first", [keras.optimizers, ravine.keras])
def test_state_goes_over_to_the_other(name, first):
    then = ravine.keras if first is keras.optimizers else keras.optimizers
    old, variables = make(first, name), [variable([1, 2]), variable(3.0)]
    twins = [variable([1, 2]), variable(3.0)]
    grads = [tensor([0.5, -1.0]), tensor(0.25)]
    old.apply(grads, variables)
    new = getattr(then, name).from_config(old.get_config())
    new.build(twins)
    for v, w in zip(twins, variables, strict=True):
        v.assign(w)
    new.set_weights(values(old.variables))
    old.apply(grads, variables)
    new.apply(grads, twins)
    assert_near(twins, variables)


@each_name
def test_configuration_is_read_back(name):
    optimizer = make(ravine.keras, name, **OPTIONS)
    stored = keras.optimizers.serialize(optimizer)
    assert (stored["module"], stored["registered_name"]) == ("ravine.keras", f"ravine>{name}")
    again = keras.optimizers.deserialize(stored)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()


@each_name_in_fit
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_models_are_copied(name, copied):
    model = compiled(make(ravine.keras, name))
    fit(model, epochs=1)
    again = copied(model)
    assert type(again.optimizer) is type(model.optimizer)
    for each in (model, again):
        fit(each, epochs=1)
    assert_equal(again.weights, model.weights)


@each_name
def test_state_of_a_built_optimizer_is_taken_up(name):
    store, optimizer, other = {}, make(ravine.keras, name), make(ravine.keras, name)
    grads, variables, twins = [tensor([0.5, -1.0])], [variable([1, 2])], [variable([1, 2])]
    optimizer.apply(grads, variables)
    optimizer.save_own_variables(store)
    other.apply([tensor([3.0, 3.0])], twins)
    other.load_own_variables(store)
    twins[0].assign(variables[0])
    for each, v in ((optimizer, variables), (other, twins)):
        each.apply(grads, v)
    assert_equal(twins, variables)


# --- Averages


def test_averages_become_the_values():
    a, b = variable(1.0), variable(2.0)
    optimizer = ravine.keras.SGD(1.0, use_ema=True, ema_momentum=0.5)
    optimizer.build([a, b])
    optimizer.finalize_variable_values([a, b])  # there are none yet
    assert [v.numpy() for v in (a, b)] == [1, 2]
    for _ in range(2):
        optimizer.apply([tensor(1.0), tensor(1.0)], [a, b])
    optimizer.finalize_variable_values([b])
    assert [v.numpy() for v in (a, b)] == [-1, 0.5]
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.finalize_variable_values([variable(1.0)])


def test_averages_are_taken_once_an_update():
    w = variable(1.0)
    optimizer = ravine.keras.SGD(1.0, use_ema=True, ema_momentum=0.5, gradient_accumulation_steps=2)
    averages = []
    for _ in range(4):
        optimizer.apply([tensor(1.0)], [w])
        averages.append(float(optimizer.variables[2].numpy()))
    assert averages == [0, 0, 0, -0.5]
    optimizer.finalize_variable_values([w])
    assert w.numpy() == -0.5


# --- Without changing anything


def detached(v):
    return keras.ops.stop_gradient(v.value)


@each_rule
def test_stateless_steps_are_those_of_apply(rule):
    optimizer, variables = make(ravine.keras, rule, **OPTIONS), [variable([1, 2]), variable(3.0)]
    optimizer.build(variables)
    grads = [tensor([0.5, -1.0]), tensor(0.25)]
    state, weights = ([detached(v) for v in each] for each in (optimizer.variables, variables))
    before = values([*variables, *optimizer.variables])
    for _ in range(3):
        weights, state = optimizer.stateless_apply(state, grads, weights)
    assert_equal([*variables, *optimizer.variables], before)
    for _ in range(3):
        optimizer.apply(grads, variables)
    results = [keras.ops.convert_to_numpy(x) for x in (*weights, *state)]
    assert_equal([*variables, *optimizer.variables], results)


def test_stateless_steps_inside_a_loss_scale():
    inner, variables = ravine.keras.Nadam(), [variable([1, 2])]
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
    optimizer.build(variables)
    before = values([*variables, *optimizer.variables])
    weights, _ = optimizer.stateless_apply(
        [v.value for v in optimizer.variables],
        [tensor([4.0, -8.0])],
        [v.value for v in variables],
    )
    assert_equal([*variables, *optimizer.variables], before)
    ravine.keras.Nadam().apply([tensor([0.5, -1.0])], variables)
    assert_equal(variables, [array(w) for w in weights])


def test_stateless_steps_check_their_lists():
    optimizer = ravine.keras.SGD()
    with pytest.raises(ValueError, match="must be built"):
        optimizer.stateless_apply([], [], [])
    optimizer.build([variable(1.0)])
    with pytest.raises(ValueError, match="optimizer_variables"):
        optimizer.stateless_apply([], [tensor(1.0)], [tensor(1.0)])
