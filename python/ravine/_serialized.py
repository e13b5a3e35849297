"""Objects as dictionaries in the form of Keras, and the classes that such dictionaries name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")
CustomObjects: TypeAlias = Mapping[str, type[Any]]


class HasConfig(Protocol):
    """What can be told as a dictionary."""

    def get_config(self) -> dict[str, Any]: ...


def is_built_in(cls: type) -> bool:
    """Whether a class is one of this package, not of a user's."""
    return cls.__module__.partition(".")[0] == "ravine"


def serialized(thing: HasConfig, module: str) -> dict[str, Any]:
    """Return an object as a dictionary.

    Parameters
    ----------
    thing : object with ``get_config``
    module : str
        Where Keras has the classes of this kind. Those of this package are theirs by name and
        configuration; a class of a user's is said to be where it is.
    """
    cls = type(thing)
    config = {"class_name": cls.__name__, "config": thing.get_config()}
    if is_built_in(cls):
        return {"module": module, **config, "registered_name": None}
    own = None if cls.__module__ == "__main__" else cls.__module__
    return {"module": own, **config, "registered_name": cls.__name__}


def arguments_in(config: object) -> dict[str, Any]:
    """Return a copy of what ``get_config`` returned; TypeError if it is nothing of this kind."""
    if not isinstance(config, Mapping):
        raise TypeError(
            "from_config() takes what get_config() returned, a dict. Received: "
            f"{type(config).__name__}."
        )
    if others := [key for key in config if not isinstance(key, str)]:
        raise TypeError(
            "from_config() takes what get_config() returned, a dict whose keys are strings. "
            f"Received, as a key: {others[0]!r}."
        )
    return dict(config)


def class_and_config(
    data: Mapping[str, Any],
    kind: str,
    base: type[Any],
    known: Mapping[str, type[T]],
    custom_objects: CustomObjects | None = None,
    *,
    any_case: bool = False,
) -> tuple[type[T], dict[str, Any]]:
    """Return the class that a dictionary names, and a copy of its configuration.

    Parameters
    ----------
    data : mapping
        It is not modified.
    kind : str
        What it should be, for messages.
    base : type
        What the class must be a subclass of.
    known : mapping of str to type
        The classes of this package.
    custom_objects : mapping of str to type, optional
        The user's. They do not take the place of a class that is said to be Keras's.
    any_case : bool, default False
        Whether upper and lower case are the same in the names of `known`.
    """
    name = data.get("class_name") if isinstance(data, Mapping) else None
    config = data.get("config") if isinstance(data, Mapping) else None
    if not isinstance(name, str) or not isinstance(config, Mapping | None):
        raise ValueError(
            f"The configuration of the {kind} must be a dict with 'class_name', a string, and "
            f"'config', a dict. Received: {data!r}."
        )
    module = data.get("module", "")
    cls = None
    if module == "" or str(module).partition(".")[0] == "keras":
        folded = str.lower if any_case else str
        cls = {folded(each): found for each, found in known.items()}.get(folded(name))
    if cls is None or module == "":
        custom = _custom(data, custom_objects or {}, base)
        cls = cls if custom is None else custom
    if cls is None:
        raise ValueError(_unknown(kind, name, module, [*known, *(custom_objects or {})]))
    return cls, dict(config or {})


def _custom(
    data: Mapping[str, Any], custom_objects: CustomObjects, base: type[T]
) -> type[T] | None:
    for name in (data.get("registered_name"), data["class_name"]):
        cls = custom_objects.get(name) if isinstance(name, str) else None
        if cls is not None and not (isinstance(cls, type) and issubclass(cls, base)):
            raise ValueError(
                f"custom_objects[{name!r}] must be a subclass of {base.__name__}. "
                f"Received: {cls!r}."
            )
        if cls is not None:
            return cls
    return None


def _unknown(kind: str, name: str, module: object, known: list[str]) -> str:
    return (
        f"Unknown {kind} {name!r}{f' of module {module!r}' if module else ''}. Known: "
        f"{sorted(known)}. Pass a class of your own in custom_objects."
    )
