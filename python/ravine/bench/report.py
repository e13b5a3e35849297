"""The table at the end, and the file with all figures."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import ravine
from ravine.bench.own import ALONE, DIVIDER, LIMIT, RAVINE, STREAM
from ravine.bench.suites import Row

_LIMITS = (LIMIT, STREAM, DIVIDER)
_OWN = (*_LIMITS, RAVINE, ALONE)


def machine() -> dict[str, Any]:
    """Say what was measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "processor": model,
        "instruction_set": ravine.instruction_set(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "ravine": ravine.__version__,
    }


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Tell times of a step as multiples of the limit: a line a case, a column a contender."""
    told = [row for row in rows if row["suite"] == "peers" and row["name"] not in _LIMITS]
    names = list(dict.fromkeys(row["name"] for row in told if row["name"] != ALONE))
    if not names:
        return
    cases: dict[tuple[str, ...], dict[str, float]] = {}
    for row in told:
        cases.setdefault(_key(row), {})[row["name"]] = row["to_limit"][1]
    first = max(len(" ".join(case)) for case in cases)
    widths = [max(len(name), 7) for name in names]
    yield "Time of a step, as a multiple of the limit of the same round (medians)"
    yield " " * first + "  " + "  ".join(map(str.rjust, names, widths))
    for case, found in cases.items():
        cells = (
            (f"{found[name]:.2f}" if name in found else "-").rjust(width)
            for name, width in zip(names, widths, strict=True)
        )
        yield " ".join(case).ljust(first) + "  " + "  ".join(cells)


def leads(rows: Sequence[Row]) -> Iterator[str]:
    """Say where another was faster, in the middle half of the rounds."""
    others = [row for row in rows if row["suite"] == "peers" and row["name"] not in _OWN]
    ahead = [row for row in others if row["to_ravine"][2] < 1]
    if others and not ahead:
        yield "No peer was ahead in any case."
    for row in ahead:
        yield f"Ahead of ravine: {row['name']}, {' '.join(_key(row))}: {row['to_ravine'][1]:.2f}"


def reasons(left_out: Mapping[str, str]) -> Iterator[str]:
    """Say what did not take part."""
    for name, reason in left_out.items():
        yield f"Left out: {name}: {reason}"


def _key(row: Row) -> tuple[str, ...]:
    threads = f"{row['threads']} thread" + "s" * (row["threads"] > 1)
    return row["workload"], row["rule"], row["option"], row["dtype"], threads
