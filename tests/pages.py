"""The pages of the documentation: the Python blocks in them, and running these as one program."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]


def read(page):
    return (ROOT / page).read_text()


def blocks(page):
    """Return the blocks, each behind as many empty lines as there are lines above it."""
    text = read(page)
    return ["\n" * text.count("\n", 0, b.start(1)) + b[1] for b in BLOCK.finditer(text)]


def needs_gpu(block):
    return re.search(r"\bcupy\b", block) is not None


class Program:
    """What the blocks of a page are, one after another."""

    def __init__(self, page):
        self.page = page
        self.names = {"__name__": "page"}

    def run(self, block):
        exec(compile(block, str(ROOT / self.page), "exec"), self.names)
