"""Time steps on a GPU beside a copy of the same bytes, and beside their peers.

All contenders run in one process, on one stream, in turn, round after round, on the same variables
and gradients; those of small models in several sets, so that none is still in the cache. What
counts are the ratios within a round.

    python benchmarks/gpu/bench_gpu.py --budget 150 --json results.json
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import gpu_own
import gpu_report
import numpy as np
from gpu_arrays import ArraySet, numpy_dtype
from gpu_cases import ITEM_BYTES, RULES, WORKLOADS, Case, cases
from gpu_device import SCRATCH, Gpu, smi
from gpu_goals import GRAPH, Result
from gpu_peers import contenders
from timing import Contender, LeftOutError, first_line, race

import ravine
from ravine import _core

BUDGET = {"quick": 30.0, "full": 150.0}  # seconds
LEAST_ROUNDS = {"quick": 3, "full": 5}
GRAPH_PART = 0.2  # of the time of a case, for replays
LEAST_SECONDS = 0.4  # for the rounds of a case, however long its preparation took
QUICK = {"workloads": ["gpt2", "tiny"], "rules": ["nadam", "momentum"], "dtypes": ["float32"]}
# Where optax takes part unless it is asked for: compiling takes it seconds for each case.
OPTAX_WORKLOADS = ("gpt2", "flat")


def families(case: Case, arguments: argparse.Namespace) -> list[str]:
    """Which peers take part."""
    chosen = arguments.peers
    if chosen is None:
        chosen = ["torch", "cupy"]
        if case.dtype == "float32" and case.workload in OPTAX_WORKLOADS:
            chosen.append("optax")
    return [*chosen, *["compile"] * arguments.compile]


def run_case(case: Case, gpu: Gpu, seconds: float, arguments: argparse.Namespace) -> Result:
    """Check and time one case.

    Parameters
    ----------
    case : Case
    gpu : Gpu
    seconds : float
        Time to spend, with all that comes before.
    arguments : argparse.Namespace
        Of the command line.
    """
    start = time.perf_counter()
    count = case.sets(gpu.cache)
    needed, free = count * case.bytes_held + 2 * SCRATCH, gpu.free_bytes()
    if needed > free:
        raise LeftOutError(f"needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free")
    wrong = gpu_own.different_bits(case, gpu)
    print(f"  CPU and GPU: {'equal bits' if not wrong else f'DIFFERENT: {wrong[:5]}'}", flush=True)

    sets = [ArraySet(gpu, case.shapes, case.dtype) for _ in range(count)]
    copies = gpu.copies(case.bytes_moved)
    own, counts = gpu_own.contenders(case, sets, gpu)
    racing, left_out, notes = [*copies, *own], {}, {}
    asked = families(case, arguments)
    for name, contender, note in contenders(case, sets, gpu, asked):
        if contender is None:
            left_out[name] = note["reason"]
        else:
            racing.append(contender)
            notes[name] = note

    def flip() -> None:
        # Gradients that never change would let the variance of each vanish.
        for arrays in sets:
            gpu.flip_signs(arrays.flat_gradients)

    least = LEAST_ROUNDS["quick" if arguments.quick else "full"]
    left = max(LEAST_SECONDS, seconds - (time.perf_counter() - start))
    before = _core.cuda_counts()["synchronizations"]
    samples = race(racing, gpu.timer, left * (1 - GRAPH_PART), least, flip)
    synchronizations = _core.cuda_counts()["synchronizations"] - before
    # The last, since an optimizer whose steps were captured counts them on the GPU from then on.
    replays = [gpu.captured(step) for step in own[0].steps]
    graph = Contender(GRAPH, replays, own[0].launches, essential=True)
    with_graph = race([*copies, graph], gpu.timer, left * GRAPH_PART, least, flip)

    result = gpu_report.summary(case, gpu.cache, samples, with_graph)
    for name, asked_of_cuda in counts.items():
        result["contenders"][name] |= asked_of_cuda
    for name, note in notes.items():
        result["contenders"].get(name, {}).update(note)
    some = gpu.host(sets[0].flat_variables[: 1 << 20]).astype(np.float32)
    return result | {
        "different_bits": wrong,
        "synchronizations": synchronizations,
        "finite": bool(np.isfinite(some).all()),
        "left_out": left_out | result["left_out"],
        "seconds": time.perf_counter() - start,
    }


def versions() -> dict[str, str]:
    """Return the versions of what was used."""
    result = {"python": platform.python_version(), "ravine": ravine.__version__}
    for name in ("numpy", "cupy", "ml_dtypes", "torch", "jax", "optax"):
        if (module := sys.modules.get(name)) is not None:
            result[name] = str(getattr(module, "__version__", "unknown"))
    return result


def commit_of_the_tree() -> str | None:
    """Return the commit that is checked out; None where there is no git."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--exclude=*",
    ]
    try:
        answer = subprocess.run(
            [*command, "--abbrev=40"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, help="seconds to spend, about: 150, 30 if --quick")
    parser.add_argument("--quick", action="store_true", help="two workloads, two rules, few rounds")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS)
    parser.add_argument("--rules", nargs="+", choices=RULES)
    parser.add_argument("--dtypes", nargs="+", choices=ITEM_BYTES)
    parser.add_argument("--options", choices=["both", "none", "all"], default="both")
    parser.add_argument("--peers", nargs="*", choices=["torch", "cupy", "optax"])
    parser.add_argument("--compile", action="store_true", help="PyTorch compiled, too: takes long")
    parser.add_argument("--commit", help="of the measured code; asked of git by default")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parsed = parser.parse_args(arguments)
    if parsed.budget is None:
        parsed.budget = BUDGET["quick" if parsed.quick else "full"]
    everything = {"workloads": [*WORKLOADS], "rules": [*RULES], "dtypes": [*ITEM_BYTES]}
    for name, values in (QUICK if parsed.quick else everything).items():
        if getattr(parsed, name) is None:
            setattr(parsed, name, values)
    return parsed


