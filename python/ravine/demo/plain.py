"""The update as one writes it by hand in plain NumPy: what the demo compares `ravine` with.

The formulas are those of Keras. In-place operators are used wherever they come naturally, so the
comparison is with decent NumPy; each operator is still one more pass over the memory.
"""

import math
from abc import ABC, abstractmethod

import numpy as np

from ravine.demo.network import Parameters


class PlainOptimizer(ABC):
    """Clipping and averaging, the same for each optimizer; a subclass adds its `update`.

    Parameters
    ----------
    learning_rate : float
    global_clipnorm : float
        The gradients are scaled down together until their common norm is at most this.
    ema_momentum : float
        Decay, per step, of the running average of the parameters.
    """

    def __init__(self, learning_rate: float, global_clipnorm: float, ema_momentum: float) -> None:
        self.learning_rate = learning_rate
        self.global_clipnorm = global_clipnorm
        self.ema_momentum = ema_momentum
        self.iterations = 0

    def build(self, parameters: Parameters) -> None:
        """Bind the parameters that `apply` will change."""
        self.parameters = parameters
        self.average = zeros_like(parameters)

    def apply(self, gradients: Parameters) -> None:
        """Clip, update and average. The gradients are scaled in place."""
        # Only the sum is brought to the host: on a GPU, for which this works too, that is a wait.
        squares = [np.vdot(g, g).astype(np.float64) for g in gradients.values()]
        norm = math.sqrt(sum(squares))
        if norm > self.global_clipnorm:
            for g in gradients.values():
                g *= self.global_clipnorm / norm

        self.iterations += 1
        self.update(gradients)

        # The first average is a plain copy, so it needs no correction for a start at zero.
        momentum = self.ema_momentum if self.iterations > 1 else 0.0
        for name, w in self.parameters.items():
            self.average[name] *= momentum
            self.average[name] += (1 - momentum) * w

    @abstractmethod
    def update(self, gradients: Parameters) -> None:
        """Change the parameters; the gradients are clipped."""

    def finalize_variable_values(self) -> None:
        """Replace the parameters by their averages."""
        for name, w in self.parameters.items():
            w[...] = self.average[name]


class SGD(PlainOptimizer):
    """Gradient descent with Nesterov momentum, https://keras.io/api/optimizers/sgd/."""

    def __init__(self, learning_rate: float, momentum: float, **options: float) -> None:
        super().__init__(learning_rate, **options)
        self.momentum = momentum

    def build(self, parameters: Parameters) -> None:
        """Bind the parameters; the state starts at zero."""
        super().build(parameters)
        self.velocity = zeros_like(parameters)

    def update(self, gradients: Parameters) -> None:
        """Change the parameters."""
        for name, g in gradients.items():
            velocity = self.velocity[name]
            velocity *= self.momentum
            velocity -= self.learning_rate * g
            self.parameters[name] += self.momentum * velocity - self.learning_rate * g


class RMSprop(PlainOptimizer):
    """Steps divided by the running size of the gradient, https://keras.io/api/optimizers/rmsprop/."""

    def __init__(
        self, learning_rate: float, rho: float = 0.9, epsilon: float = 1e-7, **options: float
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = rho
        self.epsilon = epsilon

    def build(self, parameters: Parameters) -> None:
        """Bind the parameters; the state starts at zero."""
        super().build(parameters)
        self.velocity = zeros_like(parameters)

    def update(self, gradients: Parameters) -> None:
        """Change the parameters."""
        for name, g in gradients.items():
            velocity = self.velocity[name]
            velocity *= self.rho
            velocity += (1 - self.rho) * g**2
            # Inside the root here, outside it in Nadam: Keras puts epsilon in different places.
            self.parameters[name] -= self.learning_rate * g / np.sqrt(velocity + self.epsilon)


class Nadam(PlainOptimizer):
    """Adam with Nesterov momentum, https://keras.io/api/optimizers/Nadam/."""

    def __init__(
        self,
        learning_rate: float,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: float,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.product = 1.0

    def build(self, parameters: Parameters) -> None:
        """Bind the parameters; the state starts at zero."""
        super().build(parameters)
        self.momentum = zeros_like(parameters)
        self.velocity = zeros_like(parameters)

    def update(self, gradients: Parameters) -> None:
        """Change the parameters."""
        # The momentum coefficient of this step and of the next one, Dozat (2015).
        now = self.beta_1 * (1 - 0.5 * 0.96**self.iterations)
        then = self.beta_1 * (1 - 0.5 * 0.96 ** (self.iterations + 1))
        self.product *= now

        for name, g in gradients.items():
            momentum, velocity = self.momentum[name], self.velocity[name]
            momentum += (1 - self.beta_1) * (g - momentum)
            velocity += (1 - self.beta_2) * (g**2 - velocity)
            momentum_hat = then / (1 - self.product * then) * momentum
            momentum_hat += (1 - now) / (1 - self.product) * g
            velocity_hat = velocity / (1 - self.beta_2**self.iterations)
            self.parameters[name] -= (
                self.learning_rate * momentum_hat / (np.sqrt(velocity_hat) + self.epsilon)
            )


def zeros_like(parameters: Parameters) -> Parameters:
    """Return zeros of the names and shapes of the parameters."""
    return {name: np.zeros_like(w) for name, w in parameters.items()}
