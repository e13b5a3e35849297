"""Time one array of many sizes, on the CPU or on a GPU, and draw what was timed.

What is told is the part of the limit's rate: on the CPU that of the in-place stream, on a GPU that
of a copy that moves as many bytes. All is timed in turn, in one process.

    python benchmarks/bench_sizes.py --device cpu --json cpu.json
    python benchmarks/bench_sizes.py --device gpu --json gpu.json
    python benchmarks/bench_sizes.py --plot sizes.svg cpu.json gpu.json
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import ravine
from ravine.bench.cases import by_size
from ravine.bench.own import ALONE, LIMIT, contenders, with_limit
from ravine.bench.race import race, ratios

sys.path.insert(0, str(Path(__file__).parent / "gpu"))

EXPONENTS = {"cpu": range(10, 26), "gpu": range(14, 30)}
# On the CPU, on a GPU, and in the picture.
RULES = {
    "nesterov": ("momentum", "SGD, momentum"),
    "rmsprop": ("rmsprop", "RMSprop"),
    "nadam": ("nadam", "Nadam"),
}
Row = dict[str, Any]


def on_cpu(exponents: Sequence[int], rounds: int) -> Iterator[Row]:
    """Time steps of NumPy arrays."""
    for case in by_size([*RULES], exponents):
        samples = with_limit(race(contenders(case, *case.arrays()), rounds, seconds=60))
        part = 1 / ratios(samples, ALONE, LIMIT)[1]
        exponent = int(case.workload.removeprefix("flat"))
        yield {"exponent": exponent, "rule": case.rule, "part": part}


def on_gpu(exponents: Sequence[int], seconds: float) -> Iterator[Row]:
    """Time steps of CuPy arrays; those of one size are not in the cache, if it is not too small."""
    cases, own, race = (import_module(name) for name in ("gpu_cases", "gpu_own", "timing"))
    gpu = import_module("bench_gpu").open_gpu()
    arrays, report = import_module("gpu_arrays"), import_module("gpu_report")
    with gpu.stream:
        for exponent in exponents:
            cases.WORKLOADS["one"] = [(1 << exponent,)]
            for rule, (name, _) in RULES.items():
                case = cases.Case("one", name)
                count = case.sets(gpu.cache)
                sets = [arrays.ArraySet(gpu, case.shapes, case.dtype) for _ in range(count)]
                racing = [*gpu.copies(case.bytes_moved), own.contenders(case, sets, gpu)[0][0]]
                samples = race.race(racing, gpu.timer, seconds, 5)
                figures = report.figures(samples, bytes_moved=case.bytes_moved)
                yield {
                    "exponent": exponent,
                    "rule": rule,
                    "part": figures[import_module("gpu_goals").OWN]["fraction"]["median"],
                }
                del sets, racing
                gpu.free_bytes()


def machine(device: str) -> dict[str, Any]:
    """Say what was measured on."""
    if device == "gpu":
        described: dict[str, Any] = import_module("bench_gpu").open_gpu().describe()
        return described | {"name": described["gpu"]}
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    threads, isa = ravine.get_num_threads(), ravine.instruction_set()
    name = f"{model[0] if model else platform.machine()}, {threads} threads, {isa}"
    return {"name": name, "threads": threads, "instruction_set": isa}


def plot(paths: Sequence[str], target: str) -> None:
    """Draw files side by side."""
    pyplot = import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(
        1,
        len(paths),
        figsize=(5 * len(paths), 3.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, path in zip(axes[0], paths, strict=True):
        found = json.loads(Path(path).read_text())
        for rule, (_, label) in RULES.items():
            rows = [row for row in found["rows"] if row["rule"] == rule]
            axis.plot(
                [2 ** row["exponent"] for row in rows], [row["part"] for row in rows], "o-", ms=3,
                label=label,
            )  # fmt: skip
        axis.axhline(1, color="black", lw=0.8)
        axis.set_xscale("log", base=2)
        axis.set_ylim(0, 1.25)
        axis.set_xlabel("elements, float32")
        limit = "in-place stream" if found["device"] == "cpu" else "device-to-device copy"
        axis.set_title(f"{found['machine']['name']}\n1 is the {limit}", fontsize=9)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("part of the limit's rate")
    axes[0][-1].legend(loc="lower right", fontsize=8)
    figure.savefig(target, metadata={"Date": None} if target.endswith(".svg") else None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=EXPONENTS, default="cpu")
    parser.add_argument("--exponents", nargs="+", type=int, help="of 2: how many elements")
    parser.add_argument("--rounds", type=int, default=15, help="on the CPU")
    parser.add_argument("--seconds", type=float, default=0.15, help="of each case on a GPU")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", metavar="FILE", help="draw these files instead of timing")
    parser.add_argument("files", nargs="*")
    parsed = parser.parse_args(arguments)
    if parsed.plot:
        plot(parsed.files, parsed.plot)
        return 0
    exponents = parsed.exponents or EXPONENTS[parsed.device]
    rows = []
    timed = (
        on_cpu(exponents, parsed.rounds)
        if parsed.device == "cpu"
        else on_gpu(exponents, parsed.seconds)
    )
    for row in timed:
        print(f"2^{row['exponent']:<3} {row['rule']:9} {row['part']:.2f} of the limit", flush=True)
        rows.append(row)
    if parsed.json:
        found = {"device": parsed.device, "machine": machine(parsed.device), "rows": rows}
        Path(parsed.json).write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
