"""The options that all optimizers share: their types, defaults and place in a signature."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict


class OptionsButDecay(TypedDict, total=False):
    """Keyword arguments of every optimizer; `Optimizer` says what they mean."""

    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    name: str | None


class Options(OptionsButDecay, total=False):
    """And that which some optimizers have among their own arguments."""

    weight_decay: float | None


DEFAULTS: Options = {
    "weight_decay": None,
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "name": None,
}


def complete(options: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """Fill in the defaults; refuse what is not an option of an optimizer of this class."""
    given = dict(options)
    if given.pop("decay", None) is not None:
        warnings.warn(
            "The argument `decay` is no longer supported and is ignored. Use a learning rate "
            "schedule.",
            stacklevel=levels_to_the_caller(),
        )
    if unknown := sorted(given.keys() - DEFAULTS.keys()):
        raise ValueError(unknown_arguments(unknown, cls, DEFAULTS))
    return {**DEFAULTS, **given}


def unknown_arguments(unknown: Sequence[str], cls: type, options: Iterable[str]) -> str:
    """Say which arguments a class has, those of its own first."""
    several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    own = [p.name for p in inspect.signature(cls).parameters.values() if p.kind not in several]
    return f"Unknown arguments {unknown}. {cls.__name__} has {[*dict.fromkeys([*own, *options])]}."


def levels_to_the_caller() -> int:
    """Count the frames from the caller of this function to the first outside of the package."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("ravine."):
        level, frame = level + 1, frame.f_back
    return level - 1


def full_signature(cls: type, default_name: str) -> inspect.Signature:
    """Return the signature of a class with ``**options`` spelled out, where it has those."""
    _, *own = inspect.signature(vars(cls)["__init__"]).parameters.values()
    if not own or "Unpack[Options" not in str(own[-1].annotation):
        return inspect.Signature(own)
    own.pop()
    taken = {parameter.name for parameter in own}
    defaults = {**DEFAULTS, "name": default_name}
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in defaults.items()
        if name not in taken
    ]
    return inspect.Signature(own + shared)
