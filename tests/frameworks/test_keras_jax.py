"""Our optimizers on variables of Keras that are arrays of JAX: inside of compiled programs."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from keras_checks import (
    BACKEND,
    array,
    assert_equal,
    assert_near,
    assert_same,
    compiled,
    each_rule,
    fit,
    keras,
    make,
    ravine,
    refused,
    tensor,
    values,
    variable,
)

from ravine import _core

if BACKEND != "jax":
    pytest.skip("set KERAS_BACKEND=jax, in a run of its own", allow_module_level=True)
import jax
import jax.numpy as jnp
from jax.experimental import sparse

SHAPES = [(5, 30), (7,), (), (0, 3), (2, 3, 4, 5)]
OPTIONS = {
    "none": {},
    "all": {
        "global_clipnorm": 1.0,
        "weight_decay": 0.1,
        "use_ema": True,
        "ema_overwrite_frequency": 2,
        "loss_scale_factor": 8.0,
    },
    "accumulation": {"clipnorm": 0.5, "gradient_accumulation_steps": 2, "use_ema": True},
    "clipvalue": {"clipvalue": 0.25},
}


def arrays(seed):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype("float32") for shape in SHAPES]


class Program:
    """A compiled step, given the values of the variables to keep."""

    def __init__(self, optimizer, variables):
        optimizer.build(variables)

        def step(state, grads):
            return list(optimizer.stateless_apply(state[1], grads, state[0]))

        self.state = [[v.value for v in each] for each in (variables, optimizer.variables)]
        self.step = jax.jit(step, donate_argnums=0)

    def __call__(self, grads):
        self.state = self.step(self.state, grads)

    def weights(self):
        return [np.array(w) for w in self.state[0]]

    def addresses(self):
        return [each.unsafe_buffer_pointer() for group in self.state for each in group]


def twin_of(rule, **options):
    """Make one of ravine's own, with a rate that is rounded as Keras does."""
    twin = make(ravine, rule, **options)
    twin.learning_rate = float(np.float32(twin.learning_rate))
    return twin


def assert_all_same(found, expected):
    for i, (w, other) in enumerate(zip(found, expected, strict=True)):
        assert_same(w, other, str(i))


@each_rule
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_programs_step_in_place_with_the_bits_of_arrays(rule, options):
    program = Program(make(ravine.keras, rule, **options), [variable(w) for w in arrays(0)])
    twin, expected = twin_of(rule, **options), arrays(0)
    before = program.addresses()
    for i in range(1, 6):
        program(arrays(i))
        twin.apply(arrays(i), expected)
        assert_all_same(program.weights(), expected)
    assert program.addresses() == before
    assert program.step._cache_size() == 1  # rate and count are no constants of the program


@each_rule
def test_programs_with_variables_and_gradients_of_many_types(rule):
    types = ["float16", "bfloat16", "float32", "bfloat16", "float16"]
    options = {"global_clipnorm": 1.0, "use_ema": True, "gradient_accumulation_steps": 2}

    def typed(seed, types):
        return [
            a.astype(keras.ops.zeros((), t).dtype) for a, t in zip(arrays(seed), types, strict=True)
        ]

    program = Program(
        make(ravine.keras, rule, **options),
        [variable(w, t) for w, t in zip(arrays(0), types, strict=True)],
    )
    twin, expected = twin_of(rule, **options), typed(0, types)
    for i in range(1, 5):
        grads = typed(i, types[::-1] if i % 2 else types)
        program(grads)
        twin.apply(grads, expected)
        assert_all_same(program.weights(), expected)


def test_fit_without_a_program():
    def trained(**options):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(make(ravine.keras, "Nadam"), "mse", **options)
        for _ in range(3):
            model.train_on_batch(np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))
        return model.weights

    assert_near(trained(run_eagerly=True), trained())


