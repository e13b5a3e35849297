"""The pages of the documentation: the Python blocks in them, and running these as one program."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
TROUBLESHOOTING = "docs/troubleshooting.md"  # where code raises
FRAMEWORKS = "docs/frameworks.md"  # needs them: see frameworks/test_page.py


def read(page):
    return (ROOT / page).read_text()


def blocks(page):
    """Return the blocks, each behind as many empty lines as there are lines above it."""
    text = read(page)
    return ["\n" * text.count("\n", 0, b.start(1)) + b[1] for b in BLOCK.finditer(text)]


def needs_gpu(block):
    return re.search(r"\bcupy\b", block) is not None


class Section(NamedTuple):
    """A heading of the page of messages, and what is below it."""

    group: str
    message: str
    blocks: list[str]


class Program:
    """What the blocks of a page are, one after another."""

    def __init__(self, page):
        self.page = page
        self.names = {"__name__": "page"}

    def run(self, block):
        exec(compile(block, str(ROOT / self.page), "exec"), self.names)

    def run_section(self, section):
        """Assert that the first block raises the message of the heading; run the others."""
        cause, *remedies = section.blocks
        pattern = re.escape(section.message).replace("…", ".*")
        with pytest.raises(Exception, match=f"^{pattern}$"):
            self.run(cause)
        for block in remedies:
            self.run(block)


def messages():
    """Return the sections of the page of messages."""
    result, group = [], ""
    part = re.compile(r"^(##+) ([^\n]*)$|^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    text = read(TROUBLESHOOTING)
    for found in part.finditer(text):
        if found[1] == "##":
            group = found[2]
        elif found[1]:
            result.append(Section(group, found[2].strip("`"), []))
        elif result:
            result[-1].blocks.append("\n" * text.count("\n", 0, found.start(3)) + found[3])
    return result
