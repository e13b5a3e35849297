"""The same bits on the GPU as on the CPU with every option, and with numbers that change."""

import numpy as np
import pytest
from checks import DTYPES, each_rule, ignores_missing, normal
from gpu_checks import Twins, gradients, twins

import ravine

OPTIONS = {
    "weight_decay": {"weight_decay": 0.1},
    "clipvalue": {"clipvalue": 0.5},
    "clipnorm": {"clipnorm": 1.0},
    "clipnorm_inactive": {"clipnorm": 1e6},
    "global_clipnorm": {"global_clipnorm": 1.0},
    "global_clipnorm_inactive": {"global_clipnorm": 1e6, "weight_decay": 0.1},
    "loss_scale": {"loss_scale_factor": 3.0},
    "loss_scale_and_norm": {"loss_scale_factor": 3.0, "clipnorm": 0.5},
    "ema": {"use_ema": True, "ema_momentum": 0.75},
    "ema_overwrite": {"use_ema": True, "ema_overwrite_frequency": 2},
    "accumulation": {"gradient_accumulation_steps": 3},
    "all": {
        "weight_decay": 0.1,
        "global_clipnorm": 1.0,
        "use_ema": True,
        "ema_overwrite_frequency": 2,
        "loss_scale_factor": 3.0,
        "gradient_accumulation_steps": 2,
    },
}
SIZES = [5, 0, 4099, 1, 2048, 9001]

each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
each_norm = pytest.mark.parametrize("norm", ["clipnorm", "global_clipnorm"])


def model(random, sizes=SIZES):
    return [normal(random, n, DTYPES[i % 4]) for i, n in enumerate(sizes)]


def some_missing(random, grads):
    """Take out some of the gradients, not all."""
    kept = random.integers(2, size=len(grads)).astype(bool)
    kept[random.integers(len(grads))] = True
    return [g if keep else None for g, keep in zip(grads, kept, strict=True)]


@each_option
@each_rule
def test_option(xp, schedule, rule, options):
    random = np.random.default_rng(60)
    variables = model(random)
    pair = twins(xp, rule, variables, excluded=[2, 3], **options)
    pair.run_at_once(gradients(random, variables, DTYPES[::-1], 2.0) for _ in range(7))


@ignores_missing
@each_option
@each_rule
def test_missing_gradients(xp, rule, options):
    random = np.random.default_rng(61)
    variables = model(random)
    pair = twins(xp, rule, variables, excluded=[0, 5], **options)
    pair.run(some_missing(random, gradients(random, variables, DTYPES)) for _ in range(8))


@ignores_missing
@pytest.mark.parametrize("pattern", ["last", "first", "never", "alternating"])
@each_rule
def test_window_with_missing_gradients(xp, rule, pattern):
    random = np.random.default_rng(62)
    variables = model(random, [7, 4100, 3])
    pair = twins(xp, rule, variables, gradient_accumulation_steps=3, clipnorm=1.0, use_ema=True)
    for step in range(9):
        grads = gradients(random, variables)
        present = {
            "last": step % 3 == 2,
            "first": step % 3 == 0,
            "never": False,
            "alternating": step % 2 == 0,
        }
        if not present[pattern]:
            grads[1] = None
        pair.run([grads])


def test_accumulation_of_all_types_at_once(xp, schedule):
    random = np.random.default_rng(63)
    variables = [normal(random, n, d) for n in (3, 4097) for d in DTYPES for _ in DTYPES]
    pair = twins(xp, "nadam", variables, gradient_accumulation_steps=4, loss_scale_factor=2.0)
    pair.run_at_once(gradients(random, variables, DTYPES) for _ in range(9))


# --- Norms


@each_norm
def test_norm_of_many_tiles(xp, norm):
    # More than 256 tiles of one gradient, more than 256 gradients: each accumulator gets several.
    random = np.random.default_rng(64)
    variables = [normal(random, n, np.float32) for n in (600_001, *[3] * 520)]
    pair = twins(xp, "sgd_momentum", variables, **{norm: 0.5})
    pair.run([gradients(random, variables)])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@each_norm
def test_gradient_that_is_not_finite(xp, schedule, norm, value):
    random = np.random.default_rng(65)
    variables = model(random)
    pair = twins(xp, "rmsprop_momentum", variables, use_ema=True, **{norm: 1.0})
    grads = gradients(random, variables, DTYPES)
    grads[2][17] = value
    pair.run_at_once([gradients(random, variables, DTYPES), grads])


