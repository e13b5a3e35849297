"""Copies of optimizers: pickled, deep, shallow; what they are bound to, and that all is kept."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from checks import (
    assert_same,
    config_and,
    each_dtype,
    each_rule,
    ignores_missing,
    make,
    normal,
    raises,
    snapshot,
)
from state_checks import EVERYTHING, plain_and_everything, plain_and_scaled, steps_for

import ravine


def pickled(thing, protocol=pickle.HIGHEST_PROTOCOL):
    return pickle.loads(pickle.dumps(thing, protocol))


WAYS = {
    "deepcopy": copy.deepcopy,
    **{f"pickle_{n}": lambda thing, n=n: pickled(thing, n) for n in range(6)},
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
deep_or_pickled = pytest.mark.parametrize("way", [copy.deepcopy, pickled])


def weights_of(dtype, random):
    """Return variables of all kinds of layout: strides, gaps, views, none."""
    return {
        "a/kernel": np.asfortranarray(normal(random, (3, 4), dtype)),
        "strided": normal(random, (4, 6), dtype)[::2, ::-3],
        "permuted": normal(random, (2, 3, 4), dtype).transpose(1, 2, 0),
        "scalar": normal(random, (), dtype),
        "empty": np.zeros((0, 2), dtype),
        "view": normal(random, 9, dtype)[2:7],
    }


def assert_goes_on_alike(first, second, steps):
    """Make the same steps with two pairs of weights and optimizer, and compare all they have."""
    for grads in steps:
        for _, optimizer in (first, second):
            optimizer.apply(grads)
    for name, w in first[0].items():
        assert_same(second[0][name], w, name)
    assert snapshot(second[1]) == snapshot(first[1])


@ignores_missing
@each_way
@pytest.mark.parametrize("stop", [0, 1, 3, 5])
@plain_and_scaled
@plain_and_everything
def test_copy_with_the_weights_is_bound_to_them(options, make_one, stop, way):
    random = np.random.default_rng(70)
    weights = weights_of(np.float32, random)
    steps = steps_for(weights, random, stop + 4)
    steps[stop]["scalar"] = None
    optimizer = make_one("nadam", **options)
    optimizer.build(weights)
    for grads in steps[:stop]:
        optimizer.apply(grads)
    kept = {name: w.copy() for name, w in weights.items()}
    before = config_and(optimizer)
    for order in (1, -1):
        pair = (weights, optimizer)[::order]
        new_weights, new = way(pair)[::order]
        assert config_and(new) == before
        for name, w in kept.items():
            assert_same(new_weights[name], w, name)
        new.apply(steps[stop])
        for name, w in kept.items():
            assert_same(weights[name], w, name)
        assert config_and(optimizer) == before
    new_weights, new = way((weights, optimizer))
    assert_goes_on_alike((weights, optimizer), (new_weights, new), steps[stop:])


@each_dtype
@each_rule
@deep_or_pickled
def test_copy_keeps_every_type_and_rule(rule, dtype, way):
    random = np.random.default_rng(71)
    weights = weights_of(dtype, random)
    steps = steps_for(weights, random, 4)
    optimizer = make(rule, use_ema=True)
    optimizer.build(weights)
    for grads in steps[:2]:
        optimizer.apply(grads)
    assert_goes_on_alike((weights, optimizer), way((weights, optimizer)), steps[2:])


@plain_and_scaled
@pytest.mark.parametrize("way", [*WAYS.values(), copy.copy], ids=[*WAYS, "copy"])
def test_copy_before_build_keeps_the_settings(way, make_one):
    optimizer = make_one("nadam", **EVERYTHING)
    new = way(optimizer)
    assert type(new) is type(optimizer)
    assert new.get_config() == optimizer.get_config()
    assert not new.built
    pairs = []
    for each in (optimizer, new):
        w = {"w": np.ones(3, np.float32)}
        each.build(w)
        pairs.append((w, each))
    assert_goes_on_alike(*pairs, [{"w": np.ones(3)}] * 4)


@plain_and_scaled
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickled])
def test_copy_keeps_the_state_of_options_that_were_switched_off(way, make_one):
    w, gradient = {"w": np.ones(3)}, {"w": np.ones(3)}
    optimizer = make_one("nadam", use_ema=True, gradient_accumulation_steps=2)
    optimizer.build(w)
    optimizer.gradient_accumulation_steps = None
    optimizer.apply(gradient)
    optimizer.use_ema = False
    before = config_and(optimizer)
    again = way(optimizer)
    assert config_and(again) == before
    again.build({"w": np.ones(3)})
    assert config_and(again) == before
    again.use_ema = True
    optimizer.stateless_apply(optimizer.variables, gradient, w)
    assert config_and(optimizer) == before


# --- Alone


@plain_and_scaled
@deep_or_pickled
def test_copy_alone_has_variables_of_its_own(way, make_one):
    w, g = {"a": np.ones(3), "b": np.ones(2)}, {"a": np.ones(3), "b": np.ones(2)}
    optimizer = make_one("nadam")
    optimizer.apply(g, w)
    kept = {name: array.copy() for name, array in w.items()}
    new = way(optimizer)
    assert new.built
    assert config_and(new) == config_and(optimizer)
    new.apply(g)
    assert new.iterations == 2
    assert optimizer.iterations == 1
    for name, array in kept.items():
        assert_same(w[name], array, name)


@plain_and_scaled
@deep_or_pickled
def test_copy_alone_may_be_built_for_other_arrays(way, make_one):
    random = np.random.default_rng(72)
    weights = weights_of(np.float16, random)
    steps = steps_for(weights, random, 5)
    optimizer = make_one("nadam", use_ema=True, gradient_accumulation_steps=2)
    optimizer.build(weights)
    for grads in steps[:3]:
        optimizer.apply(grads)
    new, others = way(optimizer), {name: w.copy() for name, w in weights.items()}
    new.build(others)
    assert_goes_on_alike((weights, optimizer), (others, new), steps[3:])
    with raises(
        ValueError,
        f"This optimizer was built for the variables {[*weights]}. Make a new one for others.",
    ):
        new.build(weights)


def test_copy_is_built_for_no_others_than_of_its_names_and_shapes():
    optimizer = make("sgd_momentum")
    optimizer.build({"a": np.ones(3), "b": np.ones(2)})
    new = copy.deepcopy(optimizer)
    before = config_and(new)
    with raises(
        ValueError,
        "This optimizer was built for the variables ['a', 'b']. Make a new one for others.",
    ):
        new.build({"a": np.ones(3), "c": np.ones(2)})
    with raises(
        ValueError,
        "'momentum/b' must have shape (4,) and dtype float64. Received: shape (2,), dtype float64. "
        "Nothing was loaded.",
    ):
        new.build({"a": np.ones(3), "b": np.ones(4)})
    with pytest.raises(ValueError, match="read-only"):
        new.build({"a": np.ones(3), "b": np.broadcast_to(1.0, 2)})
    assert config_and(new) == before
    new.apply({"a": np.ones(3), "b": np.ones(2)})
    assert new.iterations == 1


@ignores_missing
@deep_or_pickled
def test_arrays_of_a_list_keep_their_order(way):
    weights = [np.zeros(2), np.zeros(3)]
    optimizer = make("sgd")
    optimizer.build(weights)
    new_weights, new = way((weights, optimizer))
    new.apply([np.ones(2), np.full(3, 2.0)])
    assert [w[0] for w in new_weights] == [-0.1, -0.2]
    new.apply([np.ones(3)], [new_weights[1]])
    assert new_weights[1][0] == pytest.approx(-0.3)


# --- Shallow


@plain_and_scaled
def test_shallow_copy_has_the_same_variables_and_state_of_its_own(make_one):
    w, g = {"a": np.ones(3)}, {"a": np.full(3, 0.5)}
    optimizer = make_one("nadam", use_ema=True)
    optimizer.apply(g, w)
    new = copy.copy(optimizer)
    before, kept = config_and(optimizer), w["a"].copy()
    assert config_and(new) == before
    new.apply(g)
    assert new.iterations == 2
    assert config_and(optimizer) == before
    assert w["a"].tobytes() != kept.tobytes()
    after = w["a"].copy()
    w["a"][...] = kept
    optimizer.apply(g)
    assert_same(w["a"], after)
    new.learning_rate = 0.5
    assert optimizer.learning_rate == 0.1


def test_shallow_copy_shares_no_settings():
    optimizer = ravine.Nadam(0.1, beta_1=lambda: 0.5)
    new = copy.copy(optimizer)
    new.beta_1 = 0.25
    new.exclude_from_weight_decay(var_names=["x"])
    assert optimizer.beta_1() == 0.5
    optimizer.beta_1 = 0.5
    assert "exclude_from_weight_decay" not in optimizer.get_config()
    wrapper = ravine.LossScaleOptimizer(optimizer)
    assert copy.copy(wrapper).inner_optimizer is not optimizer


# --- Settings


def half():
    return 0.5


class Halving(ravine.schedules.LearningRateSchedule):
    def __init__(self, start):
        self.start = start

    def __call__(self, step):
        return self.start / 2**step


@each_way
def test_copy_keeps_schedules_and_functions(way):
    w = {"a": np.ones(3)}
    optimizer = ravine.Nadam(Halving(0.5), beta_1=half, beta_2=0.75)
    optimizer.apply({"a": np.ones(3)}, w)
    new_w, new = way((w, optimizer))
    assert new.beta_1 is half
    assert (new.learning_rate, new.beta_2) == (0.25, 0.75)
    assert_goes_on_alike((w, optimizer), (new_w, new), [{"a": np.ones(3)}] * 3)
    assert new.learning_rate == 0.5 / 16


def test_deepcopy_keeps_functions_that_cannot_be_pickled():
    optimizer = ravine.SGD(lambda: 0.5)
    assert copy.deepcopy(optimizer).learning_rate == 0.5
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(optimizer)


@pytest.mark.parametrize("built", [False, True])
@each_way
def test_copy_keeps_exclusions(way, built):
    w = {"kernel": np.ones(2), "bias": np.ones(2), "scale": np.ones(2), "view": np.ones(4)[1:3]}
    optimizer = ravine.SGD(1.0, weight_decay=0.5)
    exclude = [w["scale"], w["view"]]
    if built:
        optimizer.build(w)
    optimizer.exclude_from_weight_decay(exclude, ["^b"])
    new_w, new = way((w, optimizer))
    if not built:
        new.build(new_w)
    new.apply({name: np.zeros(2) for name in w})
    assert [float(v[0]) for v in new_w.values()] == [0.5, 1, 1, 1]
    if built:
        assert new.get_config() == optimizer.get_config()


@each_way
def test_copy_warns_as_often_as_the_original_would(way):
    w = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = make("sgd")
    optimizer.build(w)
    fresh = way(optimizer)
    with pytest.warns(UserWarning, match="Some variables have no gradient"):
        optimizer.apply({"a": np.ones(2), "b": None})
    with pytest.warns(UserWarning, match="Some variables have no gradient"):
        fresh.apply({"a": np.ones(2), "b": None})
    warned = way(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warned.apply({"a": np.ones(2), "b": None})
        fresh.apply({"a": np.ones(2), "b": None})


def test_loss_scale_is_kept():
    w = {"a": np.ones(2)}
    optimizer = ravine.LossScaleOptimizer(ravine.SGD(0.1), 64.0, 3)
    for g in (64.0, np.inf, 64.0):
        optimizer.apply({"a": np.full(2, g)}, w)
    new_w, new = pickled((w, optimizer))
    assert (new.dynamic_scale, new.step_counter, new.dynamic_growth_steps) == (32.0, 1, 3)
    assert new.initial_scale == 64.0
    assert_goes_on_alike((w, optimizer), (new_w, new), [{"a": np.full(2, 32.0)}] * 3)
    assert new.dynamic_scale == 64.0


# --- Classes of one's own


class Own(ravine.Nadam):
    """An optimizer with attributes of its own, one of them the model that it trains."""

    def __init__(self, model, **options):
        super().__init__(0.1, **options)
        self.model = model
        self.history = []

    def apply(self, grads, trainable_variables=None, *, stream=None):
        super().apply(grads, trainable_variables, stream=stream)
        self.history.append(self.iterations)


@each_way
def test_copy_keeps_attributes_of_a_subclass(way):
    model = {"w": np.ones(3)}
    optimizer = Own(model, use_ema=True)
    optimizer.build(model)
    optimizer.apply({"w": np.ones(3)})
    new = way(optimizer)
    assert type(new) is Own
    assert new.history == [1]
    assert new.model is not model
    new.apply({"w": np.ones(3)})
    assert model["w"][0] != new.model["w"][0]  # its own model is what the copy trains
    assert (new.history, optimizer.history) == ([1, 2], [1])
    optimizer.apply({"w": np.ones(3)})
    assert_same(new.model["w"], model["w"])
    shallow = copy.copy(optimizer)
    assert shallow.model is model
    assert shallow.history is optimizer.history


@each_way
def test_optimizer_in_what_it_refers_to(way):
    model = {"w": np.ones(3)}
    optimizer = Own(model)
    optimizer.build({"w": model["w"]})
    model["optimizer"] = optimizer
    new = way(model)
    assert new["optimizer"].model is new
    new["optimizer"].apply({"w": np.ones(3)})
    assert new["w"][0] != 1 == model["w"][0]


def test_copy_is_refused_where_the_variables_hold_their_averages():
    optimizer = make("sgd", use_ema=True)
    optimizer.apply([np.ones(2)], [np.ones(2)])
    message = (
        "An optimizer cannot be copied inside averaged_weights(), where the variables hold their "
        "averages. Do it after the block."
    )
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with optimizer.averaged_weights(), raises(ValueError, message):
            way(optimizer)


def test_copies_of_a_copy():
    w = {"a": np.ones(2)}
    optimizer = make("nadam")
    optimizer.apply({"a": np.ones(2)}, w)
    again = pickled(copy.deepcopy(copy.copy(pickled(optimizer))))
    assert config_and(again) == config_and(optimizer)
    again.build(w)
    again.apply({"a": np.ones(2)})
    assert again.iterations == 2
