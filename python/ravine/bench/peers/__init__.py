"""The same updates by others, each in a module of its own.

A module has `NEEDS`, what is imported, and `peers(case, variables, grads, threads)`, which yields
names and steps: functions without arguments that return when the step is done. Peers work on the
very arrays where they can. What clips, decays and averages does so as its users would: by the calls
that the library offers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ravine.bench.cases import Case

Step = Callable[[], object]

# In the order of the table.
MODULES = {
    "numpy": "_numpy",
    "numba": "_numba",
    "torch": "_torch",
    "optax": "_optax",
    "keras": "_keras",
    "deepspeed": "_deepspeed",
    "thinc": "_thinc",
}


def set_threads(threads: int) -> None:
    """Have libraries that are not imported yet use so many threads."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # Those that ask nobody ask the system how many processors there are.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def missing(peer: str) -> list[str]:
    """Return the packages that a peer needs and that are not installed."""
    needs = import_module(f"{__name__}.{MODULES[peer]}").NEEDS
    return [package for package in needs if find_spec(package) is None]


def steps(
    peer: str, case: Case, variables: list[Any], grads: list[Any], threads: int
) -> Iterator[tuple[str, Step]]:
    """Yield the steps of a peer, none if it has no such rule; import it on the way."""
    module = import_module(f"{__name__}.{MODULES[peer]}")
    found: Iterator[tuple[str, Step]] = module.peers(case, variables, grads, threads)
    return found
