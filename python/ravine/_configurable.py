"""What an optimizer is set to: hyperparameters, options, learning rate, and all that as a dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from ravine import _core, _learning_rate, schedules
from ravine._learning_rate import LearningRate, Rate
from ravine._multipliers import Choices
from ravine._options import complete, full_signature
from ravine._selection import DecayExclusions
from ravine._serialized import CustomObjects, arguments_in
from ravine._settings import CallableSetting, Number, Setting, count, flag, number, optional
from ravine._variables import BuiltVariables


class _NotYet:
    """Stands where a constructor should have set an attribute, and says so."""

    def __get__(self, optimizer: object, owner: type) -> NoReturn:
        raise AttributeError(
            f"super().__init__() must be called in {owner.__name__}.__init__() before anything of "
            "the optimizer is set or used."
        )


class Configurable:
    """The settings of an optimizer; `Optimizer` documents them.

    A concrete class names its native rule in `_native` and has a `Setting` for each of the rule's
    hyperparameters.
    """

    _native: ClassVar[type[_core.Rule]]
    _variables: BuiltVariables | None
    _default_name: ClassVar[str] = "optimizer"
    if not TYPE_CHECKING:  # what is asked for first; the constructor sets them
        _lock = _plan = _NotYet()

    weight_decay = Setting("_options", optional(number))
    clipnorm = Setting("_options", optional(number))
    clipvalue = Setting("_options", optional(number))
    global_clipnorm = Setting("_options", optional(number))
    use_ema = Setting("_options", flag)
    ema_momentum = Setting("_options", number)
    ema_overwrite_frequency = Setting("_options", optional(count))
    # Said, since pyright would find the type in what Buildable sets it to.
    loss_scale_factor: Setting[float | None] = Setting("_options", optional(number))
    gradient_accumulation_steps = Setting("_options", optional(count))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__signature__ = full_signature(cls, cls._default_name)  # type: ignore[attr-defined]

    def __init__(self, learning_rate: LearningRate, options: Mapping[str, Any]) -> None:
        if not hasattr(type(self), "_native"):
            raise TypeError(
                f"{type(self).__name__} has no rule: use SGD or another optimizer of ravine, or "
                "override update_step() in a subclass of Optimizer."
            )
        self._make_natives()
        self._callables: dict[str, Callable[[], Number]] = {}
        self._exclusions = DecayExclusions()
        self._multipliers = Choices()

        values = complete(options, type(self))
        name = values.pop("name")
        self.name = self._default_name if name is None else name
        for option, value in values.items():
            setattr(self, option, value)
        self._learning_rate = _learning_rate.checked(learning_rate)

    def _make_natives(self) -> None:
        self._lock = RLock()  # several threads may use one optimizer
        self._rule = self._native()
        self._options = _core.Options()

    @property
    def name(self) -> str:
        """Name of the optimizer, in its configuration."""
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        if not isinstance(value, str) or "/" in value:
            raise ValueError(f"name must be a string without a slash. Received: {value!r}.")
        self._name = value

    @property
    def iterations(self) -> int:
        """How many updates were made; with accumulation, of whole windows."""
        return self._calls // (self.gradient_accumulation_steps or 1)

    @property
    def learning_rate(self) -> float:
        """The rate of the next step. May be set to a number, a schedule or a callable.

        On a GPU a number also reaches the replays of captured steps, those that come after it on
        CuPy's current stream.
        """
        rate = self._learning_rate
        return rate if isinstance(rate, float) else _learning_rate.at_step(rate, self._calls)

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        rate = _learning_rate.checked(value)
        with self._lock:
            self._announce_rate(rate)
            self._learning_rate = rate

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, by name, as JSON can hold them.

        Returns
        -------
        dict
            In the form of Keras; with ``exclude_from_weight_decay`` if there are exclusions, and
            with ``multipliers`` if there are any.

        Raises
        ------
        ValueError
            If the learning rate or a hyperparameter is a function, which no configuration can hold.
        """
        if self._callables:
            raise ValueError(
                f"A function given as {' or '.join(self._callables)} cannot be stored in a "
                "configuration. Use a number, which may be set before each step."
            )
        config: dict[str, Any] = {
            "name": self.name,
            "learning_rate": _learning_rate.serialize(self._learning_rate),
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }
        for setting in self._hyperparameters():
            config[setting.name] = getattr(self._rule, setting.name)
        exclusions = self._exclusions.get_config(self._variables)
        if any(exclusions.values()):
            config["exclude_from_weight_decay"] = exclusions
        if multipliers := self._multipliers.get_config(self._variables):
            config["multipliers"] = multipliers
        return config

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        custom_objects: CustomObjects | None = None,
    ) -> Self:
        """Make an optimizer from what `get_config`, or that of Keras's optimizer, returned.

        Parameters
        ----------
        config : dict
            It is not modified.
        custom_objects : dict, optional
            Classes of your own, by name, that the configuration refers to.

        Raises
        ------
        TypeError
            If it is no dict with strings as keys.
        ValueError
            If it has an argument that is not known or out of its range, or names a class that is
            not known.
        """
        arguments = arguments_in(config)
        exclusions = arguments.pop("exclude_from_weight_decay", None) or {}
        multipliers = arguments.pop("multipliers", None) or []
        if isinstance(arguments.get("learning_rate"), Mapping):
            arguments["learning_rate"] = schedules.deserialize(
                arguments["learning_rate"], custom_objects
            )
        optimizer = cls(**arguments)
        optimizer._exclusions = DecayExclusions.from_config(exclusions)
        optimizer._multipliers = Choices.from_config(multipliers)
        return optimizer

    @classmethod
    def _hyperparameters(cls) -> list[Setting[Any]]:
        """Return the settings of the rule, in the order in which the class names them."""
        return cls._settings_of("_rule")

    @classmethod
    def _settings_of(cls, holder: str) -> list[Setting[Any]]:
        return [
            setting
            for base in reversed(cls.__mro__)
            for setting in vars(base).values()
            if isinstance(setting, Setting) and setting.holder == holder
        ]

    def _resolve_callables(self) -> dict[str, float]:
        """Ask the functions for the values of this step; return those of the last."""
        before = {name: getattr(self._rule, name) for name in self._callables}
        try:
            for setting in self._hyperparameters():
                if setting.name in self._callables and isinstance(setting, CallableSetting):
                    setting.resolve(self)
        except BaseException:
            self._take_back(before)
            raise
        return before

    def _take_back(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            setattr(self._rule, name, value)

    @property
    def _calls(self) -> int:
        """Completed calls of `apply`, those that only accumulated included."""
        return self._rule.calls

    def _announce_rate(self, rate: Rate) -> None:
        """Pass on a rate that is about to be set, or refuse it."""

    def _configured(self) -> Configurable:
        """Return the optimizer that has the settings of this one."""
        return self

    def _check_change(self, setting: Setting[Any], changed: Any) -> None:
        """Refuse a setting that others, or the state, once built, do not go with."""
