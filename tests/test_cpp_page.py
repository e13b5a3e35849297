"""The blocks of the C++ guide are parts of files that `.ci/library.sh` builds and runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "tests/consumer").rglob("*.*"))
BLOCKS = re.findall(
    r"^```(?:cpp|cmake)\n(.*?)^```$", (ROOT / "docs/cpp.md").read_text(), re.MULTILINE | re.DOTALL
)


def lines(text):
    """Return a text whose indentation does not matter."""
    return "".join(f"{line.strip()}\n" for line in text.splitlines())


@pytest.mark.parametrize("block", BLOCKS)
def test_block_is_part_of_a_program_that_runs(block):
    assert any(lines(block) in lines(path.read_text()) for path in SOURCES)


def test_program_is_shown_whole():
    main = (ROOT / "tests/consumer/main.cpp").read_text()
    project = (ROOT / "tests/consumer/find_package/CMakeLists.txt").read_text()
    assert main in BLOCKS
    assert project in BLOCKS
    assert len(project.splitlines()) <= 10
