"""The rules once more in plain NumPy, around the step of `reference_step`.

Formulas of https://keras.io/api/optimizers/ in the order of operations of Keras 3.
"""

import math

import numpy as np
from reference_step import Optimizer, power


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

    def scheduled_momentum(self, t):
        return self.beta_1 * (1 - 0.5 * power(0.96, t))

    def advance(self, t):
        # Also for variables without a gradient: those are corrected as if they missed nothing.
        self.momentum_product *= self.scheduled_momentum(t)

    def numbers(self, learning_rate, t):
        momentum, next_momentum = self.scheduled_momentum(t), self.scheduled_momentum(t + 1)
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
