"""Optax under ``jax.jit``, its buffers donated, so that XLA may update in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from ravine.bench.cases import BETA_1, BETA_2, CLIP, DECAY, EMA, EPSILON, MOMENTUM, RATE, RHO, Case

NEEDS = ("jax", "optax")


def peers(
    case: Case, variables: list[Any], grads: list[Any], threads: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield one, on copies: arrays of JAX cannot be changed."""
    jax, optax = import_module("jax"), import_module("optax")
    moments = {"b1": BETA_1, "b2": BETA_2, "eps": EPSILON}
    makers: dict[str, Callable[[], Any]] = {
        "sgd": lambda: optax.sgd(RATE),
        "nesterov": lambda: optax.sgd(RATE, MOMENTUM, nesterov=True),
        "rmsprop": lambda: optax.rmsprop(RATE, RHO, EPSILON),
        "nadam": lambda: optax.nadam(RATE, **moments),
        "adam": lambda: optax.adam(RATE, **moments),
    }
    rule = makers[case.rule]()
    if case.together:
        decay = optax.add_decayed_weights(-RATE * DECAY)
        rule = optax.chain(optax.clip_by_global_norm(CLIP), rule, decay)

    def update(weights: Any, state: Any, averages: Any, given: Any) -> Any:
        updates, state = rule.update(given, state, weights)
        weights = optax.apply_updates(weights, updates)
        if case.together:
            averages = optax.incremental_update(weights, averages, 1 - EMA)
        return weights, state, averages

    compiled = jax.jit(update, donate_argnums=(0, 1, 2))
    given = [jax.numpy.array(g) for g in grads]
    weights = [jax.numpy.array(w) for w in variables]
    averages = [jax.numpy.array(w) for w in variables] if case.together else ()
    kept = [weights, rule.init(weights), averages]

    def step() -> None:
        kept[:] = compiled(*kept, given)
        jax.block_until_ready(kept)

    yield "optax", step
