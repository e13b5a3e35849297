"""What pytest itself must know: the marker of tests that need much memory; what is no garbage."""

import gc
import os

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "large: needs 10 GB of memory, runs if RAVINE_TEST_LARGE=1")


def pytest_collection_modifyitems(items):
    if os.environ.get("RAVINE_TEST_LARGE") == "1":
        return
    skip = pytest.mark.skip(reason="needs 10 GB of memory: set RAVINE_TEST_LARGE=1")
    for item in items:
        if "large" in item.keywords:
            item.add_marker(skip)


def pytest_collection_finish():
    # Thousands of tests: else every collection that one of them asks for would look through all.
    gc.freeze()
