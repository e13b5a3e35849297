#!/usr/bin/env python3
"""The fast kernels must keep everything in registers, of which so many threads can have 64 each.

With more, fewer than four blocks share a multiprocessor, and too few reads are under way at a time.
Of other kernels it is only told.

check_registers.py LOG: what a build printed whose nvcc was told ``-Xptxas=-v``.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

from kernels import FAST, check_coverage, demangle, finish

LIMIT = 64
PTXAS = re.compile(
    r"Compiling entry function '(?P<symbol>\w+)' for 'sm_(?P<architecture>\d+)'\n"
    r".*Function properties for .*\n"
    r"\s*(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads\n"
    r".*Used (?P<registers>\d+) registers"
)

kernels = defaultdict(dict)
matches = [match.groupdict() for match in PTXAS.finditer(Path(sys.argv[1]).read_text())]
names = demangle(match["symbol"] for match in matches)
for match in matches:
    if name := names.get(match["symbol"]):
        memory = sum(int(match[key]) for key in ("stack", "stores", "loads"))
        kernels[match["architecture"]][name] = int(match["registers"]), memory

problems = check_coverage(kernels)
for architecture, of in sorted(kernels.items(), key=lambda item: int(item[0])):
    fast = {name: of[name] for name in of if name.startswith(FAST)}
    others = {name: of[name] for name in of if name not in fast}
    for name, (registers, memory) in fast.items():
        if registers > LIMIT:
            problems.append(f"sm_{architecture}: {name} takes {registers} registers of {LIMIT}")
        if memory:
            problems.append(f"sm_{architecture}: {name} has a stack or spills to it")
    most, most_of_others = (
        max((registers for registers, _ in some.values()), default=0) for some in (fast, others)
    )
    spilling = sum(memory > 0 for _, memory in others.values())
    print(
        f"check_registers: sm_{architecture}: {len(fast)} fast kernels, at most {most} registers; "
        f"{len(others)} others, at most {most_of_others}, {spilling} of them spill"
    )
finish(problems)
