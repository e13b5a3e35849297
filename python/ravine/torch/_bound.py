"""A plan over the parameters of the groups that are stepped at once, with what it was made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from ravine import _core
from ravine._tensors import TensorPlan

_grad = attrgetter("grad")
Group = dict[str, Any]


def params_of(groups: Sequence[Group]) -> list[Any]:
    """Return the parameters of all groups."""
    return [*chain.from_iterable(group["params"] for group in groups)]


def check_state(state: object) -> None:
    """Raise a TypeError unless it is of the form of what `state_dict` of an optimizer returns."""
    if found := _what_is_wrong(state):
        raise TypeError(
            "load_state_dict() takes what state_dict() of an optimizer returned, a dict with "
            "'state', a dict of dicts, and 'param_groups', a list of dicts with 'params', a list. "
            f"Received{found}."
        )


def _what_is_wrong(state: object) -> str | None:
    def name(thing: object) -> str:
        return f": {type(thing).__name__}"

    if not isinstance(state, Mapping):
        return name(state)
    slots, groups = state.get("state"), state.get("param_groups")
    if not isinstance(slots, Mapping):
        return f", as 'state'{name(slots)}"
    if not isinstance(groups, (list, tuple)):
        return f", as 'param_groups'{name(groups)}"
    for entry in (*slots.values(), *groups):
        if not isinstance(entry, Mapping):
            return f", for one of the dicts{name(entry)}"
    lists = [group.get("params") for group in groups]
    return next(
        (f", as 'params'{name(x)}" for x in lists if not isinstance(x, (list, tuple))), None
    )


def rate_of(group: Mapping[str, Any]) -> float:
    """Return the learning rate of a group; ValueError if it is no finite number."""
    rate = group["lr"]
    if type(rate) is not float:
        if not hasattr(rate, "__float__"):
            raise ValueError(f"lr must be a number. Received: {rate!r}.")
        rate = float(rate)
    if not math.isfinite(rate):
        raise ValueError(f"lr must be a finite number. Received: {rate}.")
    return rate


@dataclass
class Bound:
    """A plan, and what tells whether it still serves.

    Learning rate and weight decay are those of the plan, or where groups differ factors of 1.
    """

    plan: TensorPlan
    options: _core.Options
    rule: _core.Rule
    values: list[Any]
    params: list[Any]  # of the groups,
    others: list[Any]  # and those without slots: frozen ones that have no gradient
    states: list[dict[str, Any]]  # of the parameters of the plan, if it has slots
    slots: dict[str, list[Any]]
    owners: list[int]  # of the parameters of the plan, by the number of their group
    decays: list[float]  # the factor of each group
    rates: list[float] = field(default_factory=list)  # likewise, as the plan has them

    def grads(self) -> list[Any]:
        """Return the gradients of the parameters of the plan."""
        return [*map(_grad, self.plan.variables)]

    def rate(self, groups: Sequence[Group]) -> float:
        """Return the learning rate of a step; tell the plan the factors, if they are others."""
        rates = [*map(rate_of, groups)]
        rate, factors = rates[0], [1.0] * len(rates)
        if rates != [rate] * len(rates):
            rate, factors = 1.0, rates
        if factors != self.rates:
            pairs = [(factors[owner], self.decays[owner]) for owner in self.owners]
            self.plan.plan.set_multipliers(pairs)
            self.rates = factors
        return rate

    def serves(self, groups: Sequence[Group]) -> bool:
        """Whether these are still the parameters and the slots, where they were."""
        params = params_of(groups)
        return (
            len(params) == len(self.params)
            and all(map(is_, params, self.params))
            and all(p.grad is None for p in self.others)
            and all(
                all(map(is_, slots, [state.get(kind) for state in self.states]))
                for kind, slots in self.slots.items()
            )
            and self.plan.is_bound()
        )
