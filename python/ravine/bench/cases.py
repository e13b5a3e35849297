"""What is timed: a workload, a rule, plain or with options, and the arrays for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

import ravine
from ravine.bench.workloads import WORKLOADS, Shapes

RATE, MOMENTUM, RHO, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.9, 0.9, 0.999, 1e-7
DECAY, CLIP, EMA = 1e-2, 1.0, 0.99

RULES: dict[str, Callable[..., ravine.Optimizer]] = {
    "sgd": lambda **options: ravine.SGD(RATE, **options),
    "nesterov": lambda **options: ravine.SGD(RATE, MOMENTUM, nesterov=True, **options),
    "rmsprop": lambda **options: ravine.RMSprop(RATE, RHO, epsilon=EPSILON, **options),
    "nadam": lambda **options: ravine.Nadam(RATE, BETA_1, BETA_2, EPSILON, **options),
    "adam": lambda **options: ravine.Adam(RATE, BETA_1, BETA_2, EPSILON, **options),
}
# Those of a case with options, and one by one.
TOGETHER: dict[str, Any] = {"global_clipnorm": CLIP, "weight_decay": DECAY, "use_ema": True}
SINGLY: dict[str, dict[str, Any]] = {
    "plain": {},
    "weight_decay": {"weight_decay": DECAY},
    "clipvalue": {"clipvalue": CLIP},
    "clipnorm": {"clipnorm": CLIP},
    "global_clipnorm": {"global_clipnorm": CLIP},
    "loss_scale_factor": {"loss_scale_factor": 3.0},
    "use_ema": {"use_ema": True, "ema_momentum": EMA},
    "together": TOGETHER,
}
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Parameters
    ----------
    workload : str
        Key of `WORKLOADS`.
    rule : str
        Key of `RULES`.
    option : str
        Key of `SINGLY`.
    dtype : {"float32", "bfloat16", "float16"}
        Of variables and gradients.
    shapes : list of tuple of int, optional
        In place of those of the workload.
    """

    workload: str
    rule: str
    option: str = "plain"
    dtype: str = "float32"
    shapes: Shapes | None = None

    @property
    def together(self) -> bool:
        """Whether peers clip, decay and average too."""
        return self.option == "together"

    @property
    def title(self) -> str:
        """Return how progress and the table call it."""
        with_options = {"plain": "", "together": ", clip + decay + average"}
        return f"{self.workload} {self.rule} {self.dtype}" + with_options.get(
            self.option, f", {self.option}"
        )

    def arrays(self) -> tuple[list[Any], list[Any]]:
        """Make variables and gradients; variables stay ordinary numbers for many steps."""
        dtype = _bfloat16() if self.dtype == "bfloat16" else np.dtype(self.dtype)
        random = np.random.default_rng(0)

        def draw(low: float, high: float) -> list[Any]:
            shapes = self.shapes or WORKLOADS[self.workload]
            return [random.uniform(low, high, shape).astype(dtype) for shape in shapes]

        return draw(0.5, 1.5), draw(1e-3, 2e-3)

    def optimizer(self) -> ravine.Optimizer:
        """Make ravine's."""
        return RULES[self.rule](**SINGLY[self.option])

    def bytes_moved(self) -> int:
        """Bytes that a step must read and write."""
        elements = sum(int(np.prod(shape)) for shape in self.shapes or WORKLOADS[self.workload])
        item = 4 if self.dtype == "float32" else 2
        slots = len(self.optimizer()._rule.slots)
        has_norm = any("norm" in option for option in SINGLY[self.option])
        averages = "use_ema" in SINGLY[self.option]
        return elements * ((3 + has_norm) * item + 8 * (slots + averages))


def _bfloat16() -> Any:
    return np.dtype(import_module("ml_dtypes").bfloat16)


def against_peers(
    workloads: Sequence[str], rules: Sequence[str], dtypes: Sequence[str]
) -> Iterator[Case]:
    """Each plain and with options."""
    for workload in workloads:
        for dtype in dtypes:
            for rule in rules:
                case = Case(workload, rule, dtype=dtype)
                yield case
                yield replace(case, option="together")


def by_size(rules: Sequence[str], exponents: Sequence[int]) -> Iterator[Case]:
    """One array of many sizes."""
    return (Case(f"flat{n}", rule) for n in exponents for rule in rules)


def by_option(rules: Sequence[str]) -> Iterator[Case]:
    """Each option alone, on ResNet-50."""
    return (Case("resnet50", rule, option) for rule in rules for option in SINGLY)


def by_count(counts: Sequence[int]) -> Iterator[Case]:
    """Many arrays of 64: what an array costs, whatever is in it."""
    return (Case(f"{n} x 64", "nadam", shapes=[(64,)] * n) for n in counts)