def test_fit_is_in_place():
    class Addresses(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            state = self.model._jax_state
            groups = state["trainable_variables"], state["optimizer_variables"]
            # JAX gives the memory of single numbers to the first results that are some.
            arrays = [v for group in groups for v in group if v.ndim > 0]
            seen.append([v.unsafe_buffer_pointer() for v in arrays])

    seen = []
    fit(compiled(make(ravine.keras, "Nadam", global_clipnorm=1.0)), 1, callbacks=[Addresses()])
    assert len(seen) == 5
    assert all(addresses == seen[0] for addresses in seen)


def test_averages_can_be_trained_on():
    """Keras's own gives two variables one array, which cannot be donated then."""
    model = compiled(ravine.keras.Nadam(use_ema=True))
    for _ in range(2):
        fit(model, epochs=1)
    averages = model.optimizer._model_variables_moving_average
    assert_equal(model.trainable_variables, averages)


def test_steps_outside_of_programs_leave_old_arrays_alone():
    w = variable([1, 2])
    before = w.value
    ravine.keras.SGD(1.0).apply([tensor([0.5, 0.5])], [w])
    assert before.tolist() == [1, 2]
    assert w.value.tolist() == [0.5, 1.5]


@each_rule
def test_gradient_that_is_missing_when_the_window_ends(rule):
    options = {"gradient_accumulation_steps": 2, "weight_decay": 0.1}
    optimizer, twin = make(ravine.keras, rule, **options), twin_of(rule, **options)
    variables, expected = [variable(w) for w in arrays(0)], arrays(0)
    optimizer.build(variables)
    for i, missing in enumerate([(), (0, 3), (1,), (1, 2), (2,), ()]):
        grads = [None if k in missing else g for k, g in enumerate(arrays(1 + i))]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)
            optimizer.apply([None if g is None else tensor(g) for g in grads], variables)
            twin.apply(grads, expected)
        assert_all_same(values(variables), expected)


@pytest.mark.parametrize("donated", [(), (0,)])
def test_gradients_may_be_the_variables(donated):
    optimizer = ravine.keras.SGD(0.5, momentum=0.5)
    optimizer.build([variable([1.0, 2.0]), variable([3.0, 4.0])])

    def step(weights, state):
        return optimizer.stateless_apply(state, weights[::-1], weights)

    weights = [jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])]
    weights, _ = jax.jit(step, donate_argnums=donated)(
        weights, [v.value for v in optimizer.variables]
    )
    assert [w.tolist() for w in weights] == [[-0.5, 0], [2.5, 3]]


def test_one_array_may_be_given_for_many():
    optimizer = ravine.keras.Adam(0.5)
    optimizer.build([variable([0.0, 0.0])])
    zero = jnp.zeros(2)
    weights, state = optimizer.stateless_apply(
        [jnp.int32(0), jnp.float32(0.5), zero, zero], [jnp.ones(2)], [zero]
    )
    np.testing.assert_allclose(weights[0], [-0.5, -0.5], 1e-5)
    np.testing.assert_allclose(np.stack(state[2:]), [[0.1, 0.1], [0.001, 0.001]], 1e-6)
    assert zero.tolist() == [0, 0]


def test_plans_are_not_mistaken_for_each_other():
    """Two optimizers over the very same memory, which differ in all that a plan keeps."""
    w = variable(np.ones(64))
    first, second = ravine.keras.SGD(0.5, weight_decay=0.5), ravine.keras.SGD(0.5, weight_decay=0.5)
    second.exclude_from_weight_decay(var_list=[w])
    programs = [Program(optimizer, [w]) for optimizer in (first, second)]
    expected, grad = np.ones(64, "float32"), np.zeros(64, "float32")
    for i in range(6):
        programs[i % 2].state[0] = programs[1 - i % 2].state[0]
        programs[i % 2]([grad])
        if i % 2 == 0:
            expected *= 0.75
        assert_same(programs[i % 2].weights()[0], expected)


