"""The examples run and find what they set out to find; so does the code in the documentation."""

import importlib
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("name", ["quickstart.py", "own_optimizer.py"])
def test_example_finds_the_line(name):
    found = runpy.run_path(str(EXAMPLES / name))["main"]()
    assert found["slope"] == pytest.approx(3.0, abs=0.05)
    assert found["offset"] == pytest.approx(-0.5, abs=0.05)


def run_blocks(page):
    """Run the blocks of Python in a page, one after the other, as one program."""
    text = (ROOT / page).read_text()
    program = {"__name__": "page"}
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(ROOT / page), "exec"), program)
    assert len(program) > 5


def test_code_in_the_readme_runs():
    run_blocks("README.md")


# NumPy's warning is about what Keras's own variables do.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_code_for_those_who_come_from_keras_runs():
    importlib.import_module("keras_oracle")  # or skip
    run_blocks("docs/coming-from-keras.md")
