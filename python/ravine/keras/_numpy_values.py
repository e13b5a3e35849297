"""The values of Keras's variables on its NumPy backend: arrays, others after each assignment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ravine import _core
from ravine.keras._copies import Copies
from ravine.keras._host import OnHost


def outside_of_graphs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function: nothing is compiled here."""
    return function


def copy(value: Any) -> Any:
    """Return an array with the same elements and memory of its own."""
    return value.copy()


class Bound(OnHost):
    """A plan over the values of variables.

    Parameters
    ----------
    names : sequence of str
    variables : list of variables
    slots : list of lists of variables
    averages, accumulators : list of variables, optional
    """

    def __init__(
        self,
        names: Sequence[str],
        variables: list[Any],
        slots: list[list[Any]],
        averages: list[Any] | None,
        accumulators: list[Any] | None,
    ) -> None:
        state = [*slots, *(each for each in (averages, accumulators) if each is not None)]
        for group in state:
            for slot, variable in zip(group, variables, strict=True):
                _lay_out_as(slot, variable)
        self._accumulators = accumulators
        self._variables = [*variables, *(v for group in state for v in group)]
        self._arrays = [v.value for v in self._variables]

        def arrays(group: list[Any]) -> list[Any]:
            return [v.value for v in group]

        self.plan = _core.Plan(
            names,
            arrays(variables),
            [arrays(each) for each in slots],
            None if averages is None else arrays(averages),
            None if accumulators is None else arrays(accumulators),
        )

    def is_bound(self) -> bool:
        """Whether all variables have the arrays that they had: an assignment gives them others."""
        pairs = zip(self._variables, self._arrays, strict=True)
        return all(variable.value is array for variable, array in pairs)

    def take_received(self) -> None:
        """Tell the plan, within a window, which variables had gradients: what they added up to."""
        if self._accumulators is not None:
            self.plan.received = [bool(sums.value.any()) for sums in self._accumulators]

    def gradients(self, grads: list[Any]) -> list[Any]:
        """Return gradients as `step` takes them."""
        return [None if grad is None else np.asarray(grad) for grad in grads]

    def run(
        self, rule: _core.Rule, options: _core.Options, learning_rate: float, grads: Sequence[Any]
    ) -> None:
        """Step all variables by the rule, with its numbers."""
        self.plan.step(rule, options, learning_rate, grads, None)

    def number(self, variable: Any) -> float:
        """Return the number that a variable without axes holds."""
        number: float = variable.value.item()
        return number

    def set_number(self, variable: Any, number: float) -> None:
        """Set the number that a variable without axes holds, rounded to its type."""
        variable.assign(number)


Stateless = partial(Copies, Bound, copy)


def _lay_out_as(slot: Any, variable: Any) -> None:
    """Let the elements of a slot lie in memory in the order of those of its variable."""
    laid_out = np.empty_like(variable.value, dtype=slot.dtype)
    if laid_out.strides != slot.value.strides:
        laid_out[...] = slot.value
        slot.assign(laid_out)
