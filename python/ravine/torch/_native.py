"""What the optimizers for PyTorch share: groups of parameters, and the plans that step them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import is_
from typing import Any, ClassVar

import torch

from ravine import _core
from ravine._options import DEFAULTS, unknown_arguments
from ravine._settings import count, flag, number, optional
from ravine._tensors import TensorPlan, slot_dtype, zeros_beside
from ravine.torch._bound import Bound, Group, check_state, params_of, rate_of

OPTIONS = {name: value for name, value in DEFAULTS.items() if name != "name"}

# Of the options; the others are numbers or None.
_KINDS: dict[str, Callable[[str, object], Any]] = {
    "use_ema": flag,
    "ema_momentum": number,
    "ema_overwrite_frequency": optional(count),
    "gradient_accumulation_steps": optional(count),
}


def _plain(value: object) -> object:
    """Return the number in a tensor, and anything else as it is."""
    return value.item() if isinstance(value, torch.Tensor) and value.ndim == 0 else value


class Native(torch.optim.Optimizer):
    """Base of the optimizers: what is said here holds for all of them.

    Parameters
    ----------
    params : iterable of parameters, of pairs of name and parameter, or of dicts
        As ``torch.optim`` takes them. Of type float32, float64, float16 or bfloat16, dense, the
        parameters of a group all on the CPU or all on one GPU of CUDA. The slots of 16-bit
        parameters are float32. Each option may be set for a group.
    lr : float
        Learning rate; schedulers of PyTorch set it.
    **options
        Those of `ravine.Optimizer`, but for `name`: weight_decay, clipnorm, clipvalue,
        global_clipnorm (of the gradients of all groups, which then may differ in lr and
        weight_decay alone), use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor,
        gradient_accumulation_steps (calls of `step` that make one update).

    Raises
    ------
    TypeError
        If an argument is unknown, a parameter is not of these types or a gradient is sparse.
    ValueError
        If a number is out of its range, or groups differ that are stepped at once.

    Notes
    -----
    Weight decay is decoupled, ``p -= p * weight_decay * lr``, in all of them. What a group counts
    is in it, as ``iterations``, so that a parameter that had no gradient is corrected for bias like
    the others. Groups that are stepped at once count together, by the first.
    """

    _rule: ClassVar[type[_core.Rule]]
    _numbers: ClassVar[tuple[str, ...]]
    _counted: ClassVar[Mapping[str, float]] = {"iterations": 0}  # what a group starts with

    def __init__(self, params: Any, lr: Any, numbers: Mapping[str, Any], options: Any) -> None:
        if unknown := sorted(options.keys() - OPTIONS.keys()):
            raise TypeError(unknown_arguments(unknown, type(self), OPTIONS))
        self._forget_plans()
        super().__init__(params, {"lr": lr, **numbers, **OPTIONS, **options})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, as PyTorch does."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._settings(group)
            for name, start in self._counted.items():
                group.setdefault(name, start)
            self._units()
        except Exception:
            self.param_groups.pop()
            raise

    @torch.compiler.disable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step: update the parameters in place, or accumulate.

        Parameters
        ----------
        closure : callable, optional
            Computes the gradients and returns the loss.

        Returns
        -------
        The loss that the closure returned.

        Raises
        ------
        TypeError
            If a gradient is sparse. Nothing has been changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        calls = []
        are_kept = self._are_kept()
        for index, groups in enumerate(self._units()):
            bound = self._bind(index, groups, are_kept)
            grads = bound.grads()
            if any(grad is not None for grad in grads):
                calls.append((groups, bound, bound.rate(groups), bound.plan.gradients(grads)))
        if len(calls) > 1:  # what is refused must be before the first of them is stepped
            for _, bound, _, grads in calls:
                bound.plan.check(grads)
        for groups, bound, rate, grads in calls:
            rule = bound.rule
            self._to_rule(groups[0], rule)
            bound.plan.run(rule, bound.options, rate, grads)
            for group in groups:
                self._from_rule(group, rule)
        return loss

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up the state of another optimizer, as PyTorch does, but in the types of the slots.

        Raises
        ------
        TypeError
            If it is no state of an optimizer.
        ValueError
            If it is that of another class or for other parameters. Nothing has been changed.
        """
        check_state(state_dict)
        slots = []
        groups = state_dict["param_groups"]
        for group, own in zip(groups, self.param_groups, strict=False):
            if missing := sorted(own.keys() - group.keys() - {"param_names"}):
                raise ValueError(
                    f"A group of the state has no {missing}: it is that of another optimizer than "
                    f"{type(self).__name__} of ravine.torch."
                )
            for key, p in zip(group["params"], own["params"], strict=False):
                for kind, value in state_dict["state"].get(key, {}).items():
                    if not isinstance(value, torch.Tensor):
                        raise TypeError(
                            f"The slot {kind!r} of parameter {key} must be a tensor. Received: "
                            f"{type(value).__name__}."
                        )
                    if value.shape != p.shape:
                        raise ValueError(
                            f"The slot {kind!r} of parameter {key} has another shape than the "
                            f"parameter. Expected: {tuple(p.shape)}. Received: "
                            f"{tuple(value.shape)}."
                        )
                    slots.append((p, kind, value))
        super().load_state_dict(state_dict)
        for p, kind, value in slots:
            self.state[p][kind] = zeros_beside(p).copy_(value)

    def finalize_variable_values(self) -> None:
        """Overwrite parameters by their averages, at the end of training.

        Those of groups with `use_ema` that have been updated.
        """
        for index, groups in enumerate(self._units()):
            group = groups[0]
            updates = group["iterations"] // (group["gradient_accumulation_steps"] or 1)
            if group["use_ema"] and updates:
                plan = self._bind(index, groups, self._are_kept()).plan
                plan.overwrite_with_averages(range(len(plan.variables)))

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Let the parameters hold their averages inside a ``with`` block, to evaluate them."""
        params = params_of(self.param_groups)
        kept = [p.detach().clone() for p in params]
        try:
            self.finalize_variable_values()
            yield
        finally:
            with torch.no_grad():
                for p, value in zip(params, kept, strict=True):
                    p.copy_(value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget_plans()

    def _forget_plans(self) -> None:
        self._bounds: list[Bound | None] = []
        self._states: list[Any] = []  # the dicts of `state`, as the plans have them

    def _settings(self, group: Mapping[str, Any]) -> tuple[_core.Options, _core.Rule]:
        options, rule = _core.Options(), self._rule()
        for name in OPTIONS:
            convert = _KINDS.get(name, optional(number))
            setattr(options, name, convert(name, _plain(group[name])))
        for name in self._numbers:
            convert = flag if isinstance(getattr(rule, name), bool) else number
            setattr(rule, name, convert(name, _plain(group[name])))
        options.check()
        rule.check()
        rate_of(group)
        return options, rule

    def _are_kept(self) -> bool:
        """Whether `state` has the dicts that the plans were made with."""
        known = self._states
        return len(known) == len(self.state) and all(map(is_, known, self.state.values()))

    def _units(self) -> list[list[Group]]:
        """Return the groups that are stepped at once: all, if a norm of all gradients is asked."""
        groups = self.param_groups
        if len(groups) == 1 or all(group["global_clipnorm"] is None for group in groups):
            return [[group] for group in groups]
        for name in (*OPTIONS, *self._numbers):
            for index, group in enumerate(groups):
                if group[name] != groups[0][name] and name != "weight_decay":
                    raise ValueError(
                        "With global_clipnorm, the norm of all gradients, groups may differ in lr "
                        f"and weight_decay alone. Group 0 has {name} {groups[0][name]!r}, group "
                        f"{index} has {group[name]!r}. Or clip with "
                        "torch.nn.utils.clip_grad_norm_ instead."
                    )
        return [groups]

    def _bind(self, index: int, groups: list[Group], are_kept: bool) -> Bound:
        """Return the plan of groups as it is now, made anew if that must be."""
        self._bounds += [None] * (index + 1 - len(self._bounds))
        bound = self._bounds[index]
        names = (*OPTIONS, *self._numbers)
        values = [group[name] for group in groups for name in names]
        if not are_kept or bound is None or bound.values != values or not bound.serves(groups):
            with torch.no_grad():
                bound = self._bounds[index] = self._make(groups, values)
            self._states = [*self.state.values()]
        return bound

    def _make(self, groups: list[Group], values: list[Any]) -> Bound:
        settings = [self._settings(group) for group in groups]  # which checks each
        options, rule = settings[0]
        decays = [group["weight_decay"] for group in groups]
        are_alike = decays == decays[:1] * len(decays)
        if not are_alike:
            options.weight_decay = 1.0
        owned = [(p, owner) for owner, group in enumerate(groups) for p in group["params"]]
        with_slots = [(p, i) for p, i in owned if p.requires_grad or p.grad is not None]
        stepped, owners = [p for p, _ in with_slots], [owner for _, owner in with_slots]
        others = [p for p, _ in owned if not p.requires_grad and p.grad is None]
        kinds = list(rule.slots)
        kinds += ["average"] * options.use_ema
        kinds += ["gradient_accumulator"] * ((options.gradient_accumulation_steps or 1) > 1)
        slots = {kind: [self._slot(p, kind) for p in stepped] for kind in kinds}
        states = [self.state[p] for p in stepped] if kinds else []
        plan = TensorPlan(
            [""] * len(stepped),
            stepped,
            [slots[kind] for kind in rule.slots],
            slots.get("average"),
            slots.get("gradient_accumulator"),
        )
        factors = [1.0 if are_alike else decay or 0.0 for decay in decays]
        for index, owner in enumerate(owners):
            plan.plan.set_decays(index, decays[owner] is not None)
        plan.take_received()
        plan.plan.prepare(rule)  # and wait for the slots: the first step may be on any stream
        rates = [1.0] * len(groups) if are_alike else []
        known = values, params_of(groups), others, states, slots
        return Bound(plan, options, rule, *known, owners, factors, rates)

    def _slot(self, p: Any, kind: str) -> Any:
        """Return a slot of a parameter; made over if that has gone to another type or device."""
        state = self.state[p]
        slot = state.get(kind)
        if slot is None:
            slot = state[kind] = zeros_beside(p)
        elif slot.shape != p.shape:
            raise ValueError(
                f"A parameter was resized: its shape is {tuple(p.shape)}, that of its slot "
                f"{kind!r} {tuple(slot.shape)}. Delete its entry in `state`, to start it anew."
            )
        elif slot.dtype is not slot_dtype(p) or slot.device != p.device:
            slot = state[kind] = zeros_beside(p).copy_(slot)
        return slot

    def _to_rule(self, group: Mapping[str, Any], rule: Any) -> None:
        """Give a rule what its group has counted."""
        rule.calls = group["iterations"]

    def _from_rule(self, group: dict[str, Any], rule: Any) -> None:
        group["iterations"] = rule.calls
