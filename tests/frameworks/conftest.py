"""Warnings of the frameworks about themselves."""

import pytest

IGNORED = ("ignore:__array__ implementation:DeprecationWarning",)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "frameworks":
            for warning in IGNORED:
                item.add_marker(pytest.mark.filterwarnings(warning))
