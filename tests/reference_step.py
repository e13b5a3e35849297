"""The step once more in plain NumPy: what every backend must reproduce, bit for bit.

Written from the description of the step, not from the library, so that a slip in either shows.
Nothing here is fast. Three things make it exact:

- Arrays meet only arrays and numbers of their own type, so NumPy never promotes anything.
- A number of a step (a rate, a power, a correction) is computed in double, as a Python float, and
  rounded once, when it meets an array.
- Only ``+ - * / sqrt`` and comparisons touch an array: IEEE 754 fixes the result of each.
"""

import math
from abc import ABC, abstractmethod
from types import SimpleNamespace

import numpy as np
from reference_norm import (
    clip_factor,
    elements_in_memory_order,
    sum_of_partial_sums,
    sum_of_squares,
)


def arithmetic_type(dtype):
    """Type in which a variable of `dtype` is computed, and of its slots: float64 or float32."""
    return np.float64 if np.dtype(dtype) == np.float64 else np.float32


def power(base, exponent):
    """Integer power by repeated squaring: ``**`` may differ in the last bit between machines."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


class Optimizer(ABC):
    """What all optimizers share: the order of a step, and everything around the rule.

    Parameters
    ----------
    learning_rate : float or callable
        A callable takes the number of completed calls of `apply`; it stands for a schedule.
    weight_decay, clipnorm, clipvalue, global_clipnorm : float, optional
    use_ema : bool, default False
    ema_momentum : float, default 0.99
    ema_overwrite_frequency : int, optional
    loss_scale_factor : float, optional
    gradient_accumulation_steps : int, optional
        Options of Keras, with its names and defaults. None is checked.
    excluded : collection of int, default ()
        Positions of the variables that do not decay.
    multipliers : dict, default {}
        Factors of learning rate and weight decay, by the position of the variable.

    Attributes
    ----------
    iterations : int
        Completed calls of `apply`, micro-steps included.
    slots : dict of str to list of numpy.ndarray
        State of the rule by Keras's name of the slot, one array a variable.
    averages, accumulators : list of numpy.ndarray
        One a variable, or empty if the option is off.
    """

    slot_names = ()

    def __init__(
        self,
        learning_rate,
        *,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        excluded=(),
        multipliers=None,
    ):
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.window = gradient_accumulation_steps or 1
        self.excluded = frozenset(excluded)
        self.multipliers = multipliers or {}

    def build(self, variables):
        """Bind `variables`, a list of arrays of any layout, and make their state, all zeros."""

        def zeros():
            return [np.zeros(v.shape, arithmetic_type(v.dtype)) for v in variables]

        self.variables = list(variables)
        self.iterations = 0
        self.slots = {name: zeros() for name in self.slot_names}
        self.averages = zeros() if self.use_ema else []
        self.accumulators = zeros() if self.window > 1 else []
        self.received = [False] * len(self.variables)

    def apply(self, grads):
        """Do one step, in place; a micro-step if gradients are being accumulated.

        Parameters
        ----------
        grads : list of (numpy.ndarray or None)
            One a variable, of its shape and any floating type. Empty: nothing happens at all.

        Raises
        ------
        ValueError
            If all are None.
        """
        if not grads:
            return
        if all(g is None for g in grads):
            raise ValueError("No gradients provided for any variable.")
        # Infinities and NaN go their way through a step; they are no reason for a warning.
        with np.errstate(all="ignore"):
            gradients = [
                None if g is None else self._unscale(np.asarray(g), v)
                for g, v in zip(grads, self.variables, strict=True)
            ]
            if self.window > 1:
                if (self.iterations + 1) % self.window:
                    self._accumulate(gradients)
                    self.iterations += 1
                    return
                gradients = self._finish_accumulation(gradients)
            self._update(gradients)
        self.iterations += 1

    def finalize_variable_values(self):
        """Copy the averages into the variables; before the first update there are none."""
        if self.use_ema and self.iterations >= self.window:
            for variable, average in zip(self.variables, self.averages, strict=True):
                variable[...] = average.astype(variable.dtype)

    def _update(self, gradients):
        iteration = self.iterations // self.window  # updates before this one
        # Schedules see micro-steps; the rule and the average see updates.
        rate = self.learning_rate
        rate = float(rate(self.iterations) if callable(rate) else rate)
        self.advance(iteration + 1)
        for i, g in enumerate(self._clip(gradients)):
            if g is None:
                continue
            variable = self.variables[i]
            kind = arithmetic_type(variable.dtype)
            w = variable.astype(kind)
            rate_factor, decay_factor = self.multipliers.get(i, (1.0, 1.0))
            own_rate = rate * rate_factor
            decay = kind((self.weight_decay or 0.0) * decay_factor * own_rate)
            if decay != 0 and i not in self.excluded:
                w = w - w * decay
            numbers = self.numbers(own_rate, iteration + 1)
            rounded = SimpleNamespace(**{name: kind(number) for name, number in numbers.items()})
            slots = {name: arrays[i] for name, arrays in self.slots.items()}
            variable[...] = self.rule(w, g, slots, rounded).astype(variable.dtype)
        if self.use_ema:
            self._average(iteration)

    def advance(self, t):  # noqa: B027
        """Move what the rule has in common for all variables to update `t` (from 1)."""

    @abstractmethod
    def numbers(self, learning_rate, t):
        """Numbers of the rule in update `t`, in double."""

    @abstractmethod
    def rule(self, w, g, slots, numbers):
        """Return the new `w` and write the new slots; all of one type, `numbers` too."""

    # The passes, in the order in which a step makes them.

    def _unscale(self, g, variable):
        kind = arithmetic_type(variable.dtype)
        g = g.astype(kind)
        # Unscaled only after the cast: a 16-bit gradient would underflow.
        return g if self.loss_scale_factor is None else g * kind(1 / self.loss_scale_factor)

    def _accumulate(self, gradients):
        for i, g in enumerate(gradients):
            if g is not None:
                self.accumulators[i][...] = self.accumulators[i] + g
                self.received[i] = True

    def _finish_accumulation(self, gradients):
        means = []
        for i, (g, accumulator) in enumerate(zip(gradients, self.accumulators, strict=True)):
            if g is None and not self.received[i]:
                means.append(None)
            else:
                # Keras would drop what a variable received before if nothing comes now.
                last = np.zeros_like(accumulator) if g is None else g
                means.append((last + accumulator) / accumulator.dtype.type(self.window))
            accumulator[...] = 0
            self.received[i] = False
        return means

    def _clip(self, gradients):
        return [
            None if g is None else self._clip_one(g, factor)
            for g, factor in zip(gradients, self._clip_factors(gradients), strict=True)
        ]

    def _clip_factors(self, gradients):
        if self.clipnorm is None and self.global_clipnorm is None:
            return [1.0] * len(gradients)
        # A variable without a gradient keeps its place in the tree of the global norm.
        squares = [
            0.0 if g is None else sum_of_squares(elements_in_memory_order(np.asarray(g), v))
            for g, v in zip(gradients, self.variables, strict=True)
        ]
        if self.clipnorm is not None:
            return [clip_factor(math.sqrt(s), self.clipnorm) for s in squares]
        norm = math.sqrt(sum_of_partial_sums(squares))
        # As in Keras one infinite gradient spoils all: without this the factor would be 0.
        factor = clip_factor(norm, self.global_clipnorm) if math.isfinite(norm) else math.nan
        return [factor] * len(squares)

    def _clip_one(self, g, factor):
        kind = g.dtype.type
        g = g * kind(factor)
        if self.clipvalue is not None:
            limit = kind(self.clipvalue)
            g = np.where(g < -limit, -limit, np.where(g > limit, limit, g))
        return g

    def _average(self, iteration):
        for variable, average in zip(self.variables, self.averages, strict=True):
            kind = average.dtype.type
            w = variable.astype(kind)
            if iteration == 0:
                average[...] = w
            else:
                average[...] = kind(self.ema_momentum) * average + kind(1 - self.ema_momentum) * w
            if self.ema_overwrite_frequency and (iteration + 1) % self.ema_overwrite_frequency == 0:
                variable[...] = average.astype(variable.dtype)
