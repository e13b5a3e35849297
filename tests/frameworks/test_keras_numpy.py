"""Our optimizers on Keras's NumPy backend, where `fit` is not, and what other backends get."""

import os
import subprocess
import sys

import numpy as np
import pytest
from checks import assert_same

# Before anything imports Keras: other tests want it with another backend.
if os.environ.get("KERAS_BACKEND") != "numpy":
    pytest.skip("set KERAS_BACKEND=numpy, in a run of its own", allow_module_level=True)
pytest.importorskip("jax", reason="needs JAX, which Keras's NumPy backend imports")
pytest.importorskip("keras", reason="needs Keras and JAX", exc_type=ImportError)

import keras

import ravine.keras

RULES = {
    "SGD": {"momentum": 0.5, "nesterov": True},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "Nadam": {},
}
OPTIONS = {
    "global_clipnorm": 1.0,
    "weight_decay": 0.1,
    "use_ema": True,
    "ema_overwrite_frequency": 3,
    "loss_scale_factor": 8.0,
}
each_rule = pytest.mark.parametrize("name", RULES)


def made(value, dtype="float32"):
    return keras.Variable(np.asarray(value, np.float64), dtype=dtype)


def run(library, name, dtype="float32", steps=5, **options):
    optimizer = getattr(library, name)(**{**RULES[name], **options})
    variables = [made([[1, 2], [3, 4]], dtype), made(5, dtype)]
    random = np.random.default_rng(0)
    for _ in range(steps):
        grads = [random.standard_normal(v.shape).astype("float32") for v in variables]
        optimizer.apply(grads, variables)
    return optimizer, variables


@each_rule
@pytest.mark.parametrize("options", [{}, OPTIONS, {"gradient_accumulation_steps": 2}])
def test_values_are_those_of_keras(name, options):
    (ours, variables), (theirs, others) = (
        run(library, name, **options) for library in (ravine.keras, keras.optimizers)
    )
    for v, w in zip([*variables, *ours.variables], [*others, *theirs.variables], strict=True):
        np.testing.assert_allclose(v.value, w.value, 2e-5, 3e-6, err_msg=v.path)


@each_rule
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_slots_have_32_bits(name, dtype):
    optimizer, variables = run(ravine.keras, name, dtype)
    assert {v.dtype for v in optimizer.variables[1:]} == {"float32"}
    assert {v.dtype for v in variables} == {dtype}
    assert all(np.isfinite(v.value.astype("float32")).all() for v in variables)


def test_steps_are_in_place_and_see_assignments():
    w = made([1, 2])
    optimizer = ravine.keras.SGD(1.0, momentum=0.5)
    optimizer.build([w])
    array = w.value
    optimizer.apply([np.array([0.5, 0.5], "float32")], [w])
    assert w.value is array
    w.assign([3, 4])
    optimizer.apply([np.array([0.5, 0.5], "float32")], [w])
    assert w.value.tolist() == [2.25, 3.25]
    assert array.tolist() == [0.5, 1.5]


def test_variable_in_another_order_keeps_its_slots():
    w, twin = made(np.ones((2, 3))), made(np.ones((2, 3)))
    optimizers = [ravine.keras.SGD(0.5, momentum=0.5) for _ in range(2)]
    grad = np.arange(6, dtype="float32").reshape(2, 3)
    for _ in range(3):
        for optimizer, v in zip(optimizers, (w, twin), strict=True):
            optimizer.apply([grad], [v])
        w.assign(np.asfortranarray(w.value))
    assert_same(w.value, twin.value)
    assert_same(optimizers[0].momentums[0].value, optimizers[1].momentums[0].value)


@each_rule
def test_stateless_steps_are_those_of_apply(name):
    optimizer, variables = run(ravine.keras, name, **OPTIONS)
    before = [v.value.copy() for v in [*variables, *optimizer.variables]]
    grads = [np.ones(v.shape, "float32") for v in variables]
    weights, state = optimizer.stateless_apply(
        [v.value for v in optimizer.variables], grads, [v.value for v in variables]
    )
    for v, w in zip([*variables, *optimizer.variables], before, strict=True):
        assert_same(v.value, w, v.path)
    optimizer.apply(grads, variables)
    for v, w in zip([*variables, *optimizer.variables], [*weights, *state], strict=True):
        assert_same(v.value, np.asarray(w), v.path)


def test_averages_become_the_values_and_stay_their_own():
    optimizer, variables = run(ravine.keras, "SGD", use_ema=True)
    optimizer.finalize_variable_values(variables)
    optimizer.apply([np.ones(v.shape, "float32") for v in variables], variables)
    averages = optimizer.variables[2:4]
    for v, average in zip(variables, averages, strict=True):
        assert not np.shares_memory(v.value, average.value)
        assert (v.value != average.value).all()


def test_other_backends_are_named(monkeypatch):
    monkeypatch.setattr("ravine.keras._native._backend", "tensorflow")
    with pytest.raises(RuntimeError) as caught:
        ravine.keras.Nadam()
    assert str(caught.value) == (
        "ravine.keras needs Keras's backend torch, jax or numpy. Received: tensorflow, whose "
        "variables cannot be updated in place. Set the environment variable KERAS_BACKEND=torch "
        "before Keras is imported, or use keras.optimizers.Nadam."
    )


def test_build_without_the_step_for_jax():
    """Of the backend itself, which may be there where jaxlib's headers were not."""
    code = (
        "from ravine import _core; _core.jax_handlers = {}; import ravine.keras; "
        "ravine.keras.Nadam()"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "RuntimeError: This build of ravine has no step for JAX. Build one with jaxlib's headers: "
        "RAVINE_JAX=1 pip install --force-reinstall --no-deps --no-cache-dir --no-binary ravine "
        "ravine. Or use keras.optimizers.Nadam."
    )
