"""Keras, on the backend that KERAS_BACKEND names: as `fit` calls it, compiled on JAX."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from ravine.bench.cases import BETA_1, BETA_2, EPSILON, MOMENTUM, RATE, RHO, TOGETHER, Case
from ravine.bench.peers._torch import _tensor

NEEDS = ("keras", os.environ.get("KERAS_BACKEND", "torch"))


def peers(
    case: Case, variables: list[Any], grads: list[Any], threads: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield one, on copies. Others than torch and jax are not timed."""
    keras = import_module("keras")
    backend = keras.backend.backend()
    options = TOGETHER if case.together else {}
    moments = (BETA_1, BETA_2, EPSILON)
    makers: dict[str, Callable[[], Any]] = {
        "sgd": lambda: keras.optimizers.SGD(RATE, **options),
        "nesterov": lambda: keras.optimizers.SGD(RATE, MOMENTUM, nesterov=True, **options),
        "rmsprop": lambda: keras.optimizers.RMSprop(RATE, RHO, epsilon=EPSILON, **options),
        "nadam": lambda: keras.optimizers.Nadam(RATE, *moments, **options),
        "adam": lambda: keras.optimizers.Adam(RATE, *moments, **options),
    }
    if backend not in ("torch", "jax"):
        return
    optimizer = makers[case.rule]()
    if backend == "torch":
        torch = import_module("torch")
        torch.set_num_threads(threads)
        own = [keras.Variable(_tensor(torch, w).clone(), dtype=case.dtype) for w in variables]
        given = [_tensor(torch, g).clone() for g in grads]
        optimizer.build(own)

        def step_on_torch() -> None:
            with torch.no_grad():
                optimizer.apply(given, own)

        yield "keras torch", step_on_torch
        return
    jax = import_module("jax")
    own = [keras.Variable(jax.numpy.array(w), dtype=case.dtype) for w in variables]
    optimizer.build(own)
    arrays = [jax.numpy.array(g) for g in grads]
    compiled = jax.jit(optimizer.stateless_apply, donate_argnums=(0, 2))
    kept = [[jax.numpy.array(v.value) for v in each] for each in (own, optimizer.variables)]

    def step_on_jax() -> None:
        kept[:] = compiled(kept[1], arrays, kept[0])
        jax.block_until_ready(kept)

    yield "keras jax", step_on_jax
