"""The state of an optimizer: the arrays that go with its variables."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple
from weakref import WeakMethod

from ravine import _core
from ravine._arrays import Array, on_gpu, zeros_like_each
from ravine._cuda import is_capturing
from ravine._python_plan import PythonPlan
from ravine._variables import BuiltVariables


class State(NamedTuple):
    """The arrays that go with the variables, and the native plan over all of them.

    The arrays are CuPy's, on the device of the plan, if the variables are on a GPU.
    """

    plan: _core.Plan
    slots: dict[str, list[Array]]
    averages: list[Array] | None
    accumulators: list[Array] | None
    added: dict[str, Array]  # by the `build` of a subclass

    @property
    def passes(self) -> dict[str, list[Array]]:
        """The averages and the accumulators, those that there are, by kind."""
        kinds = {"average": self.averages, "gradient_accumulator": self.accumulators}
        return {kind: arrays for kind, arrays in kinds.items() if arrays is not None}

    def serves(self, rule: _core.Rule, options: _core.Options) -> bool:
        """Whether a step with these settings finds the arrays that it needs."""
        return (
            rule.slots == tuple(self.slots) or isinstance(rule, _core.HandedOver)
        ) and kinds_for(options) <= self.passes.keys()


def kinds_for(options: _core.Options) -> set[str]:
    """Return what these options need beside each variable, apart from slots."""
    needed = {
        "average": options.use_ema,
        "gradient_accumulator": (options.gradient_accumulation_steps or 1) > 1,
    }
    return {kind for kind, is_needed in needed.items() if is_needed}


def make_state(
    rule: _core.Rule,
    kinds: AbstractSet[str],
    variables: BuiltVariables,
    loss_scale: _core.LossScale | None = None,
    update_step: WeakMethod[Any] | None = None,
) -> State:
    """Check the variables and make the slots of a rule and arrays of these kinds, all zeros.

    With an `update_step` in Python that overrides no native rule there are no slots yet.
    """
    names, arrays = variables.names, variables.bound
    if any(map(on_gpu, arrays)) and is_capturing():
        raise ValueError(
            "The state of an optimizer cannot be made while a CUDA graph is captured. Call "
            "build(variables) before the capture."
        )
    # Checks them, before any memory is taken.
    device = _core.Plan(names, arrays, [], None, None).device
    slot_names = () if isinstance(rule, _core.HandedOver) else rule.slots
    made = zeros_like_each(arrays, len(slot_names) + len(kinds), device)
    slots = made[: len(slot_names)]
    averages = made[len(slot_names)] if "average" in kinds else None
    accumulators = made[-1] if "gradient_accumulator" in kinds else None
    if update_step is None:
        plan = _core.Plan(names, arrays, slots, averages, accumulators)
    else:
        plan = PythonPlan(names, arrays, slots, averages, accumulators, device, update_step)
    plan.prepare(rule, loss_scale)  # and wait for the zeros: the first step may be on any stream
    return State(plan, dict(zip(slot_names, slots, strict=True)), averages, accumulators, {})
