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
        numbers = self.numbers(rate, iteration + 1)
        for i, g in enumerate(self._clip(gradients)):
            if g is None:
                continue
            variable = self.variables[i]
            kind = arithmetic_type(variable.dtype)
            w = variable.astype(kind)
            if self.weight_decay and i not in self.excluded:
                w = w - w * kind(self.weight_decay * rate)
            rounded = SimpleNamespace(**{name: kind(number) for name, number in numbers.items()})
            slots = {name: arrays[i] for name, arrays in self.slots.items()}
            variable[...] = self.rule(w, g, slots, rounded).astype(variable.dtype)
        if self.use_ema:
            self._average(iteration)

    @abstractmethod
    def numbers(self, learning_rate, t):
        """Numbers of the rule in update `t` (from 1), in double; called once per update."""

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


# --- The rules: https://keras.io/api/optimizers/ in the order of operations of Keras 3


class SGD(Optimizer):
    """Gradient descent, with momentum if that is not 0; the slot holds the negative step."""

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, **options):
        super().__init__(learning_rate, **options)
        self.momentum = momentum
        self.nesterov = nesterov
        self.slot_names = ("momentum",) if momentum != 0 else ()

    def numbers(self, learning_rate, t):
        return {"learning_rate": learning_rate, "momentum": self.momentum}

    def rule(self, w, g, slots, numbers):
        step = g * numbers.learning_rate
        if self.momentum == 0:
            return w - step
        velocity = slots["momentum"]
        velocity[...] = velocity * numbers.momentum - step
        if self.nesterov:
            return w + (velocity * numbers.momentum - step)
        return w + velocity


class RMSprop(Optimizer):
    """Gradient over the root of its running mean square, or of its variance if centered."""

    def __init__(
        self,
        learning_rate=0.001,
        rho=0.9,
        momentum=0.0,
        epsilon=1e-7,
        centered=False,
        **options,
    ):
        super().__init__(learning_rate, **options)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered
        self.slot_names = ("velocity",)
        if momentum > 0:
            self.slot_names += ("momentum",)
        if centered:
            self.slot_names += ("average_gradient",)

    def numbers(self, learning_rate, t):
        return {
            "learning_rate": learning_rate,
            "rho": self.rho,
            "one_minus_rho": 1 - self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }

    def rule(self, w, g, slots, numbers):
        velocity = slots["velocity"]
        velocity[...] = numbers.rho * velocity + numbers.one_minus_rho * (g * g)
        denominator = velocity
        if self.centered:
            mean = slots["average_gradient"]
            mean[...] = numbers.rho * mean + numbers.one_minus_rho * g
            variance = velocity - mean * mean
            # Rounding makes the variance of a constant gradient negative. NaN must stay NaN.
            denominator = np.where(variance < 0, numbers.rho.dtype.type(0), variance)
        # Inside the root here, outside it in Nadam.
        denominator = denominator + numbers.epsilon
        increment = (numbers.learning_rate * g) / np.sqrt(denominator)
        if self.momentum > 0:
            momentum = slots["momentum"]
            momentum[...] = numbers.momentum * momentum + increment
            increment = momentum
        return w - increment


class Nadam(Optimizer):
    """Adam with Nesterov momentum, and a momentum that grows with the updates.

    Attributes
    ----------
    momentum_product : float
        Product of the momenta of all updates so far, in double, the same for all variables.
    """

    slot_names = ("momentum", "velocity")

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **options):
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables):
        super().build(variables)
        self.momentum_product = 1.0

    def numbers(self, learning_rate, t):
        momentum = self.beta_1 * (1 - 0.5 * power(0.96, t))
        next_momentum = self.beta_1 * (1 - 0.5 * power(0.96, t + 1))
        # Also for variables without a gradient: those are corrected as if they missed nothing.
        self.momentum_product *= momentum
        product = self.momentum_product
        return {
            "momentum_factor": learning_rate * next_momentum / (1 - product * next_momentum),
            "gradient_factor": learning_rate * (1 - momentum) / (1 - product),
            "velocity_factor": 1 / (1 - power(self.beta_2, t)),
            "one_minus_beta_1": 1 - self.beta_1,
            "one_minus_beta_2": 1 - self.beta_2,
            "epsilon": self.epsilon,
        }

    def rule(self, w, g, slots, numbers):
        momentum, velocity = slots["momentum"], slots["velocity"]
        momentum[...] = momentum + (g - momentum) * numbers.one_minus_beta_1
        velocity[...] = velocity + (g * g - velocity) * numbers.one_minus_beta_2
        step = numbers.momentum_factor * momentum + numbers.gradient_factor * g
        return w - step / (np.sqrt(velocity * numbers.velocity_factor) + numbers.epsilon)


class Adam(Optimizer):
    """Mean of the gradient over the root of its mean square, or of the largest there was.

    The corrections of the bias are part of the rate: epsilon stands beside a root without.
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
        **options,
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad
        self.slot_names = ("momentum", "velocity")
        if amsgrad:
            self.slot_names += ("velocity_hat",)

    def numbers(self, learning_rate, t):
        correction = math.sqrt(1 - power(self.beta_2, t))
        return {
            "alpha": learning_rate * correction / (1 - power(self.beta_1, t)),
            "one_minus_beta_1": 1 - self.beta_1,
            "one_minus_beta_2": 1 - self.beta_2,
            "epsilon": self.epsilon,
        }

    def rule(self, w, g, slots, numbers):
        momentum, velocity = slots["momentum"], slots["velocity"]
        momentum[...] = momentum + (g - momentum) * numbers.one_minus_beta_1
        velocity[...] = velocity + (g * g - velocity) * numbers.one_minus_beta_2
        if self.amsgrad:
            largest = slots["velocity_hat"]
            largest[...] = np.maximum(largest, velocity)  # NaN if either is
            velocity = largest
        return w - (momentum * numbers.alpha) / (np.sqrt(velocity) + numbers.epsilon)


class AdamW(Adam):
    """Adam, with decay of the weights unless told otherwise."""

    def __init__(self, learning_rate=0.001, weight_decay=0.004, **options):
        super().__init__(learning_rate, weight_decay=weight_decay, **options)
