"""The compiled extension: vector instructions where they count, and none that would round less."""

import platform
import re
import shutil
import subprocess
from collections import Counter

import pytest

from ravine import _core

pytestmark = [
    pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump, of binutils"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64"), reason="reads x86-64 instructions only"
    ),
]


@pytest.fixture(scope="module")
def lines():
    """Return all instructions, by name and operands."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", "-M", "intel", _core.__file__],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return re.findall(r"^\s+[0-9a-f]+:\t(\w+)[ \t]*(.*)$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def instructions(lines):
    """Count the instructions by name and widest register, such as ``("vsqrtps", "ymm")``."""
    counts = Counter()
    for name, operands in lines:
        width = next((r for r in ("zmm", "ymm", "xmm") if r in operands), "")
        counts[name, width] += 1
    assert sum(counts.values()) > 10_000
    return counts


def test_nothing_is_fused_but_squares_of_a_norm_and_roots(lines):
    # A fused multiply-add rounds once where NumPy, and other machines, round twice; but squares
    # of float32 are exact in double. Of three operands the name says which are multiplied.
    factors = {"132": (0, 2), "213": (0, 1), "231": (1, 2)}
    of_roots = Counter()
    for name, operands in lines:
        if not re.match(r"vfn?m(add|sub)|vfm", name):
            continue
        if re.fullmatch(r"vfn?madd(132|213|231)ps", name) and "zmm" in operands:
            of_roots[name.startswith("vfn")] += 1
            continue
        found = re.fullmatch(r"vfmadd(132|213|231)[ps]d", name)
        assert found, (name, operands)
        registers = operands.split(",")
        first, second = factors[found[1]]
        assert registers[first] == registers[second], (name, operands)
    # Each approximation of a root is made exact by two that subtract and three that add.
    roots = sum(name == "vrsqrt14ps" for name, _ in lines)
    assert roots > 0
    assert of_roots == {True: 2 * roots, False: 3 * roots}


@pytest.mark.parametrize("kind", ["ps", "pd"])
@pytest.mark.parametrize("operation", ["sqrt", "div", "mul", "add", "sub"])
def test_loops_use_the_full_width(instructions, operation, kind):
    assert instructions[f"{operation}{kind}", "xmm"] > 0
    assert instructions[f"v{operation}{kind}", "ymm"] > 0
    assert instructions[f"v{operation}{kind}", "zmm"] > 0


def test_nothing_is_approximated_but_what_becomes_a_root(instructions):
    approximations = {key for key in instructions if re.match(r"v?r(cp|sqrt)(14|28)?[ps]", key[0])}
    assert approximations == {("vrsqrt14ps", "zmm")}


def test_float16_is_converted_by_the_machine(instructions):
    assert instructions["vcvtph2ps", "ymm"] + instructions["vcvtph2ps", "zmm"] > 0
    assert instructions["vcvtps2ph", "ymm"] + instructions["vcvtps2ph", "zmm"] > 0
