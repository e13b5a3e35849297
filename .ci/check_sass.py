#!/usr/bin/env python3
"""The fast kernels must move 16 bytes at a time, to and from global memory, and nothing else.

An update has a loop of 16 bytes a thread and one of single elements for what is left. The second
stores once, by 4 bytes, into each array that is written: so many stores of 16 bytes must there be.
Of 16 bytes too must be their loads, that of the gradient, and where there are averages one more, of
variables that have no gradient. A rule that hands over does not read one of the arrays it writes.

check_sass.py LISTING: what ``cuobjdump --dump-sass`` says of the extension module.
"""

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from kernels import FAST, UPDATE, check_coverage, demangle, finish

LINE = re.compile(
    r"code for sm_(?P<architecture>\d+)"
    r"|Function : (?P<symbol>\w+)"
    r"|/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(?P<operation>[A-Z][A-Z0-9_]*)(?P<words>[.\w]*)"
)
# Of local memory, and of memory that may be any: the hardware then has to ask at each access.
SLOW = {"LDL", "STL", "LD", "ST"}


def memory_of(words):
    """Return the width of a load or store, as its name says: ``128``, ``64``, ``U8``, or ``32``."""
    return next((w for w in words.split(".") if re.fullmatch(r"[US]?\d+", w)), "32")


def complaints(name, counts):
    """Compare the loads and stores of a fast kernel with what they must be."""
    result = [f"{n} {operation}" for (operation, _), n in counts.items() if operation in SLOW]
    if not name.startswith(UPDATE):
        return result if counts["LDG", "128"] else [*result, "no loads of 16 bytes"]
    written = counts["STG", "32"]
    read = written + ("HandedOver::" not in name) + name.startswith(UPDATE + "true")
    if written == 0:
        result.append("no stores of 4 bytes")
    for operation, expected in (("LDG", read), ("STG", written)):
        if counts[operation, "128"] != expected:
            found = counts[operation, "128"]
            result.append(f"{found} {operation} of 16 bytes, expected {expected}")
    return result


kernels = defaultdict(lambda: defaultdict(Counter))
architecture = symbol = None
with Path(sys.argv[1]).open() as listing:
    for match in map(LINE.search, listing):
        if match is None:
            continue
        if match["architecture"]:
            architecture = match["architecture"]
        elif match["symbol"]:
            symbol = match["symbol"]
        else:
            kernels[architecture][symbol][match["operation"], memory_of(match["words"])] += 1

names = demangle(symbol for of in kernels.values() for symbol in of)
kernels = {
    architecture: {names[symbol]: of[symbol] for symbol in of if symbol in names}
    for architecture, of in kernels.items()
}
problems = check_coverage(kernels)
loads = stores = 0
for architecture, of in kernels.items():
    for name, counts in of.items():
        if name.startswith(FAST):
            loads, stores = loads + counts["LDG", "128"], stores + counts["STG", "128"]
            problems += [f"sm_{architecture}: {name}: {w}" for w in complaints(name, counts)]
if not problems:
    print(
        f"check_sass: {loads} loads and {stores} stores of 16 bytes in the fast kernels for "
        f"{len(kernels)} architectures, as many as arrays; none of local or unknown memory"
    )
finish(problems)
