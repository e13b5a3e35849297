"""The same updates by others, on the very arrays that ravine updates where they can share them.

Those that clip, decay and average do it as their users would: by the calls that the library offers,
before and after its step. Slots and averages of PyTorch and optax have the type of the variables.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import cupy_peers
import numpy as np
import torch_peers
from cupy_peers import FORMULAS
from gpu_arrays import ArraySet, sampled
from gpu_cases import (
    BETA_1,
    BETA_2,
    CLIP,
    DECAY,
    EMA,
    EPSILON,
    MOMENTUM,
    RATE,
    RHO,
    SLOT_BYTES,
    Case,
)
from gpu_device import Gpu, imported
from timing import Contender, LeftOutError, first_line

# Relative to the largest element, after the steps of `agreement`.
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}
STEPS_COMPARED = 4
TEMPORARIES = 3  # arrays as large as the variables that foreach and optax may need beside their own
RESERVE = 1 << 30  # bytes that are left for what nobody counted


# --- optax


def optax_jit(case: Case, sets: list[ArraySet], gpu: Gpu) -> Contender:
    """Optax under jax.jit, variables and state donated; on one set, timed by the host's clock."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax, optax, dlpack = imported("jax"), imported("optax"), imported("jax.dlpack")
    if jax.default_backend() != "gpu":
        raise LeftOutError(f"this JAX ({jax.__version__}) has no GPU")
    makers = {
        "sgd": partial(optax.sgd, RATE),
        "momentum": partial(optax.sgd, RATE, momentum=MOMENTUM),
        "rmsprop": partial(optax.rmsprop, RATE, decay=RHO, eps=EPSILON),
        "centered": partial(
            optax.rmsprop, RATE, decay=RHO, eps=EPSILON, centered=True, momentum=MOMENTUM
        ),
        "nadam": partial(optax.nadam, RATE, b1=BETA_1, b2=BETA_2, eps=EPSILON),
    }
    rule = makers[case.rule]()
    if case.options:
        # Decay in proportion to the rate, beside the update and not inside it, as in ravine.
        decay = optax.add_decayed_weights(-RATE * DECAY)
        rule = optax.chain(optax.clip_by_global_norm(CLIP), rule, decay)

    def own(array: Any) -> Any:
        if str(array.dtype) == "bfloat16":
            integers = dlpack.from_dlpack(array.view(np.int16))
            return jax.lax.bitcast_convert_type(integers, jax.numpy.bfloat16)
        return jax.numpy.array(dlpack.from_dlpack(array), copy=True)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def update(variables: Any, state: Any, averages: Any, grads: Any) -> Any:
        changes, state = rule.update(grads, state, variables)
        variables = optax.apply_updates(variables, changes)
        if case.options:
            averages = optax.incremental_update(variables, averages, 1 - EMA)
        return variables, state, averages

    grads = [own(g) for g in sets[0].gradients]
    variables = [own(w) for w in sets[0].variables]
    averages = [jax.numpy.array(w, copy=True) for w in variables] if case.options else []
    current = [variables, rule.init(variables), averages]

    def step() -> None:
        current[:] = update(*current, grads)

    return Contender("optax jit", [step], wait=lambda: jax.block_until_ready(current))


# --- All


@dataclass(frozen=True)
class Peer:
    """Somebody to compare with.

    Parameters
    ----------
    name : str
    make : callable
        Makes the contender. Raises if it cannot be, and says why.
    family : str
        Under which it is asked for.
    agrees_on : collection of str
        Rules by the same formula as ravine's, if there are no options.
    agrees_with_options : bool
        Whether that holds with options too, and for bfloat16.
    temporaries : int
        How many times the memory of the variables it may need, beyond its state.
    own_variables : bool
        Whether it has copies of variables and gradients.
    """

    name: str
    make: Callable[[Case, list[ArraySet], Gpu], Contender]
    family: str
    agrees_on: tuple[str, ...] = ()
    agrees_with_options: bool = False
    temporaries: int = 0
    own_variables: bool = False

    def agrees(self, case: Case) -> bool:
        """Whether its results must be those of ravine."""
        is_plain = not case.options and case.dtype == "float32"
        return case.rule in self.agrees_on and (is_plain or self.agrees_with_options)

    def memory(self, case: Case) -> int:
        """Bytes that it needs beside the arrays, about."""
        item = SLOT_BYTES if self.family == "cupy" else case.item
        state = item * (case.slots + case.options)
        extra = case.item * (self.temporaries + 2 * self.own_variables)
        return case.parameters * (state + extra)


def torch_peer(name: str, temporaries: int, **how: bool) -> Peer:
    """Return PyTorch in one of its ways."""
    make = partial(torch_peers.eager, name, how)
    return Peer(name, make, "torch", ("sgd", "momentum"), temporaries=temporaries)


PEERS = (
    torch_peer("torch fused", 0, fused=True),
    torch_peer("torch foreach", TEMPORARIES, foreach=True),
    Peer("cupy flat", cupy_peers.flat, "cupy", tuple(FORMULAS), agrees_with_options=True),
    Peer("cupy each", cupy_peers.each, "cupy", tuple(FORMULAS), agrees_with_options=True),
    Peer(
        "torch compile",
        torch_peers.compiled,
        "compile",
        ("sgd", "momentum"),
        temporaries=TEMPORARIES,
    ),
    Peer("optax jit", optax_jit, "optax", temporaries=TEMPORARIES, own_variables=True),
)


def agreement(peer: Peer, case: Case, gpu: Gpu) -> float:
    """Step both over equal arrays; return how far apart they are, beside the largest element."""
    ours, theirs = (sampled(gpu, case.shapes, case.dtype) for _ in range(2))
    optimizer = case.optimizer()
    optimizer.build(ours.variables)
    contender = peer.make(case, [theirs], gpu)
    for _ in range(STEPS_COMPARED):
        optimizer.apply(ours.gradients)
        contender.steps[0]()
    gpu.wait()
    worst = 0.0
    for own, other in zip(ours.variables, theirs.variables, strict=True):
        a, b = (gpu.host(array).astype(np.float64) for array in (own, other))
        worst = max(worst, float(np.max(np.abs(a - b)) / np.max(np.abs(a))))
    if not worst <= TOLERANCE[case.dtype]:  # nor if it is NaN
        raise LeftOutError(f"its result is another: off by {worst:.1e}")
    return worst


def contenders(
    case: Case, sets: list[ArraySet], gpu: Gpu, families: list[str]
) -> Iterator[tuple[str, Contender | None, dict[str, Any]]]:
    """Make each peer, checked: its name, the contender or None, and a note on why or how near."""
    left = gpu.free_bytes() - RESERVE
    for peer in PEERS:
        if peer.family not in families:
            how = "--compile" if peer.family == "compile" else f"--peers {peer.family}"
            yield peer.name, None, {"reason": f"not asked for ({how})"}
            continue
        try:
            needed = peer.memory(case) * len(sets)
            if needed > left:
                raise LeftOutError(
                    f"needs about {needed / 1e9:.1f} GB more, {max(left, 0) / 1e9:.1f} are left"
                )
            note = {}
            if peer.agrees(case):
                note = {"difference": agreement(peer, case, gpu)}
            made = peer.make(case, sets, gpu)
            left -= needed
        except LeftOutError as reason:
            yield peer.name, None, {"reason": str(reason)}
        except Exception as error:
            yield peer.name, None, {"reason": first_line(error)}
        else:
            yield peer.name, made, note
