"""State that goes from Keras to ravine and back, and stateless_apply, beside Keras itself."""

import copy

import numpy as np
import pytest
from checks import normal, snapshot
from keras_oracle import keras

import ravine

# Of NumPy, about how Keras reads its own variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CASES = {
    "sgd": ("SGD", {}),
    "sgd_momentum": ("SGD", {"momentum": 0.9}),
    "rmsprop": ("RMSprop", {"momentum": 0.9, "centered": True}),
    "nadam": ("Nadam", {}),
}
OPTIONS = {
    "plain": {},
    "ema": {"use_ema": True, "ema_momentum": 0.9},
    "accumulation": {"gradient_accumulation_steps": 3},
}
SHAPES = [(3, 4), (7,), ()]
STOP = 4
each_case = pytest.mark.parametrize(("name", "arguments"), CASES.values(), ids=CASES)
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def inputs():
    random = np.random.default_rng(150)
    start = [normal(random, shape, np.float32) for shape in SHAPES]
    return start, [[normal(random, shape, np.float32) for shape in SHAPES] for _ in range(8)]


def of_keras(name, arguments, values):
    variables = [keras.Variable(value) for value in values]
    optimizer = getattr(keras.optimizers, name)(0.01, **arguments)
    optimizer.build(variables)
    return optimizer, variables


def of_ravine(name, arguments, values):
    variables = [np.array(value, order="K") for value in values]
    optimizer = getattr(ravine, name)(0.01, **arguments)
    optimizer.build(variables)
    return optimizer, variables


def train(optimizer, variables, steps):
    for grads in steps:
        optimizer.apply(list(grads), variables)


def values_of(variables):
    return [np.array(getattr(variable, "value", variable)) for variable in variables]


@each_option
@each_case
@pytest.mark.parametrize(("first", "second"), [(of_keras, of_ravine), (of_ravine, of_keras)])
def test_training_goes_on_in_the_other_library(first, second, name, arguments, options):
    start, steps = inputs()
    arguments = {**arguments, **options}
    optimizer, variables = first(name, arguments, start)
    train(optimizer, variables, steps[:STOP])
    store = {}
    optimizer.save_own_variables(store)
    other, moved = second(name, arguments, values_of(variables))
    other.load_own_variables(store)
    assert int(np.asarray(other.iterations)) == int(np.asarray(optimizer.iterations))
    train(optimizer, variables, steps[STOP:])
    train(other, moved, steps[STOP:])
    for w, expected in zip(values_of(moved), values_of(variables), strict=True):
        np.testing.assert_allclose(w, expected, rtol=0, atol=3e-6)


def test_store_may_be_a_file_of_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    start, steps = inputs()
    optimizer, variables = of_ravine("Nadam", {}, start)
    train(optimizer, variables, steps)
    with h5py.File(tmp_path / "state.h5", "w") as file:
        optimizer.save_own_variables(file.create_group("vars"))
    resumed, _ = of_ravine("Nadam", {}, start)
    with h5py.File(tmp_path / "state.h5") as file:
        resumed.load_own_variables(file["vars"])
    assert snapshot(resumed) == snapshot(optimizer)


@each_case
def test_stateless_apply_is_that_of_keras(name, arguments):
    start, steps = inputs()
    results = []
    for make_one in (of_keras, of_ravine):
        optimizer, variables = make_one(name, arguments, start)
        state, values = values_of(optimizer.variables), values_of(variables)
        for grads in steps:
            values, state = optimizer.stateless_apply(state, list(grads), values)
        results.append([*map(np.asarray, values), *map(np.asarray, state)])
        assert [v.tolist() for v in values_of(variables)] == [v.tolist() for v in start]
    for actual, expected in zip(*results[::-1], strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=3e-6)


# --- Where ravine differs, on purpose


def test_copies_keep_the_state_that_keras_loses():
    (start, steps), arguments = inputs(), {"momentum": 0.9}
    optimizer, variables = of_keras("SGD", arguments, start)
    train(optimizer, variables, steps)
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        lost = copy.deepcopy(optimizer)
    assert not lost.built
    optimizer, variables = of_ravine("SGD", arguments, start)
    train(optimizer, variables, steps)
    assert copy.deepcopy(optimizer).iterations == len(steps)


def test_number_of_arrays_that_keras_does_not_check_is_refused():
    start, _ = inputs()
    theirs, _ = of_keras("SGD", {"momentum": 0.9}, start)
    ours, _ = of_ravine("SGD", {"momentum": 0.9}, start)
    theirs.set_weights([np.array(3)])
    with pytest.raises(ValueError, match=r"^Expected 5 arrays"):
        ours.set_weights([np.array(3)])
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        theirs.load_own_variables({"0": np.array(5)})
    assert int(np.asarray(theirs.iterations)) == 3
    with pytest.raises(ValueError, match=r"^Expected 5 arrays"):
        ours.load_own_variables({"0": np.array(5)})
    assert ours.iterations == 0
