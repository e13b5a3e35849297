"""Fit a line to noisy points: gradients in NumPy, the update in ravine.

Run it with ``python examples/quickstart.py``.
"""

from __future__ import annotations

import numpy as np

import ravine


def main() -> dict[str, float]:
    """Train, print, and return the line that was found."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 200)
    y = 3.0 * x - 0.5 + rng.normal(scale=0.1, size=200)

    line = {"slope": np.array(0.0), "offset": np.array(0.0)}
    optimizer = ravine.Nadam(learning_rate=0.05)
    optimizer.build(line)
    for _ in range(300):
        error = line["slope"] * x + line["offset"] - y
        optimizer.apply({"slope": np.mean(error * x), "offset": np.mean(error)})
        if optimizer.iterations % 100 == 0:
            print(f"{optimizer.iterations} steps: mean square error {np.mean(error**2):.4f}")

    found = {name: float(value) for name, value in line.items()}
    print(f"slope {found['slope']:.2f}, offset {found['offset']:.2f}")
    return found


if __name__ == "__main__":
    main()
