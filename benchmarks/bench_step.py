"""Time one step beside its limit and beside its peers.

The limit is the in-place stream: the same arrays, read and written as the step must, in the same
chunks and threads, with one addition an element (and the gradients read once more where there is a
norm). All contenders run in one process, in turn, round after round, on the same variables and
gradients; what counts are the ratios within a round.

    python benchmarks/bench_step.py --threads 2 --json results.json
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import peers
from workloads import WORKLOADS

import ravine

OPTIMIZERS: dict[str, Callable[..., ravine.Optimizer]] = {
    "nesterov": lambda **options: ravine.SGD(
        peers.RATE, momentum=peers.MOMENTUM, nesterov=True, **options
    ),
    "rmsprop": lambda **options: ravine.RMSprop(peers.RATE, **options),
    "nadam": lambda **options: ravine.Nadam(peers.RATE, **options),
}
ALL_OPTIONS = {"global_clipnorm": peers.CLIP, "weight_decay": peers.DECAY, "use_ema": True}


def contenders(
    rule: str, shapes: list[tuple[int, ...]], options: bool, threads: int, with_peers: bool
) -> Iterator[tuple[str, Callable[[int], float]]]:
    """Functions that run a number of steps and return the seconds of one, under their names."""
    rng = np.random.default_rng(0)
    variables = [rng.uniform(0.5, 1.5, shape).astype(np.float32) for shape in shapes]
    grads = [rng.uniform(1e-3, 2e-3, shape).astype(np.float32) for shape in shapes]
    optimizer = OPTIMIZERS[rule](**(ALL_OPTIONS if options else {}))
    optimizer.build(variables)
    optimizer.apply(grads)
    plan, native, settings = optimizer._plan, optimizer._rule, optimizer._options
    assert plan is not None

    def repeated(step: Callable[[], None]) -> Callable[[int], float]:
        def run(repeats: int) -> float:
            start = time.perf_counter()
            for _ in range(repeats):
                step()
            return (time.perf_counter() - start) / repeats

        return run

    yield "limit", lambda repeats: plan.time_streams(settings, grads, repeats)
    yield "ravine", repeated(lambda: optimizer.apply(grads))
    yield (
        "ravine, C++ alone",
        lambda repeats: plan.time_steps(native, settings, peers.RATE, grads, repeats),
    )
    if not with_peers:
        return
    if not options:
        for name, step in peers.numpy_peers(rule, variables, grads):
            yield name, repeated(step)
    for name, step in peers.torch_peers(rule, variables, grads, options, threads):
        yield name, repeated(step)


def compare(runs: dict[str, Callable[[int], float]], rounds: int) -> dict[str, dict[str, float]]:
    """Run all in turn; medians of the times and of the ratios to the limit of the same round."""
    repeats = {}
    for name, run in runs.items():
        run(1)
        repeats[name] = max(1, min(2000, int(2e-3 / run(1))))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(3e-3)  # the threads of the one before may still be spinning
            run(1)
            times[name].append(run(repeats[name]))
    result = {}
    for name, own in times.items():
        ratios = [a / b for a, b in zip(own, times["limit"], strict=True)]
        low, middle, high = quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
        result[name] = {
            "seconds": median(own),
            "ratio": middle,
            "ratio_low": low,
            "ratio_high": high,
            "ratio_of_minima": min(own) / min(times["limit"]),
        }
    return result


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=ravine.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--rules", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS))
    parser.add_argument("--no-peers", action="store_true", help="only ravine and its limit")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    arguments = parser.parse_args()
    ravine.set_num_threads(arguments.threads)

    rows: list[dict[str, Any]] = []
    for workload in arguments.workloads:
        for rule in arguments.rules:
            for options in (False, True):
                runs = dict(
                    contenders(
                        rule,
                        WORKLOADS[workload],
                        options,
                        arguments.threads,
                        not arguments.no_peers,
                    )
                )
                title = f"{workload} {rule}" + (" + clip, decay, average" if options else "")
                print(f"{title}, {arguments.threads} threads", flush=True)
                for name, figures in compare(runs, arguments.rounds).items():
                    rows.append({"workload": workload, "rule": rule, "options": options})
                    rows[-1] |= {"name": name, **figures}
                    print(
                        f"  {name:18} {figures['seconds'] * 1e6:12.1f} us  {figures['ratio']:8.2f}"
                        f" x limit  (quartiles {figures['ratio_low']:.2f} to"
                        f" {figures['ratio_high']:.2f}, minima {figures['ratio_of_minima']:.2f})",
                        flush=True,
                    )
    if arguments.json:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "instruction_set": ravine.instruction_set(),
            "threads": arguments.threads,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "ravine": ravine.__version__,
        }
        Path(arguments.json).write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