def test_programs_on_many_threads():
    programs = [
        Program(make(ravine.keras, "Nadam", use_ema=True), [variable(w) for w in arrays(i)])
        for i in range(4)
    ]

    def train(program):
        for i in range(20):
            program(arrays(i))

    threads = [threading.Thread(target=train, args=[program]) for program in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for start, program in enumerate(programs):
        twin, expected = twin_of("Nadam", use_ema=True), arrays(start)
        for i in range(20):
            twin.apply(arrays(i), expected)
        # The product of the momenta is kept in 32 bits.
        for w, other in zip(program.weights(), expected, strict=True):
            np.testing.assert_allclose(w, other, 1e-5, 1e-6)


def test_nadam_inside_a_loss_scale_in_a_program():
    """Keras does not hand its product over there: it is found from the number of steps."""
    inner = ravine.keras.Nadam(0.1)
    program = Program(keras.optimizers.LossScaleOptimizer(inner, 8.0), [variable([1.0, 2.0])])
    twin, expected = ravine.Nadam(float(np.float32(0.1))), [np.array([1, 2], "float32")]
    for i in range(1, 5):
        program([np.array([8.0 * i, -4.0], "float32")])
        twin.apply([np.array([i, -0.5], "float32")], expected)
    np.testing.assert_allclose(program.weights()[0], expected[0], 1e-6)


def test_rates_of_python_are_not_rounded():
    w, twin = variable([1.0]), np.array([1], "float32")
    ravine.keras.RMSprop(lambda: 0.1).apply([tensor([1.0])], [w])
    ravine.RMSprop(0.1).apply([np.array([1], "float32")], [twin])
    assert_same(array(w), twin)


def test_arrays_in_parts_on_several_devices():
    """In a process of its own: the number of devices is fixed when JAX begins."""
    code = """if True:
        import numpy as np, jax, keras, ravine.keras
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        mesh = Mesh(np.array(jax.devices()), ("x",))
        parts, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("x",), ()))
        w = keras.Variable(np.arange(8, dtype="float32"))
        optimizer = ravine.keras.SGD(0.5, momentum=0.5, global_clipnorm=1.0)
        optimizer.build([w])
        weights, *state, grads = (
            jax.device_put(x, parts if x.ndim else whole)
            for x in [w.value, *(v.value for v in optimizer.variables), np.ones(8, "float32")]
        )
        assert len(weights.addressable_shards) == 2
        (result,), _ = jax.jit(optimizer.stateless_apply)(state, [grads], [weights])
        print(np.asarray(result).tobytes().hex())
    """
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    expected = np.arange(8, dtype="float32")
    twin = ravine.SGD(0.5, momentum=0.5, global_clipnorm=1.0)
    twin.apply([np.ones(8, "float32")], [expected])
    assert done.stdout.strip() == expected.tobytes().hex(), done.stderr


# --- What is refused


def test_rate_that_is_not_finite():
    message = "learning_rate must be finite."
    refused(
        ravine.keras.SGD(lambda: jnp.float32(np.nan)),
        [tensor([1.0])],
        [variable([1])],
        ValueError,
        message,
    )
    optimizer = ravine.keras.SGD(1.0)
    program = Program(optimizer, [variable([1.0])])
    program.state[1][1] = jnp.float32(np.inf)
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        program([np.ones(1, "float32")])


def test_sparse_gradient():
    refused(
        ravine.keras.SGD(),
        [sparse.BCOO((jnp.ones(1), jnp.zeros((1, 2), int)), shape=(2, 2))],
        [variable(np.eye(2))],
        TypeError,
        "A gradient must be dense. Received: a BCOO. Pass todense() of it.",
    )


def test_arrays_on_a_gpu():
    jax.ffi.register_ffi_target("on_gpu", _core.jax_handlers["CUDA"], platform="cpu")
    call = jax.ffi.ffi_call("on_gpu", jax.ShapeDtypeStruct((1,), np.float32))
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"runs on the CPU only\. Set JAX_PLATF"):
        call(jnp.ones(1)).block_until_ready()


# --- What XLA could hand over


def called(operands, count, **attributes):
    """Call the step without asking for results in place."""
    results = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in operands[2 : 2 + count]]
    attributes = {"rule": "SGD", "gradients": "1", "decays": "1", **attributes}
    return jax.ffi.ffi_call("ravine_step", results)(*operands, **attributes)


def test_results_may_be_elsewhere():
    w = jnp.array([1.0, 2.0])
    (result,) = called([jnp.int32(0), jnp.float32(0.5), w, jnp.ones(2)], 1)
    assert (w.tolist(), result.tolist()) == ([1, 2], [0.5, 1.5])


@pytest.mark.parametrize(
    ("iteration", "rate", "attributes", "message"),
    [
        (jnp.int32(0), jnp.float32(1), {"rule": "Lion"}, "There is no rule of the name Lion."),
        (jnp.float32(0), jnp.float32(1), {}, "The iteration must have dtype int32 or int64."),
        (jnp.int32(0), jnp.int32(1), {}, "The learning rate must have dtype float32 or float64."),
        (jnp.int32(-1), jnp.float32(1), {}, "iteration must be at least 0"),
        (jnp.int32(0), jnp.float32(1), {"decays": "11"}, "a letter for each variable"),
        (
            jnp.int32(0),
            jnp.float32(1),
            {"gradients": "11", "decays": "11"},
            "A result: Index out of range",
        ),
        (
            jnp.int32(0),
            jnp.float32(1),
            {"clipnorm": np.float64(-1)},
            "clipnorm must be a finite number",
        ),
        (jnp.int32(0), jnp.float32(1), {"clipnorm": 2}, "clipnorm: Wrong"),
    ],
)
def test_calls_that_make_no_sense(iteration, rate, attributes, message):
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        jax.block_until_ready(called([iteration, rate, jnp.ones(1), jnp.ones(1)], 1, **attributes))
