"""What the learning rate and the weight decay of single variables are multiplied by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, NamedTuple

from ravine._selection import Selection, names_in
from ravine._settings import number
from ravine._variables import BuiltVariables

METHOD = "set_multipliers"


class Multipliers(NamedTuple):
    """Factors of one variable.

    Attributes
    ----------
    learning_rate, weight_decay : float
        The variable is updated as by an optimizer with these products.
    """

    learning_rate: float = 1.0
    weight_decay: float = 1.0


class Choice(NamedTuple):
    """Factors for some variables, or all if no selection is given; None leaves one as it was."""

    selection: Selection | None
    learning_rate: float | None
    weight_decay: float | None

    def applied(self, before: Multipliers) -> Multipliers:
        """Return the factors of a variable that is chosen."""
        return Multipliers(
            before.learning_rate if self.learning_rate is None else self.learning_rate,
            before.weight_decay if self.weight_decay is None else self.weight_decay,
        )

    def get_config(self, variables: BuiltVariables | None) -> dict[str, Any]:
        """Return the choice as JSON can hold it."""
        chosen = {} if self.selection is None else self.selection.get_config(variables)
        return {
            **chosen,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
        }


class Choices:
    """All choices so far; of two for the same variable the later one counts."""

    def __init__(self, choices: Iterable[Choice] = ()) -> None:
        self._choices = list(choices)

    def then(
        self, selection: Selection | None, learning_rate: object, weight_decay: object
    ) -> Choices:
        """Return these and one more; ValueError if its numbers are not finite."""
        if learning_rate is None and weight_decay is None:
            raise ValueError(f"{METHOD}() needs learning_rate, weight_decay or both.")
        last = Choice(
            selection,
            _factor("learning_rate", learning_rate),
            _factor("weight_decay", weight_decay),
        )
        if selection is None and None not in last[1:]:
            return Choices([] if last.applied(Multipliers()) == Multipliers() else [last])
        return Choices([*self._choices, last])

    def of(self, variables: BuiltVariables) -> list[Multipliers]:
        """Return the factors of each variable; ValueError if one that was chosen is not there."""
        result = [Multipliers()] * len(variables)
        for choice in self._choices:
            everything = [True] * len(variables)
            chosen = choice.selection.chosen(variables) if choice.selection else everything
            result = [
                choice.applied(factors) if is_chosen else factors
                for factors, is_chosen in zip(result, chosen, strict=True)
            ]
        return result

    def by_name(self, variables: BuiltVariables | None) -> Choices:
        """Return the same for arrays elsewhere: by name where the names are known."""
        return Choices(
            choice._replace(selection=choice.selection and choice.selection.by_name(variables))
            for choice in self._choices
        )

    def get_config(self, variables: BuiltVariables | None) -> list[dict[str, Any]]:
        """Return the choices as JSON can hold them."""
        return [choice.get_config(variables) for choice in self._choices]

    @classmethod
    def from_config(cls, config: Iterable[Mapping[str, Any]]) -> Choices:
        """Make them from what `get_config` returned."""
        if not isinstance(config, (list, tuple)) or not all(isinstance(c, Mapping) for c in config):
            raise ValueError(f"'multipliers' must be a list of dicts. Received: {config!r}.")
        result = cls()
        for choice in config:
            rest = dict(choice)
            numbers = rest.pop("learning_rate", None), rest.pop("weight_decay", None)
            result = result.then(
                Selection(METHOD, **names_in(rest, METHOD)) if rest else None, *numbers
            )
        return result


def _factor(name: str, value: object) -> float | None:
    if value is None:
        return None
    factor = number(f"The multiplier of {name}", value)
    if not isfinite(factor):
        raise ValueError(f"The multiplier of {name} must be a finite number. Received: {value!r}.")
    return factor
