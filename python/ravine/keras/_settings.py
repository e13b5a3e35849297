"""The attributes of one of Keras's optimizers, as the options and the rule of a native step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ravine import _core

_OPTIONS = (
    "weight_decay",
    "clipnorm",
    "global_clipnorm",
    "clipvalue",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)


class Settings:
    """Options and rule of an optimizer, made anew when an attribute that they are of was set.

    Parameters
    ----------
    optimizer : keras.optimizers.Optimizer
    rule : type of rule
        Whose numbers have the names of attributes.
    numbers : sequence of str
    """

    def __init__(self, optimizer: Any, rule: type[_core.Rule], numbers: Sequence[str]) -> None:
        self._optimizer = optimizer
        self._rule_type = rule
        self._numbers = numbers
        self.names = frozenset((*_OPTIONS, *numbers))
        self._are_known = False

    def forget(self) -> None:
        """Make them anew when they are asked for: an attribute was set."""
        self._are_known = False

    def __call__(self) -> tuple[_core.Options, _core.Rule]:
        """Return the options and the rule as the attributes are now.

        Raises
        ------
        ValueError
            If a number is out of its range.
        """
        if not self._are_known:
            self.options = _options(self._optimizer)
            self.rule = self._rule()
            values = [getattr(self._optimizer, name) for name in self.names]
            # A function, a tensor or a property may tell another number the next time.
            self._are_known = all(
                isinstance(value, float | int | None) for value in values
            ) and not any(hasattr(type(self._optimizer), name) for name in self.names)
        return self.options, self.rule

    def _rule(self) -> _core.Rule:
        rule = self._rule_type()
        for name in self._numbers:
            kind = type(getattr(rule, name))
            setattr(rule, name, kind(_number(getattr(self._optimizer, name))))
        rule.check()
        return rule


def _number(value: Any) -> Any:
    """Return a number that may be given by a function, as Keras documents for betas."""
    return value() if callable(value) else value


def _options(optimizer: Any) -> _core.Options:
    options = _core.Options()
    options.weight_decay = optimizer.weight_decay
    for name in ("clipnorm", "global_clipnorm", "clipvalue"):  # in Keras the first of these counts
        threshold = getattr(optimizer, name)
        if threshold is not None and threshold > 0:
            setattr(options, name, threshold)
            break
    if optimizer.use_ema:
        options.use_ema = True
        options.ema_momentum = optimizer.ema_momentum
        options.ema_overwrite_frequency = optimizer.ema_overwrite_frequency or None
    options.loss_scale_factor = optimizer.loss_scale_factor
    options.gradient_accumulation_steps = optimizer.gradient_accumulation_steps or None
    options.check()
    return options
