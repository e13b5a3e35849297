"""What is installed, what is in use, and why: the command `info`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib import metadata
from typing import Any

from ravine import _core
from ravine._driver import Driver, find_driver

# Each by the names under which it is installed.
OPTIONAL_PACKAGES = {
    "cupy": ("cupy-cuda13x", "cupy-cuda12x", "cupy"),
    "ml_dtypes": ("ml_dtypes",),
    "safetensors": ("safetensors",),
    "keras": ("keras",),
    "torch": ("torch",),
    "jax": ("jax",),
    "scikit-learn": ("scikit-learn",),
    "matplotlib": ("matplotlib",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser, and `run` as what it runs."""
    parser.description = "Say what is installed, what is in use, and why."
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what is installed and in use; return the exit status."""
    found = collect()
    print(json.dumps(found, indent=2) if options.json else as_text(found))
    return 0


def collect() -> dict[str, Any]:
    """Return what there is to say, as JSON can hold it."""
    return {
        "version": _core.__version__,
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
            "system": platform.system(),
            "machine": platform.machine(),
        },
        "numpy": _version("numpy"),
        "build": _build(),
        "instruction_set": _instruction_set(),
        "threads": _threads(),
        "cuda": _cuda(),
        "jax": {"xla_ffi": _core.build_info()["xla_ffi"] or None},
        "packages": {name: _version(*names) for name, names in OPTIONAL_PACKAGES.items()},
    }


def as_text(found: dict[str, Any]) -> str:
    """Return what `collect` found as lines for people."""
    python, build, cuda = found["python"], found["build"], found["cuda"]
    gil = "" if python["gil"] else ", without the GIL"
    compiled = " ".join(filter(None, (cuda["compiled"], cuda["architectures"])))
    lines = {
        "ravine": found["version"],
        "Python": f"{python['version']}{gil}, {python['system']}, {python['machine']}",
        "NumPy": found["numpy"],
        "build": f"{build['compiler']}, {build['build_type']}, {build['flags']}",
        "instruction set": _instruction_set_text(found["instruction_set"]),
        "threads": _threads_text(found["threads"]),
        "CUDA": compiled or "not in this build",
        **_driver_lines(cuda["driver"]),
    }
    if cuda["problem"]:
        lines["GPU arrays"] = f"cannot be used: {cuda['problem']}"
    interface = found["jax"]["xla_ffi"]
    lines["steps in JAX"] = f"XLA's FFI {interface}" if interface else "not in this build"
    lines |= {name: version or "not installed" for name, version in found["packages"].items()}
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {value}" for name, value in lines.items())


def _build() -> dict[str, str]:
    info = _core.build_info()
    return {name: info[name] for name in ("compiler", "build_type", "flags")}


def _version(*names: str) -> str | None:
    """Return the version of a package, without importing it."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _instruction_set() -> dict[str, Any]:
    wanted = os.environ.get("RAVINE_ISA") or None
    try:
        in_use, problem = _core.instruction_set(), None
    except RuntimeError as error:
        in_use, problem = None, str(error)
    return {
        "in_use": in_use,
        "available": _core.instruction_sets(),
        "RAVINE_ISA": wanted,
        "problem": problem,
    }


def _instruction_set_text(found: dict[str, Any]) -> str:
    if found["problem"]:
        return f"none: {found['problem']}"
    why = "by RAVINE_ISA" if found["RAVINE_ISA"] else "the widest"
    return f"{found['in_use']}, {why} of {', '.join(found['available'])}"


def _threads() -> dict[str, Any]:
    try:
        limits, in_use, machine = _core.thread_limits(), _core.num_threads(), os.cpu_count()
    except ValueError as error:
        return {"in_use": None, "problem": str(error)}
    ours, openmp = limits["RAVINE_NUM_THREADS"], limits["OMP_NUM_THREADS"]
    bounds = {
        "RAVINE_NUM_THREADS": ours,
        "OMP_NUM_THREADS": openmp if ours is None else None,
        "quota": limits["quota"],
        "cpus" if limits["cpus"] == machine else "affinity": limits["cpus"],
    }
    least = min(bound for bound in bounds.values() if bound is not None)
    bound_by = [name for name, bound in bounds.items() if bound == least]
    return {
        "in_use": in_use,
        "bound_by": bound_by if in_use == least else ["set_num_threads"],
        "cpus": machine,
        "affinity": limits["cpus"],
        "quota": limits["quota"],
        "RAVINE_NUM_THREADS": ours,
        "OMP_NUM_THREADS": openmp,
        "problem": None,
    }


def _threads_text(found: dict[str, Any]) -> str:
    if found["problem"]:
        return f"none: {found['problem']}"
    words = {
        "cpus": "the CPUs of the machine",
        "affinity": f"CPU affinity, of {found['cpus']} CPUs",
        "quota": "the CPU quota of the control group",
    }
    return f"{found['in_use']}, by {' and '.join(words.get(n, n) for n in found['bound_by'])}"


def _cuda() -> dict[str, Any]:
    info, driver = _core.build_info(), find_driver()
    return {
        "compiled": info["cuda"] or None,
        "architectures": info["cuda_architectures"] or None,
        "driver": driver,
        "problem": _why_no_cuda(info["cuda"], driver),
    }


def _why_no_cuda(compiled: str, driver: Driver | None) -> str | None:
    if compiled == "emulator":
        return None
    if not compiled:
        return "ravine was built without CUDA"
    if driver is None:
        return "there is no driver of NVIDIA's"
    needed = int(compiled.partition(".")[0])
    if driver["cuda"] is not None and int(driver["cuda"].partition(".")[0]) < needed:
        return f"the driver is too old, it runs CUDA {driver['cuda']} and not {needed}.0"
    if driver["problem"]:
        return driver["problem"]
    return None if driver["devices"] else "the driver finds no GPU"


def _driver_lines(driver: Driver | None) -> dict[str, str]:
    if driver is None:
        return {"driver": "none found"}
    lines = {"driver": f"runs CUDA {driver['cuda'] or 'of an unknown version'}"}
    for ordinal, device in enumerate(driver["devices"]):
        memory = f"{device['memory_bytes'] / 2**30:.1f} GiB"
        lines[f"GPU {ordinal}"] = f"{device['name']}, {device['compute_capability']}, {memory}"
    return lines
