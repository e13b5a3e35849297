"""A step that changes nothing in place, for `stateless_apply`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ravine import _core
from ravine.keras._host import OnHost


class Copies(OnHost):
    """Stands in for `Bound`: steps copies of the values, and then assigns these.

    Inside one of Keras's stateless scopes, where values come from and assignments go to lists.

    Parameters
    ----------
    bound, copy : callable
        Of the backend.
    names, *groups
        As `Bound` takes them.
    """

    def __init__(self, bound: Any, copy: Any, names: Sequence[str], *groups: Any) -> None:
        self._copies: list[_Copy] = []

        def copied(group: Any) -> Any:
            if isinstance(group, list):
                return [copied(each) for each in group]
            if group is None:
                return None
            self._copies.append(_Copy(group, copy(group.value)))
            return self._copies[-1]

        self._bound = bound(names, *(copied(group) for group in groups))
        self.plan = self._bound.plan
        self.gradients = self._bound.gradients

    def take_received(self) -> None:
        """Tell the plan, within a window, which variables had gradients."""
        self._bound.take_received()

    def run(
        self, rule: _core.Rule, options: _core.Options, learning_rate: float, grads: Sequence[Any]
    ) -> None:
        """Step all variables by the rule, with its numbers."""
        self._bound.run(rule, options, learning_rate, grads)
        for copy in self._copies:
            copy.variable.assign(copy.value)

    def number(self, variable: Any) -> float:
        """Return the number that a variable without axes holds."""
        number: float = variable.value.item()
        return number

    def set_number(self, variable: Any, number: float) -> None:
        """Set the number that a variable without axes holds, rounded to its type."""
        variable.assign(number)


class _Copy:
    """Looks to `Bound` like a variable."""

    def __init__(self, variable: Any, value: Any) -> None:
        self.variable = variable
        self.value = value
        self.dtype = variable.dtype

    def assign(self, value: Any) -> None:
        self.value = value