def open_gpu() -> Gpu:
    """Return the GPU. Raises `LeftOutError` if there is none, or nothing to use it with."""
    if not _core.has_cuda():
        raise LeftOutError("this build of ravine has no CUDA backend")
    try:
        cupy = import_module("cupy")
    except ImportError as error:
        raise LeftOutError(f"CuPy cannot be imported ({error})") from error
    if not cupy.cuda.is_available():
        raise LeftOutError("there is no GPU, or no driver for it")
    return Gpu(cupy)


class Report:
    """All that is known so far; written anew after each case."""

    def __init__(self, path: str | None, machine: dict[str, Any]) -> None:
        self._path, self.machine = path, machine
        self.results: list[Result] = []
        self.not_run: dict[str, str] = {}
        self.failure: str | None = None

    def write(self) -> None:
        """Write the file, if there is to be one."""
        if self._path is None:
            return
        everything = {
            "machine": self.machine | {"versions": versions()},
            "results": self.results,
            "not_run": self.not_run,
            "failure": self.failure,
            "goals": gpu_report.goals(self.results),
        }
        Path(self._path).write_text(json.dumps(everything, indent=1))

    def print(self) -> None:
        """Print what one reads first at the end."""
        print("\n" + gpu_report.left_out(self.results))
        for case, reason in self.not_run.items():
            print(f"  not run: {case}: {reason}")
        print("\n" + gpu_report.table(self.results))
        unequal = [r["case"] for r in self.results if r["different_bits"]]
        print(f"\nBits of CPU and GPU: {f'DIFFERENT in {unequal}' if unequal else 'equal'}")
        print(gpu_report.goal_table(gpu_report.goals(self.results)), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parsed = parse(arguments)
    try:
        gpu = open_gpu()
    except LeftOutError as reason:
        print(f"bench_gpu: {reason}", file=sys.stderr)
        return 2
    deadline = time.perf_counter() + parsed.budget
    state = "clocks.sm,clocks.mem,temperature.gpu,power.draw"
    machine = gpu.describe() | {
        "commit": parsed.commit or commit_of_the_tree(),
        "start": smi(state),
    }
    report = Report(parsed.json, machine)
    print(f"{gpu.name}, driver {machine['driver']}, commit {machine['commit']}", flush=True)
    options = {"both": [False, True], "none": [False], "all": [True]}[parsed.options]
    todo = [*cases(parsed.workloads, parsed.rules, parsed.dtypes, options)]
    with gpu.stream:
        for i, case in enumerate(todo):
            left = deadline - time.perf_counter()
            try:
                numpy_dtype(case.dtype)
                if left <= 0:
                    raise LeftOutError("the budget was spent")
                print(f"{case}, {left:.0f} s left", flush=True)
                result = run_case(case, gpu, left / (len(todo) - i), parsed)
            except LeftOutError as reason:
                report.not_run[str(case)] = str(reason)
                continue
            except Exception as error:
                report.failure = f"{case}: {first_line(error)}"
                traceback.print_exc()
                break
            report.results.append(result)
            print("  " + gpu_report.line(result), flush=True)
            gpu.free_bytes()
            report.write()
    machine["end"] = smi(state)
    report.write()
    report.print()
    if report.failure:
        print(f"FAILED: {report.failure}", file=sys.stderr)
    return 1 if report.failure else 0


if __name__ == "__main__":
    sys.exit(main())
