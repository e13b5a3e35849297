"""Fit a line to noisy points by an optimizer of one's own.

Run it with ``python examples/own_optimizer.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import ravine
from ravine import ops


class AdaGrad(ravine.Optimizer):
    """Divides the gradient by the root of the sum of its squares (Duchi et al., 2011)."""

    def __init__(self, learning_rate: float = 0.5, epsilon: float = 1e-7, **options: Any) -> None:
        super().__init__(learning_rate, **options)
        self.epsilon = epsilon

    def build(self, variables: Sequence[Any]) -> None:
        """Make a slot beside each variable."""
        super().build(variables)
        self.sums = self.add_optimizer_variables(variables, "sum_of_squares")

    def update_step(self, gradient: Any, variable: Any, learning_rate: float) -> None:
        """Update one variable."""
        rate = ops.cast(learning_rate, variable.dtype)
        sums = self.sums[self._get_variable_index(variable)]
        self.assign_add(sums, ops.square(gradient))
        self.assign_sub(variable, rate * gradient / (ops.sqrt(sums) + self.epsilon))

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {**super().get_config(), "epsilon": self.epsilon}


def main() -> dict[str, float]:
    """Train, print, and return the line that was found."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 200)
    y = 3.0 * x - 0.5 + rng.normal(scale=0.1, size=200)

    line = {"slope": np.array(0.0), "offset": np.array(0.0)}
    optimizer = AdaGrad(learning_rate=0.5, global_clipnorm=1.0)
    optimizer.build(line)
    for _ in range(300):
        error = line["slope"] * x + line["offset"] - y
        optimizer.apply({"slope": np.mean(error * x), "offset": np.mean(error)})

    found = {name: float(value) for name, value in line.items()}
    print(f"slope {found['slope']:.2f}, offset {found['offset']:.2f}")
    return found


if __name__ == "__main__":
    main()
