"""What `build` of a subclass does to its attributes, so that it can run once more."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from operator import is_
from typing import Any, NamedTuple

_ABSENT = object()


class _Kept(NamedTuple):
    value: Any
    contents: Any  # of a list or dict, which may be filled


def keep(attributes: Mapping[str, Any]) -> dict[str, _Kept]:
    """Return attributes as they are now: lists and dicts with what is in them."""
    return {name: _Kept(value, _copied(value)) for name, value in attributes.items()}


def changes(before: Mapping[str, _Kept], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `set_back` needs: the attributes that were set or filled since, as they were."""
    changed = {}
    for name, value in attributes.items():
        if name not in before:
            changed[name] = _ABSENT
        elif value is not before[name].value or not _are_same(value, before[name].contents):
            changed[name] = before[name].contents
    return changed


def set_back(attributes: dict[str, Any], changed: Mapping[str, Any]) -> None:
    """Take changes back; lists and dicts become new ones."""
    for name, value in changed.items():
        if value is _ABSENT:
            attributes.pop(name, None)
        else:
            attributes[name] = _copied(value)


def _copied(value: Any) -> Any:
    return copy(value) if isinstance(value, (list, dict)) else value


def _are_same(value: Any, contents: Any) -> bool:
    if isinstance(value, dict):
        return [*value] == [*contents] and all(map(is_, value.values(), contents.values()))
    if isinstance(value, list):
        return len(value) == len(contents) and all(map(is_, value, contents))
    return True
