"""The Python blocks of every page run, from top to bottom as one program."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
PAGES.remove("docs/cuda.md")  # needs CuPy
NEEDS_KERAS = {"docs/coming-from-keras.md"}


def blocks(page):
    """Return the blocks, each behind as many empty lines as there are lines above it."""
    text = (ROOT / page).read_text()
    return ["\n" * text.count("\n", 0, b.start(1)) + b[1] for b in BLOCK.finditer(text)]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
# NumPy's warning is about what Keras's own variables do.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_page_runs(page, tmp_path, monkeypatch):
    if page in NEEDS_KERAS:
        importlib.import_module("keras_oracle")  # or skip
    monkeypatch.chdir(tmp_path)
    program = {"__name__": "page"}
    for block in blocks(page):
        exec(compile(block, str(ROOT / page), "exec"), program)
