"""Steps whose numbers are on the host: read from variables, and written back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ravine import _core


class OnHost:
    """To be mixed into what holds a plan over the values of variables."""

    plan: _core.Plan
    take_received: Callable[[], None]
    run: Callable[[_core.Rule, _core.Options, float, Sequence[Any]], None]
    number: Callable[[Any], float]
    set_number: Callable[[Any, float], None]

    def start(self, rule: _core.Rule, decays: Sequence[bool]) -> None:
        """Prepare for steps by a rule, with weight decay of these variables."""
        for index, each in enumerate(decays):
            self.plan.set_decays(index, each)
        self.take_received()
        self.plan.prepare(rule)  # and wait for the slots: the first step may be on any stream

    def step(
        self,
        rule: _core.Rule,
        options: _core.Options,
        calls: Any,
        learning_rate: Any,
        grads: Sequence[Any],
        product: Any,
    ) -> None:
        """Step all variables.

        Parameters
        ----------
        rule : rule
        options : options
        calls : int
            How many steps there were.
        learning_rate : float
        grads : sequence
            What `gradients` returns.
        product : variable, optional
            Of the product of the momenta of Nadam.
        """
        rule.calls = int(calls)
        if product is not None:
            self._set_product(rule, options, self.number(product))
        self.run(rule, options, float(learning_rate), grads)
        if product is not None:
            self.set_number(product, rule.momentum_product)  # type: ignore[attr-defined]

    def _set_product(self, rule: Any, options: _core.Options, product: float) -> None:
        if product == 1:  # or not saved inside of Keras's LossScaleOptimizer
            updates = rule.calls // (options.gradient_accumulation_steps or 1)
            product = rule.product_after(updates)
        rule.momentum_product = product
