"""Rates that fall along half a cosine: once, after a warm-up, or again and again."""

from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext
from typing import Any

from ravine._settings import Number, optional
from ravine.schedules._schedule import (
    LearningRateSchedule,
    above_0,
    at_least,
    finite,
    power,
    text_or_none,
)

# Every restart that is on a whole step has fewer digits.
_DIGITS = Context(prec=100, traps=[])


class CosineDecay(LearningRateSchedule):
    """Decay along half a cosine, after a linear warm-up if `warmup_target` is given.

    ``initial_learning_rate * ((1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha)``, up
    to step `decay_steps`. After Loshchilov and Hutter (2017), https://arxiv.org/abs/1608.03983;
    formula and arguments of
    https://keras.io/api/optimizers/learning_rate_schedules/cosine_decay/, in double.

    Parameters
    ----------
    initial_learning_rate : float
        The rate of step 0.
    decay_steps : float above 0
        Steps of the decay, those of the warm-up not counted.
    alpha : float, default 0.0
        Where the decay ends, as a fraction of the rate at which it begins.
    name : str, optional
    warmup_target : float, optional
        The rate that the first `warmup_steps` steps lead to and the decay begins at, in place of
        `initial_learning_rate`. Without it there is no warm-up, whatever `warmup_steps` is.
    warmup_steps : float of at least 0, default 0

    Raises
    ------
    ValueError
        If a number is not finite or out of its range.

    Examples
    --------
    >>> import ravine
    >>> rate = ravine.schedules.CosineDecay(0, decay_steps=100, warmup_target=1, warmup_steps=10)
    >>> rate(0), rate(5), rate(10), rate(60), rate(110)
    (0.0, 0.5, 1.0, 0.5, 0.0)
    """

    def __init__(
        self,
        initial_learning_rate: Number,
        decay_steps: Number,
        alpha: Number = 0.0,
        name: str | None = "CosineDecay",
        warmup_target: Number | None = None,
        warmup_steps: Number = 0,
    ) -> None:
        self.initial_learning_rate = finite("initial_learning_rate", initial_learning_rate)
        self.decay_steps = above_0("decay_steps", decay_steps)
        self.alpha = finite("alpha", alpha)
        self.name = text_or_none("name", name)
        self.warmup_target = optional(finite)("warmup_target", warmup_target)
        self.warmup_steps = at_least(0, "warmup_steps", warmup_steps)

    def __call__(self, step: Number) -> float:
        """Return the rate of one step."""
        now, begin = finite("step", step), self.initial_learning_rate
        if self.warmup_target is not None:
            if self.warmup_steps and now < self.warmup_steps:
                return (self.warmup_target - begin) * (now / self.warmup_steps) + begin
            now, begin = now - self.warmup_steps, self.warmup_target
        return begin * _fraction(min(now, self.decay_steps) / self.decay_steps, self.alpha)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, by name."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
            "warmup_target": self.warmup_target,
            "warmup_steps": self.warmup_steps,
        }


class CosineDecayRestarts(LearningRateSchedule):
    """Decay along half a cosine, again and again, in periods that grow.

    Period ``i``, counted from 0, has ``first_decay_steps * t_mul**i`` steps. In it the rate is
    ``initial_learning_rate * ((1 - alpha) * m_mul**i * (1 + cos(pi * part)) / 2 + alpha)``, where
    ``part`` of the period is over. After Loshchilov and Hutter (2017),
    https://arxiv.org/abs/1608.03983; formula and arguments of
    https://keras.io/api/optimizers/learning_rate_schedules/cosine_decay_restarts/, in double.

    Parameters
    ----------
    initial_learning_rate : float
        The rate of step 0.
    first_decay_steps : float above 0
    t_mul : float of at least 1, default 2.0
        How many times as long as the last each period is.
    m_mul : float of at least 0, default 1.0
        How many times as high as the last each period begins.
    alpha : float, default 0.0
        Lower end of all periods, as a fraction of `initial_learning_rate`.
    name : str, optional, default "SGDRDecay"

    Raises
    ------
    ValueError
        If a number is not finite or out of its range.

    Notes
    -----
    Where periods begin is computed from the decimal digits of `first_decay_steps` and `t_mul`: with
    100 and 1.1 at step 331, for which there is no reason in binary.

    Examples
    --------
    >>> import ravine
    >>> rate = ravine.schedules.CosineDecayRestarts(1, first_decay_steps=10, t_mul=2, m_mul=0.5)
    >>> rate(0), rate(5), rate(10), rate(20), rate(30)
    (1.0, 0.5, 0.5, 0.25, 0.25)
    """

    def __init__(
        self,
        initial_learning_rate: Number,
        first_decay_steps: Number,
        t_mul: Number = 2.0,
        m_mul: Number = 1.0,
        alpha: Number = 0.0,
        name: str | None = "SGDRDecay",
    ) -> None:
        self.initial_learning_rate = finite("initial_learning_rate", initial_learning_rate)
        self.first_decay_steps = above_0("first_decay_steps", first_decay_steps)
        self.t_mul = at_least(1, "t_mul", t_mul)  # shorter and shorter periods come to an end
        self.m_mul = at_least(0, "m_mul", m_mul)
        self.alpha = finite("alpha", alpha)
        self.name = text_or_none("name", name)

    def __call__(self, step: Number) -> float:
        """Return the rate of one step."""
        period, part = self._period(finite("step", step))
        factor = _fraction(part, self.alpha, power(self.m_mul, period))
        return self.initial_learning_rate * factor

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, by name."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "first_decay_steps": self.first_decay_steps,
            "t_mul": self.t_mul,
            "m_mul": self.m_mul,
            "alpha": self.alpha,
            "name": self.name,
        }

    def _period(self, step: float) -> tuple[int, float]:
        """Return the number of the period of a step, and which part of it is over."""
        with localcontext(_DIGITS):
            now, first = Decimal(step), Decimal(repr(self.first_decay_steps))
            growth = Decimal(repr(self.t_mul))

            def begin(period: int) -> Decimal:
                if growth == 1:
                    return first * period
                return first * (growth**period - 1) / (growth - 1)

            period = self._period_or_next_to_it(step)
            while period > 0 and begin(period) > now:
                period -= 1
            while begin(period + 1) <= now:
                period += 1
            return period, float((now - begin(period)) / (first * growth**period))

    def _period_or_next_to_it(self, step: float) -> int:
        periods, growth = max(0.0, step / self.first_decay_steps), self.t_mul - 1
        if growth > 0:
            periods = math.log1p(periods * growth) / math.log1p(growth)
        return math.floor(periods)


def _fraction(part: float, alpha: float, height: float = 1.0) -> float:
    """Return half a cosine from `height` to 0, lifted by `alpha`."""
    return (1 - alpha) * 0.5 * height * (1 + math.cos(math.pi * part)) + alpha