@each_norm
def test_norm_whose_square_is_above_float32(xp, norm):
    variables = [np.ones(5, np.float32), np.ones(5), np.ones(3)]
    grads = [np.full(5, 1e30, np.float32), np.full(5, 1e140), np.full(3, 1e-300)]
    pair = twins(xp, "sgd", variables, **{norm: 1.0})
    pair.run([grads])


@each_norm
def test_norm_that_is_the_bound(xp, norm):
    pair = twins(xp, "sgd", [np.ones(2, np.float32)], **{norm: 5.0})
    pair.run([np.array(g, np.float32)] for g in ([3, 4], [3, np.nextafter(4, 5, dtype="f4")]))


# --- Numbers that change from step to step


@each_rule
def test_numbers_may_change_between_steps(xp, schedule, rule):
    random = np.random.default_rng(66)
    variables = model(random, [9, 4097])
    pair = twins(xp, rule, variables, use_ema=True)
    for name, value in [
        ("learning_rate", 0.3),
        ("weight_decay", 0.25),
        ("clipnorm", 0.5),
        ("clipnorm", None),
        ("global_clipnorm", 0.25),
        ("global_clipnorm", None),
        ("clipvalue", 0.125),
        ("learning_rate", 1e-3),
        ("loss_scale_factor", 4.0),
        ("ema_momentum", 0.5),
        ("ema_overwrite_frequency", 2),
        ("use_ema", False),
        *([("rho", 0.5)] if "rmsprop" in rule else []),
        *([("epsilon", 0.5)] if "sgd" not in rule else []),
        *([("momentum", 0.5)] if "momentum" in rule else []),
        *([("nesterov", True)] if "sgd_m" in rule else []),
        *([("beta_1", 0.5), ("beta_2", 0.25)] if "nadam" in rule else []),
        ("use_ema", True),
    ]:
        pair.set(name, value)
        pair.run_at_once(gradients(random, variables) for _ in range(2))


def test_schedule_and_functions_are_asked_at_every_step(xp):
    random = np.random.default_rng(67)
    variables = model(random)
    betas = [0.5, 0.6, 0.7, 0.8]

    def optimizer():
        left = iter(betas)
        rate = ravine.schedules.ExponentialDecay(0.5, 2, 0.5)
        return ravine.Nadam(rate, beta_1=lambda: next(left))

    Twins(xp, optimizer, variables).run(gradients(random, variables) for _ in betas)


def test_exclusions_may_change_between_steps(xp, schedule):
    random = np.random.default_rng(68)
    variables = model(random)
    pair = twins(xp, "sgd_nesterov", variables, weight_decay=0.5)
    for excluded in ([0], [], [1, 2, 5], [4]):
        for each, arrays in ((pair.cpu, pair.on_cpu), (pair.gpu, pair.on_gpu)):
            each.exclude_from_weight_decay([arrays[i] for i in excluded])
        pair.run_at_once(gradients(random, variables) for _ in range(2))


# --- Averages


@pytest.mark.parametrize("chosen", [None, [1], [2, 0]])
@pytest.mark.parametrize("rule", ["sgd", "nadam"])
def test_finalize(xp, schedule, rule, chosen):
    random = np.random.default_rng(69)
    variables = model(random)
    pair = twins(xp, rule, variables, use_ema=True)
    pair.run_at_once(gradients(random, variables) for _ in range(3))
    for each, arrays in ((pair.cpu, pair.on_cpu), (pair.gpu, pair.on_gpu)):
        each.finalize_variable_values(*([] if chosen is None else [[arrays[i] for i in chosen]]))
    pair.assert_equal()
    pair.run(gradients(random, variables) for _ in range(2))


def test_averaged_weights(xp, schedule):
    random = np.random.default_rng(70)
    variables = model(random)
    pair = twins(xp, "nadam", variables, use_ema=True)
    pair.run_at_once(gradients(random, variables) for _ in range(3))
    with pair.cpu.averaged_weights(), pair.gpu.averaged_weights():
        pair.assert_equal()
        assert (pair.on_cpu[0] != variables[0]).all()
    pair.run_at_once(gradients(random, variables) for _ in range(2))


def test_averages_before_the_first_step_change_nothing(xp):
    pair = twins(xp, "sgd", [np.ones(3)], use_ema=True)
    pair.gpu.finalize_variable_values()
    with pair.gpu.averaged_weights():
        pair.assert_equal()
    pair.assert_equal()
