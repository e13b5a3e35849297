"""Checkpoints: variables, state and configuration of an optimizer in one file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ravine import _core
from ravine._arrays import Array, copies_beside, empty_beside, to_host, viewed, write
from ravine._files import Arrays, Stored, replacing
from ravine._npz import open_npz, write_npz
from ravine._safetensors import open_safetensors, write_safetensors
from ravine._saved_state import (
    check_fits,
    check_keys,
    check_loadable,
    live_state,
    load_state_dict,
    wait,
)

if TYPE_CHECKING:
    from ravine._buildable import Buildable

_FORMAT = "ravine checkpoint"
_VERSION = 1
_VARIABLE, _STATE = "variable/", "state/"
_RATE = "state/learning_rate"  # not every state has one


class _Kind(NamedTuple):
    write: Callable[[IO[bytes], dict[str, Any], Arrays], None]
    open: Callable[[IO[bytes]], Stored]


_KINDS = {
    ".npz": _Kind(write_npz, open_npz),
    ".safetensors": _Kind(write_safetensors, open_safetensors),
}

Path: TypeAlias = str | os.PathLike[str]


def save(optimizer: Buildable, path: Path, config: Mapping[str, Any]) -> None:
    """Write a checkpoint: see `Optimizer.save`.

    `config` is that of the optimizer or of the one around it, with its ``class_name``.
    """
    kind = _kind(path)
    _check_json(config)
    contents = _contents(optimizer)
    metadata = {
        "format": _FORMAT,
        "version": _VERSION,
        "ravine": _core.__version__,
        **config,
        "state_of": type(optimizer).__name__,
        "iteration": int(contents["state/iteration"]),
        "arrays": {
            key: {"dtype": str(array.dtype), "shape": [*array.shape]}
            for key, array in contents.items()
        },
    }
    with replacing(path) as file:
        kind.write(file, metadata, {key: partial(to_host, a) for key, a in contents.items()})


def load(optimizer: Buildable, path: Path, class_name: str) -> None:
    """Take up a checkpoint: see `Optimizer.load`.

    `class_name` is that of the optimizer or of the one around it.
    """
    kind = _kind(path)
    contents = _contents(optimizer)
    with open(path, "rb") as file:
        try:
            values = _values(kind.open(file), contents, class_name, type(optimizer).__name__)
            state = {k.removeprefix(_STATE): v for k, v in values.items() if k.startswith(_STATE)}
            state["class_name"] = np.array(type(optimizer).__name__)
            check_loadable(optimizer, state)
        except MemoryError:
            raise
        except Exception as error:  # whatever a file makes the readers of its format raise
            reason = str(error).rstrip(".")
            if type(error) is not ValueError:
                reason = f"It is damaged or of another kind ({type(error).__name__}: {reason})"
            raise ValueError(
                f"The checkpoint {os.fspath(path)!r} cannot be loaded, nothing was changed. "
                f"{reason}."
            ) from error
    _take_up(optimizer, values, state)


def _kind(path: Path) -> _Kind:
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(
            "The path of a checkpoint must be a str or a path, as of pathlib. Received: "
            f"{type(path).__name__}."
        )
    ending = os.path.splitext(path)[1]
    if ending not in _KINDS:
        raise ValueError(
            f"The name of a checkpoint must end in {' or '.join(_KINDS)}. Received: {path!r}."
        )
    return _KINDS[ending]


def _check_json(config: Mapping[str, Any]) -> None:
    try:
        json.dumps(config)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"The configuration cannot be saved: {error}. Let get_config() return what JSON holds."
        ) from None


def _contents(optimizer: Buildable) -> dict[str, Any]:
    """Return the very arrays that a checkpoint holds, of NumPy or CuPy, and scalars."""
    state = live_state(optimizer)
    del state["class_name"]
    assert optimizer._variables is not None
    names, arrays = optimizer._variables.names, optimizer._variables.bound
    return {
        **{f"{_VARIABLE}{name}": viewed(a) for name, a in zip(names, arrays, strict=True)},
        **{f"{_STATE}{key}": array for key, array in state.items()},
    }


def _values(
    stored: Stored, contents: Mapping[str, Any], class_name: str, state_of: str
) -> dict[str, Array]:
    """Check all that a file says of itself, and only then read what it holds."""
    metadata = json.loads(stored.metadata)
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise ValueError("It is no checkpoint of ravine.")
    if metadata["version"] != _VERSION:
        raise ValueError(
            f"It has version {metadata['version']} of the format, and this ravine reads version "
            f"{_VERSION}. Install the ravine that wrote it: {metadata['ravine']}."
        )
    found, own = (metadata["class_name"], metadata["state_of"]), (class_name, state_of)
    if found != own:
        raise ValueError(
            f"It is that of {_of(*found)}, this optimizer is {_of(*own)}. Load it into one of the "
            "same class."
        )
    arrays = metadata["arrays"]
    if {*arrays} != {*stored.keys}:
        raise ValueError(f"Its arrays are not those of its metadata: {sorted(stored.keys)}.")
    check_keys({*contents} - {_RATE}, {*arrays} - {_RATE})
    fitting = {**contents, _RATE: np.array(0.0)}
    for key, array in arrays.items():
        check_fits(key, fitting[key], array["shape"], array["dtype"])
    values = dict(zip(arrays, empty_beside([fitting[key] for key in arrays]), strict=True))
    for key, array in values.items():
        stored.read(key, array)
    return values


def _of(class_name: str, state_of: str) -> str:
    return class_name if class_name == state_of else f"{class_name} around {state_of}"


def _take_up(optimizer: Buildable, values: Mapping[str, Array], state: Mapping[str, Array]) -> None:
    """Write variables and state; if that fails, write back what was there."""
    built = optimizer._variables
    assert built is not None
    built.check_writable()
    before = copies_beside(built.bound)
    try:
        for name, array in zip(built.names, built.bound, strict=True):
            write(array, values[f"{_VARIABLE}{name}"])
        load_state_dict(optimizer, state)
    except BaseException:
        for array, value in zip(built.bound, before, strict=True):
            write(array, value)
        wait(optimizer)
        raise
