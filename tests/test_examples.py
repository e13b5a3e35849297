"""The examples run and find what they set out to find."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_quickstart_finds_the_line():
    found = runpy.run_path(str(EXAMPLES / "quickstart.py"))["main"]()
    assert found["slope"] == pytest.approx(3.0, abs=0.05)
    assert found["offset"] == pytest.approx(-0.5, abs=0.05)
