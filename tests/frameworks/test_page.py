"""The page about frameworks and the examples in docstrings run; others run those of the rest."""

import doctest
import importlib

import keras_checks
import pytest
from pages import FRAMEWORKS, Program, blocks


def test_page_runs(tmp_path, monkeypatch):
    assert keras_checks.keras.backend.backend() == "torch"
    monkeypatch.chdir(tmp_path)
    program = Program(FRAMEWORKS)
    for block in blocks(FRAMEWORKS):
        program.run(block)


@pytest.mark.parametrize("name", ["keras", "torch", "thinc"])
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(f"ravine.{name}")
    runner, examples = doctest.DocTestRunner(), doctest.DocTestFinder().find(module)
    for example in examples:
        runner.run(example)
    assert runner.summarize(verbose=False) == (0, sum(len(e.examples) for e in examples))
    assert runner.tries >= 4
