#!/usr/bin/env python3
"""Kernels must round each operation once, to nearest, as the CPU does.

What computes with floating point must say ``.rn``: without it, the assembler may fuse. All other
instructions on such numbers must be known not to round, which leaves out the approximate and the
fused ones, those that flush to zero, and atomic sums, whose order is anybody's.

check_ptx.py FOLDER: what a build kept whose nvcc was told ``--keep --keep-dir=FOLDER``.
"""

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from kernels import check_coverage, demangle, finish

FLOAT = re.compile(r"(?:b|t)?f(\d+)(?:x\d)?")
ROUNDED = {"add", "sub", "mul", "div", "sqrt", "rcp"}
EXACT = {"ld", "st", "mov", "selp", "setp", "neg", "abs"}
FORBIDDEN = {"approx", "full", "ftz", "sat", "rz", "rm", "rp", "rna"}
# Those that the optimizers are made of: if none is found, the reading went wrong.
EXPECTED = {f"{name}.rn.f{bits}" for name in ("add", "mul", "div", "sqrt") for bits in (32, 64)}

ENTRY = re.compile(r"\.entry\s+(\w+)\(")
# Where lines, statements and braces begin, also those of assembly within C++.
INSTRUCTION = re.compile(r"(?:^|[;{}])\s*(?:@!?[%\w]+\s+)?([a-z]\w*(?:\.[\w:]+)+)\s", re.MULTILINE)


def is_right(instruction):
    """Whether an instruction rounds to nearest or not at all."""
    operation, *words = instruction.split(".")
    bits = [int(match[1]) for match in map(FLOAT.fullmatch, words) if match]
    if not bits:
        return True
    if FORBIDDEN & set(words):
        return False
    if operation == "cvt":
        widens = len(bits) == 2 and bits[0] > bits[1]
        return widens or ("rn" in words and FLOAT.fullmatch(words[-2]) is not None)
    return operation in EXACT or (operation in ROUNDED and "rn" in words)


kernels, seen, problems = defaultdict(list), defaultdict(Counter), []
for file in sorted(Path(sys.argv[1]).glob("*.ptx")):
    text = file.read_text()
    names = demangle(ENTRY.findall(text))
    if not names:
        continue  # CMake's trial of the compiler
    (architecture,) = re.findall(r"^\.target sm_(\d+)", text, re.MULTILINE)
    kernels[architecture] += names.values()
    instructions = Counter(INSTRUCTION.findall(text))
    seen[architecture] += instructions
    problems += [
        f"{file.name}: {count} {instruction}"
        for instruction, count in sorted(instructions.items())
        if not is_right(instruction)
    ]

problems += check_coverage(kernels)
for architecture, instructions in seen.items():
    if missing := EXPECTED - set(instructions):
        problems.append(f"sm_{architecture}: found no {sorted(missing)}")
count = sum(
    n for of in seen.values() for i, n in of.items() if i.split(".")[0] in ROUNDED and ".rn." in i
)
if not problems:
    print(
        f"check_ptx: {count} operations on floating point in kernels for {len(kernels)} "
        "architectures, each rounded to nearest"
    )
finish(problems)
