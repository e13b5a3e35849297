"""The examples run and find what they set out to find."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("name", ["quickstart.py", "own_optimizer.py"])
def test_example_finds_the_line(name):
    found = runpy.run_path(str(EXAMPLES / name))["main"]()
    assert found["slope"] == pytest.approx(3.0, abs=0.05)
    assert found["offset"] == pytest.approx(-0.5, abs=0.05)
