"""Some of the variables, chosen by name or by identity."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ravine._arrays import AnyArray, on_gpu
from ravine._variables import BuiltVariables

_EXCLUDE = "exclude_from_weight_decay"


class Selection:
    """Variables by regular expression, by identity or by whole name.

    Parameters
    ----------
    method : str
        That which was given them, for messages.
    var_list : iterable of arrays
    var_names : iterable of str
        Regular expressions, searched for anywhere in the name of a variable.
    names : iterable of str
        Whole names, as a configuration holds them.
    """

    def __init__(
        self,
        method: str,
        var_list: Iterable[AnyArray] = (),
        var_names: Iterable[str] = (),
        names: Iterable[str] = (),
    ) -> None:
        is_array = isinstance(var_list, np.ndarray) or on_gpu(var_list)
        if is_array or not _is_list(var_list) or not _is_list(var_names):
            raise ValueError(f"Pass lists to {method}(), also of one element.")
        self.method = method
        self.arrays = list(var_list)
        if strings := [each for each in self.arrays if isinstance(each, str)]:
            raise ValueError(
                f"The first argument of {method}() are arrays. Pass names by var_names={strings}."
            )
        self.patterns = list(var_names)
        self.names = list(names)
        for pattern in self.patterns:
            if not isinstance(pattern, str) or not pattern:
                raise ValueError(
                    "var_names must be regular expressions that are not empty: an empty one would "
                    f"choose every variable. Received: {pattern!r}."
                )
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"var_names must be regular expressions. {pattern!r}: {error}."
                ) from None

    def chosen(self, variables: BuiltVariables) -> list[bool]:
        """Whether each variable is chosen; ValueError if an array or a name is none of theirs."""
        if unknown := sorted(set(self.names) - set(variables.names)):
            raise ValueError(
                f"Names given to {self.method}() are not among the variables: {unknown}."
            )
        by_identity = {variables.index(array) for array in self.arrays}
        return [
            index in by_identity
            or name in self.names
            or any(re.search(pattern, name) for pattern in self.patterns)
            for index, name in enumerate(variables.names)
        ]

    def by_name(self, variables: BuiltVariables | None) -> Selection:
        """Return the same choice for arrays elsewhere: by name where the names are known."""
        if variables is None:
            return Selection(self.method, self.arrays, self.patterns, self.names)
        names = [variables.names[variables.index(array)] for array in self.arrays]
        return Selection(self.method, (), self.patterns, [*self.names, *names])

    def get_config(self, variables: BuiltVariables | None) -> dict[str, list[str]]:
        """Return what was chosen, by name."""
        if self.arrays and variables is None:
            raise ValueError(
                f"Variables given to {self.method}() by identity have names only after build(). "
                "Call build() before get_config(), or choose them by name."
            )
        named = self.by_name(variables)
        return {"var_names": named.patterns, "names": named.names}


class DecayExclusions(Selection):
    """The variables that weight decay leaves alone."""

    def __init__(
        self,
        var_list: Iterable[AnyArray] = (),
        var_names: Iterable[str] = (),
        names: Iterable[str] = (),
    ) -> None:
        super().__init__(_EXCLUDE, var_list, var_names, names)

    @classmethod
    def from_config(cls, config: object) -> DecayExclusions:
        """Make them from what `get_config` returned."""
        return cls((), **names_in(config, _EXCLUDE))


def names_in(config: object, method: str) -> Mapping[str, Any]:
    """Return what `Selection.get_config` returned; ValueError if it is nothing of this kind."""
    if (
        isinstance(config, Mapping)
        and config.keys() <= {"var_names", "names"}
        and all(isinstance(each, (list, tuple)) for each in config.values())
    ):
        return config
    raise ValueError(
        f"In a configuration, what {method}() has chosen must be a dict with 'var_names' and "
        f"'names', lists of strings. Received: {config!r}."
    )


def _is_list(given: object) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, (str, Mapping))
