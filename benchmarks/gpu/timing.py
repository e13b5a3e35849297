"""Timing of steps that the host only puts on a stream: in turn, round after round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any, Protocol

Step = Callable[[], object]

BATCH = 2.5e-3  # seconds that the steps of one measurement take, about
MOST_LAUNCHES = 900  # of one measurement: beyond 1,024 the queue is full and the host waits
UNKNOWN_LAUNCHES = 8
MOST_CALLS = 20  # that are timed on the host in one round
WARM_UP = 0.3  # seconds after which no more sets are warmed up, and no more used
HOLD_MARGIN, SHORTEST_HOLD, LONGEST_HOLD = 1.3, 50e-6, 30e-3


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of values; there must be one."""
    low, middle, high = quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {"median": middle, "low": low, "high": high, "count": len(values)}


def ratios(above: Sequence[float], below: Sequence[float]) -> dict[str, float] | None:
    """Quartiles of the ratios within the rounds; None if there is no round with both."""
    pairs = [a / b for a, b in zip(above, below, strict=False)]
    return quartiles(pairs) if pairs else None


def first_line(error: BaseException) -> str:
    """Say what went wrong, in a line that fits a table."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


class LeftOutError(Exception):
    """Why a contender does not take part."""


@dataclass
class Contender:
    """Somebody who makes steps.

    Parameters
    ----------
    name : str
    steps : list of callables
        Each puts one step on the stream, each on arrays of its own; called in turn.
    launches : int, optional
        Of one step, if that is known.
    wait : callable, optional
        Waits for all steps. Given by those who do not use the stream: they are timed by the clock
        of the host.
    essential : bool
        Whether a failure ends the run.
    """

    name: str
    steps: list[Step]
    launches: int | None = None
    wait: Step | None = None
    essential: bool = False


@dataclass
class Samples:
    """What was measured of one contender: seconds of one step, and of one call on the host.

    ``held`` says, for each round, whether the device had to wait for nothing from the host.
    """

    device: list[float] = field(default_factory=list)
    host: list[float] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)
    sets: int = 0
    steps: int = 0  # of one measurement
    failure: str | None = None


class Timer(Protocol):
    """What a race asks of the device and of its clock; `StreamTimer` is the real one."""

    def now(self) -> float:
        """Seconds on the clock of the host."""

    def wait(self) -> None:
        """Wait for the device."""

    def device(
        self, steps: Sequence[Step], first: int, count: int, hold: float
    ) -> tuple[float, bool]:
        """Seconds of a step on the device, and whether it was held all the while."""

    def host(self, step: Step, calls: int) -> list[float]:
        """Seconds of each of some calls."""


def in_turn(steps: Sequence[Step], first: int, count: int) -> None:
    """Make some of the steps, beginning with one."""
    for i in range(first, first + count):
        steps[i % len(steps)]()


class StreamTimer:
    """Times by events on a stream.

    While a batch is put on the stream the device is held by a kernel that only waits, so that what
    is measured is the device and not the host.

    Parameters
    ----------
    cupy : module
    stream : cupy.cuda.Stream
    hold : callable
        Keeps the stream busy for a number of seconds.
    """

    def __init__(self, cupy: Any, stream: Any, hold: Callable[[float], None]) -> None:
        self._cupy, self._stream, self._hold = cupy, stream, hold
        self._start, self._end = cupy.cuda.Event(), cupy.cuda.Event()
        self.now = time.perf_counter

    def wait(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def device(
        self, steps: Sequence[Step], first: int, count: int, hold: float
    ) -> tuple[float, bool]:
        """Seconds of a step between two events, and whether the device was held all the while."""
        self._hold(hold)
        self._start.record(self._stream)
        in_turn(steps, first, count)
        self._end.record(self._stream)
        held = not self._start.done
        self._end.synchronize()
        milliseconds = self._cupy.cuda.get_elapsed_time(self._start, self._end)
        return milliseconds * 1e-3 / count, held

    def host(self, step: Step, calls: int) -> list[float]:
        """Seconds of each of some calls, from an empty queue on."""
        self.wait()
        result = []
        for _ in range(calls):
            start = time.perf_counter()
            step()
            result.append(time.perf_counter() - start)
        self.wait()
        return result


class _Runner:
    """A contender in a race: how many steps at a time, how long to hold the device, and where."""

    def __init__(self, contender: Contender, timer: Timer) -> None:
        self.contender, self.samples, self._timer = contender, Samples(), timer
        self._steps, self._next = contender.steps, 0

    def prepare(self) -> None:
        """Step all sets once for whatever is done once, then again to see how long it takes."""
        steps, timer = self._steps, self._timer
        wait = self.contender.wait or timer.wait
        steps[0]()
        wait()
        start, warm = timer.now(), 1
        while warm < len(steps) and timer.now() - start < WARM_UP:
            steps[warm]()
            warm += 1
        self._steps = steps = steps[:warm]
        wait()
        start = timer.now()
        in_turn(steps, 0, warm)
        wait()
        each = max((timer.now() - start) / warm, 1e-7)
        most = max(1, MOST_LAUNCHES // (self.contender.launches or UNKNOWN_LAUNCHES))
        self._count = max(1, min(most, int(BATCH / each)))
        self._calls = max(2, min(most, MOST_CALLS, int(BATCH / each)))
        host = median(timer.host(steps[0], self._calls))
        wait()
        self._hold = max(SHORTEST_HOLD, HOLD_MARGIN * host * self._count + SHORTEST_HOLD)
        self._hold = min(self._hold, LONGEST_HOLD)
        self.samples.sets, self.samples.steps = warm, self._count

    def measure(self) -> None:
        """Take one sample of the device and some of the host."""
        timer, samples, first = self._timer, self.samples, self._next
        self._next = (first + self._count) % len(self._steps)
        if self.contender.wait is None:
            seconds, held = timer.device(self._steps, first, self._count, self._hold)
            if not held:
                self._hold = min(2 * self._hold, LONGEST_HOLD)
        else:
            self.contender.wait()
            start = timer.now()
            in_turn(self._steps, first, self._count)
            self.contender.wait()
            seconds, held = (timer.now() - start) / self._count, False
        calls = timer.host(self._steps[0], self._calls)
        if self.contender.wait is not None:
            self.contender.wait()
        samples.device.append(seconds)
        samples.held.append(held)
        samples.host += calls


def race(
    contenders: Iterable[Contender],
    timer: Timer,
    seconds: float,
    least_rounds: int,
    between: Step = lambda: None,
) -> dict[str, Samples]:
    """Time contenders in turn, round after round.

    Parameters
    ----------
    contenders : iterable of Contender
    timer : Timer
    seconds : float
        Time to spend, once all are prepared.
    least_rounds : int
        Rounds that are made even if that takes longer.
    between : callable
        Called before each round.

    Returns
    -------
    dict
        Samples by name. One that failed has a reason, and no samples.
    """
    runners = [_Runner(contender, timer) for contender in contenders]

    def attempt(what: Callable[[_Runner], None], runner: _Runner) -> None:
        if runner.samples.failure is not None:
            return
        try:
            what(runner)
        except Exception as error:
            if runner.contender.essential:
                raise
            runner.samples = Samples(failure=first_line(error))

    for runner in runners:
        attempt(_Runner.prepare, runner)
    end, rounds = timer.now() + seconds, 0
    while rounds < least_rounds or timer.now() < end:
        between()
        for runner in runners:
            attempt(_Runner.measure, runner)
        rounds += 1
    return {runner.contender.name: runner.samples for runner in runners}
