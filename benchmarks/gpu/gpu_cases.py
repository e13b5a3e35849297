"""What is timed: arrays, optimizers and options, and how many bytes a step of each must move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import ravine
from ravine.bench.workloads import Shapes, gpt2, resnet50

RATE, MOMENTUM, RHO, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.9, 0.9, 0.999, 1e-7
DECAY, CLIP, EMA = 1e-2, 1.0, 0.99
ALL_OPTIONS: dict[str, Any] = {"global_clipnorm": CLIP, "weight_decay": DECAY, "use_ema": True}
ITEM_BYTES = {"float32": 4, "bfloat16": 2}
SLOT_BYTES = 4  # slots and averages are float32, whatever the variables are
# Arrays begin at multiples of this, as those do that CuPy allocates one by one.
ALIGNMENT = 512
# All sets of arrays together are so many times as large as the cache, if that takes no more sets.
CACHES = 8
MOST_SETS = 32
# The arrays on which results are compared: the first ones, cut.
SAMPLE_ARRAYS, SAMPLE_SIZE = 8, 1 << 16


def llama() -> Shapes:
    """Llama-3.2-1B: 146 arrays, 1.24 billion parameters."""
    width, narrow, wide = 2048, 512, 8192
    block: Shapes = [
        (width,),
        (width, width),
        (narrow, width),
        (narrow, width),
        (width, width),
        (width,),
        (wide, width),
        (wide, width),
        (width, wide),
    ]
    return [(128256, width), *(block * 16), (width,)]


WORKLOADS: dict[str, Shapes] = {
    "gpt2": gpt2(),
    "tiny": [(1024,)] * 1000,
    "resnet50": resnet50(),
    "llama": llama(),
    "flat": [(sum(map(prod, gpt2())),)],
}


@dataclass(frozen=True)
class Rule:
    """An optimizer of ravine, its arguments, and how many slots a variable has."""

    optimizer: str
    slots: int
    arguments: dict[str, Any] = field(default_factory=dict)


RULES = {
    "nadam": Rule("Nadam", 2, {"beta_1": BETA_1, "beta_2": BETA_2, "epsilon": EPSILON}),
    "momentum": Rule("SGD", 1, {"momentum": MOMENTUM}),
    "rmsprop": Rule("RMSprop", 1, {"rho": RHO, "epsilon": EPSILON}),
    "centered": Rule(
        "RMSprop", 3, {"rho": RHO, "epsilon": EPSILON, "momentum": MOMENTUM, "centered": True}
    ),
    "sgd": Rule("SGD", 0),
}


def bytes_per_parameter(slots: int, item: int, norm: bool, average: bool) -> int:
    """Bytes that a step must move, for each parameter.

    Variable, slots and average are read and written, the gradient is read, and once more for the
    norm.

    Parameters
    ----------
    slots : int
        How many a variable has.
    item : int
        Bytes of an element of the variables and gradients.
    norm, average : bool
        Whether there is clipping by norm, and averaging.
    """
    return 3 * item + 2 * SLOT_BYTES * slots + item * norm + 2 * SLOT_BYTES * average


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    workload: str
    rule: str
    options: bool = False
    dtype: str = "float32"

    @property
    def shapes(self) -> Shapes:
        """Shapes of the variables."""
        return WORKLOADS[self.workload]

    @property
    def parameters(self) -> int:
        """How many elements the variables have."""
        return sum(map(prod, self.shapes))

    @property
    def slots(self) -> int:
        """How many slots a variable has."""
        return RULES[self.rule].slots

    @property
    def item(self) -> int:
        """Bytes of an element of the variables and gradients."""
        return ITEM_BYTES[self.dtype]

    @property
    def bytes_per_parameter(self) -> int:
        """Bytes that a step must move, for each parameter."""
        return bytes_per_parameter(self.slots, self.item, self.options, self.options)

    @property
    def bytes_moved(self) -> int:
        """Bytes that a step must move."""
        return self.bytes_per_parameter * self.parameters

    @property
    def bytes_held(self) -> int:
        """Bytes of variables, gradients and state."""
        return self.parameters * (2 * self.item + SLOT_BYTES * (self.slots + self.options))

    def sets(self, cache: int) -> int:
        """How many sets of arrays are stepped in turn, so that none is still in the cache."""
        return min(MOST_SETS, -(-CACHES * cache // self.bytes_held))

    def optimizer(self) -> ravine.Optimizer:
        """Make the optimizer of ravine."""
        rule = RULES[self.rule]
        options = ALL_OPTIONS if self.options else {}
        made: ravine.Optimizer = getattr(ravine, rule.optimizer)(RATE, **rule.arguments, **options)
        return made

    def __str__(self) -> str:
        """Name of the case, in one line."""
        return f"{self.workload} {self.dtype} {self.rule}" + (" + options" if self.options else "")


def cases(
    workloads: Sequence[str], rules: Sequence[str], dtypes: Sequence[str], options: Sequence[bool]
) -> Iterator[Case]:
    """All combinations, those that matter most first: the time may not suffice for all."""
    for dtype in sorted(dtypes, key=[*ITEM_BYTES].index):
        for workload in sorted(workloads, key=[*WORKLOADS].index):
            for with_options in sorted(options):
                for rule in sorted(rules, key=[*RULES].index):
                    yield Case(workload, rule, with_options, dtype)


def sample(shapes: Shapes) -> Shapes:
    """Return the first shapes, cut along the first axis to what the CPU steps in no time."""
    result: Shapes = []
    for shape in shapes[:SAMPLE_ARRAYS]:
        rows = max(1, SAMPLE_SIZE // prod(shape[1:]))
        result.append((min(shape[0], rows), *shape[1:]))
    return result


def offsets(shapes: Shapes, item: int) -> list[int]:
    """Where arrays begin in one piece of memory, in elements; then, where the last one ends."""
    unit = ALIGNMENT // item
    result = [0]
    for shape in shapes:
        result.append(result[-1] + -(-prod(shape) // unit) * unit)
    return result
