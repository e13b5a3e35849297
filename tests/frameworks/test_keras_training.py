"""What Keras does around an optimizer in training: schedules, callbacks, precision, compilation."""

import numpy as np
import pytest
from keras_checks import (
    FIT_NAMES,
    apply_scaled,
    assert_equal,
    assert_near,
    compiled,
    each_name,
    fit,
    keras,
    make,
    network,
    ravine,
    tensor,
    variable,
)

BOTH = (ravine.keras, keras.optimizers)


@pytest.mark.parametrize(
    "rate",
    [
        keras.optimizers.schedules.CosineDecay(0.05, 15, warmup_target=0.1, warmup_steps=4),
        keras.optimizers.schedules.PiecewiseConstantDecay([5, 12], [0.05, 0.02, 0.01]),
        lambda: 0.03,
    ],
)
def test_rates_that_are_not_numbers(rate):
    models = [compiled(each.SGD(rate, momentum=0.5, weight_decay=0.01)) for each in BOTH]
    for model in models:
        fit(model)
    assert_near(models[0].weights, models[1].weights)


def test_rate_of_a_schedule_follows_the_calls_of_apply():
    seen = []

    class Seeing(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            seen.append(int(step))
            return 0.5

    optimizer, w = ravine.keras.SGD(Seeing(), gradient_accumulation_steps=2), variable(1.0)
    for _ in range(4):
        optimizer.apply([tensor(0.5)], [w])
    assert seen == [0, 1, 2, 3]
    assert w.numpy() == 0.5


@pytest.mark.parametrize(
    "callback",
    [
        lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / (1 + epoch)),
        lambda: keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=10.0),
    ],
)
def test_callbacks_set_the_rate(callback):
    models = [compiled(make(each, "momentum")) for each in BOTH]
    for model in models:
        fit(model, epochs=3, callbacks=[callback()])
    rates = [float(model.optimizer.learning_rate.numpy()) for model in models]
    assert rates[0] == rates[1] < 0.05
    assert_near(models[0].weights, models[1].weights)


def test_rate_may_be_set_to_a_schedule():
    optimizer, w = ravine.keras.SGD(1.0), variable(1.0)
    optimizer.apply([tensor(0.25)], [w])
    optimizer.learning_rate = 0.5
    optimizer.apply([tensor(0.25)], [w])
    optimizer.learning_rate = keras.optimizers.schedules.InverseTimeDecay(1.0, 1, 1.0)
    optimizer.apply([tensor(0.75)], [w])
    assert w.numpy() == 0.375


@pytest.mark.parametrize("name", FIT_NAMES)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(name, policy):
    def train(library):
        keras.config.set_dtype_policy(policy)
        try:
            model = network()
        finally:
            keras.config.set_dtype_policy("float32")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(make(library, name), loss)
        fit(model)
        return model

    ours, theirs = (train(each) for each in BOTH)
    is_scaled = isinstance(ours.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (policy == "mixed_float16")
    # One bit of an activation in 16 bits, once it differs, is seen in the weights.
    assert_near(ours.weights, theirs.weights, 2e-3)


@each_name
def test_dynamic_loss_scale_leaves_steps_out(name):
    w, twin = variable([1.0, 2.0]), variable([1.0, 2.0])
    optimizer = keras.optimizers.LossScaleOptimizer(
        make(ravine.keras, name), initial_scale=8.0, dynamic_growth_steps=2
    )
    # Its own, on jax, does not count what it needs of Nadam.
    other, scales = make(keras.optimizers, name), [8.0]
    for grad in ([8, -8], [8, 4], [np.inf, 0], [1, 1], [np.nan, 1], [4, 4]):
        apply_scaled(optimizer, [tensor(grad)], [w])
        if np.isfinite(grad).all():
            other.apply([tensor(grad) / scales[-1]], [twin])
        scales.append(float(optimizer.dynamic_scale.numpy()))
    assert scales == [8, 8, 16, 8, 8, 4, 4]
    assert int(optimizer.iterations) == int(other.iterations) == 4
    assert_near([w], [twin])


def test_product_of_nadam_survives_a_loss_scale_that_does_not_save_it(tmp_path):
    """Keras's own goes on with a product of 1 then."""
    grads = [tensor([4.0, -8.0])]

    def scaled():
        return keras.optimizers.LossScaleOptimizer(ravine.keras.Nadam(0.1), initial_scale=8.0)

    optimizer, w, store = scaled(), variable([1, 2]), {}
    for _ in range(3):
        apply_scaled(optimizer, grads, [w])
    optimizer.save_own_variables(store)
    again, twin = scaled(), variable([1, 2])
    again.build([twin])
    again.load_own_variables(store)
    twin.assign(w)
    for each, v in ((optimizer, w), (again, twin)):
        apply_scaled(each, grads, [v])
    assert_near([twin], [w], 1e-7)


def test_frozen_layers_stay_as_they_are():
    model = compiled(ravine.keras.Adam())
    model.layers[0].trainable = False
    model.compile(ravine.keras.Adam(), model.loss)
    before = model.layers[0].get_weights()
    fit(model, epochs=1)
    assert (model.layers[0].get_weights()[0] == before[0]).all()


def test_training_twice_goes_on():
    models = [compiled(make(ravine.keras, "Nadam", use_ema=True)) for _ in range(2)]
    fit(models[0], epochs=1)
    fit(models[1], epochs=1)
    for model in models:
        fit(model, epochs=1)
    assert_equal(models[0].weights, models[1].weights)
