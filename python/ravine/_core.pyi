from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

__version__: str

class Rule:
    calls: int
    @property
    def slots(self) -> tuple[str, ...]: ...
    def check(self) -> None: ...
    def copy(self) -> Rule: ...

class SGD(Rule):
    momentum: float
    nesterov: bool
    def __init__(self) -> None: ...
    def copy(self) -> SGD: ...

class RMSprop(Rule):
    rho: float
    momentum: float
    epsilon: float
    centered: bool
    def __init__(self) -> None: ...
    def copy(self) -> RMSprop: ...

class Nadam(Rule):
    beta_1: float
    beta_2: float
    epsilon: float
    momentum_product: float
    def __init__(self) -> None: ...
    def copy(self) -> Nadam: ...

class Options:
    weight_decay: float | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    def __init__(self) -> None: ...
    def copy(self) -> Options: ...
    def check(self) -> None: ...

class Plan:
    received: list[bool]
    def __init__(
        self,
        names: Sequence[str],
        variables: list[NDArray[Any]],
        slots: Sequence[list[NDArray[Any]]],
        averages: list[NDArray[Any]] | None,
        accumulators: list[NDArray[Any]] | None,
    ) -> None: ...
    def step(
        self,
        rule: Rule,
        options: Options,
        learning_rate: float,
        gradients: Sequence[NDArray[Any] | float | None],
        on_missing: Callable[[list[NDArray[Any] | float | None]], None] | None,
    ) -> None: ...
    def time_steps(
        self,
        rule: Rule,
        options: Options,
        learning_rate: float,
        gradients: Sequence[NDArray[Any] | float | None],
        repeats: int,
    ) -> float: ...
    def time_streams(
        self,
        options: Options,
        gradients: Sequence[NDArray[Any] | float | None],
        repeats: int,
    ) -> float: ...
    def overwrite_with_averages(self, indices: Sequence[int]) -> None: ...
    def set_decays(self, index: int, decays: bool) -> None: ...

def num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...
def instruction_set() -> str: ...
