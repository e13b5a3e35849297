"""What the checks of the CUDA kernels share: names to read, architectures to expect, complaints."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Where the time goes: the update of a model of float32 arrays, and its norms.
UPDATE = "update_plain<float32, "
FAST = (UPDATE, "find_norms<PlainGradients<float32>")
DTYPES = ("float32", "float64", "float16", "bfloat16")  # in the order of the enumeration


def architectures():
    """Return the architectures that a build compiles for if not told otherwise: ``{"75", ...}``."""
    text = (ROOT / "cuda/choose.cmake").read_text()
    (names,) = re.findall(r"set\(CMAKE_CUDA_ARCHITECTURES ([^)]*)\)", text)
    return set(re.findall(r"\d+", names))


def demangle(symbols):
    """Return ``{symbol: name}`` of the kernels of ravine among symbols, namespaces left out."""
    symbols = sorted({symbol for symbol in symbols if "6ravine" in symbol})
    lines = subprocess.run(
        ["c++filt"], input="\n".join(symbols), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return dict(zip(symbols, map(_shorten, lines), strict=True))


def _shorten(name):
    name = re.sub(r"ravine::|cuda::|\(anonymous namespace\)::|^void ", "", name)
    name = re.sub(r"\(DType\)(\d)", lambda match: DTYPES[int(match[1])], name)
    return re.sub(r"\(.*", "", name)


def check_coverage(kernels):
    """Complain unless all architectures are there and have the same kernels, fast ones among them.

    Parameters
    ----------
    kernels : dict
        The names of the kernels for each architecture.
    """
    problems = []
    if set(kernels) != architectures():
        problems.append(f"architectures {sorted(kernels)}, expected {sorted(architectures())}")
    everywhere = set.union(set(), *map(set, kernels.values()))
    for architecture, names in kernels.items():
        if missing := everywhere - set(names):
            problems.append(f"{architecture}: without {sorted(missing)}")
    problems += [
        f"no kernel is called {start}"
        for start in FAST
        if not any(name.startswith(start) for name in everywhere)
    ]
    return problems


def finish(problems):
    """End the program, with its complaints if it has some."""
    program = Path(sys.argv[0]).stem
    for problem in problems:
        print(f"{program}: {problem}", file=sys.stderr)
    sys.exit(bool(problems))
