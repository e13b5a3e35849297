"""Time Keras's own optimizers and ours in Keras on PyTorch or JAX: `apply`, and a step of `fit`.

In one process, in turn, round after round, on a network of 85,000 parameters and images of digits.
On JAX, `apply` is a compiled program that is given all arrays to keep, as in `fit`.

    KERAS_BACKEND=torch python benchmarks/bench_keras.py --json keras.json
    KERAS_BACKEND=jax python benchmarks/bench_keras.py --json keras_jax.json
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from sklearn.datasets import load_digits

import ravine
import ravine.keras

OPTIONS = {"global_clipnorm": 1.0, "use_ema": True, "weight_decay": 0.01}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {}),
    "SGD, Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "RMSprop, centered": ("RMSprop", {"centered": True}),
    "Adam": ("Adam", {}),
    "Nadam": ("Nadam", {}),
    "Nadam + clip, average, decay": ("Nadam", OPTIONS),
}
BACKEND = keras.backend.backend()
# How many times as long Keras's own `apply` is to take, where it is not compiled.
GOALS = {"Nadam": 8, "Nadam + clip, average, decay": 20} if BACKEND == "torch" else {}
BATCH = 64
Row = dict[str, Any]


def compiled(optimizer: Any) -> Any:
    """Make the network."""
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    layers = [dense(256, "relu"), dense(256, "relu"), dense(10)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def of_apply(model: Any, calls: int) -> Callable[[], float]:
    """Return what times `apply` on the weights of a network: seconds a call."""
    optimizer, variables = model.optimizer, model.trainable_variables
    random = np.random.default_rng(0)
    grads = [
        keras.ops.convert_to_tensor(random.standard_normal(v.shape).astype("float32") * 1e-3)
        for v in variables
    ]
    optimizer.build(variables)
    run = (repeated_in_torch if BACKEND == "torch" else repeated_in_jax)(optimizer, grads)
    run(1)

    def timed() -> float:
        start = time.perf_counter()
        run(calls)
        return (time.perf_counter() - start) / calls

    return timed


def repeated_in_torch(optimizer: Any, grads: list[Any]) -> Callable[[int], None]:
    """Return what calls `apply` so many times."""
    no_grad = importlib.import_module("torch").no_grad

    def run(calls: int) -> None:
        with no_grad():
            for _ in range(calls):
                optimizer.apply(grads)

    return run


def repeated_in_jax(optimizer: Any, grads: list[Any]) -> Callable[[int], None]:
    """Return what runs a compiled step so many times."""
    jax = importlib.import_module("jax")
    variables = optimizer._trainable_variables, optimizer.variables
    state = [[jax.numpy.copy(v.value) for v in group] for group in variables]

    def step(state: list[Any]) -> list[Any]:
        return list(optimizer.stateless_apply(state[1], grads, state[0]))

    step = jax.jit(step, donate_argnums=0)

    def run(calls: int) -> None:
        nonlocal state
        for _ in range(calls):
            state = step(state)
        jax.block_until_ready(state)

    return run


def of_fit(model: Any) -> Callable[[], float]:
    """Return what times `fit` for an epoch: seconds a step."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    model.fit(x, y, **options)

    def timed() -> float:
        start = time.perf_counter()
        model.fit(x, y, **options)
        return (time.perf_counter() - start) / -(-len(x) // BATCH)

    return timed


def in_turn(timed: list[Callable[[], float]], turn: int) -> tuple[float, float]:
    """Time both, in every second turn the other one first: the first may be at an advantage."""
    first, second = timed if turn % 2 == 0 else timed[::-1]
    samples = first(), second()
    return samples if turn % 2 == 0 else samples[::-1]


def compare(name: str, arguments: dict[str, Any], kind: str, rounds: int, calls: int) -> Row:
    """Time Keras's own and ours in turn; return medians, in microseconds, and their ratio."""
    timed = []
    for library in (keras.optimizers, ravine.keras):
        model = compiled(getattr(library, name)(**arguments))
        timed.append(of_apply(model, calls) if kind == "apply" else of_fit(model))
    samples = [in_turn(timed, turn) for turn in range(rounds)]
    theirs, ours = (statistics.median(column) * 1e6 for column in zip(*samples, strict=True))
    ratio = statistics.median(mine and other / mine for other, mine in samples)
    return {"kind": kind, "keras": theirs, "ravine": ours, "ratio": ratio}


def is_left_out(case: str, kind: str) -> bool:
    """Whether Keras's own fails: a second `fit` with averages on jax, whose memory it gave away."""
    return BACKEND == "jax" and kind == "fit" and "use_ema" in CASES[case][1]


def is_met(row: Row) -> bool | None:
    """Whether a goal is met; None if there is none. `fit` is to be no slower."""
    goal = GOALS.get(row["case"]) if row["kind"] == "apply" else 1
    return None if goal is None else row["ratio"] >= goal


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--calls", type=int, default=20, help="of apply, in a round")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", type=int, help="of ravine, and of PyTorch")
    parser.add_argument("--json", help="file for the figures")
    given = parser.parse_args(arguments)
    if given.threads:
        ravine.set_num_threads(given.threads)
    threads = {"ravine": ravine.get_num_threads()}
    if BACKEND == "torch":
        torch = importlib.import_module("torch")
        if given.threads:
            torch.set_num_threads(given.threads)
        threads["PyTorch"] = torch.get_num_threads()
    load = os.getloadavg()[0]
    print(f"Threads {threads}, load {load:.1f} on {os.cpu_count()} CPUs; microseconds\n")
    print(f"{'':<30}{'':<8}{'Keras':>9}{'ravine':>9}{'ratio':>8}")
    rows = []
    for case in given.cases:
        for kind in ("apply", "fit"):
            if is_left_out(case, kind):
                print(f"{case:<30}{kind:<8}left out: Keras's own optimizer fails")
                continue
            row = {"case": case, **compare(*CASES[case], kind, given.rounds, given.calls)}
            rows.append(row)
            met = {None: "", True: "  met", False: "  NOT met"}[is_met(row)]
            figures = f"{row['keras']:>9.0f}{row['ravine']:>9.0f}{row['ratio']:>8.2f}"
            print(f"{case:<30}{kind:<8}{figures}{met}", flush=True)
    if given.json:
        with open(given.json, "w") as file:
            json.dump({"threads": threads, "load": load, "rows": rows}, file, indent=1)
    return rows


if __name__ == "__main__":
    main()
    sys.exit()
