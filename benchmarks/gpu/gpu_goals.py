"""What was asked of the CUDA backend on one H200, as a table, and whether results meet it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gpu_cases import WORKLOADS

# A case as `gpu_report.summary` tells it.
Result = dict[str, Any]
Figure = Callable[[Result], float | None]

# The ways of ravine.
OWN, CACHED = "ravine", "ravine, cached"
MOVED, GRAPH = "ravine, moved", "ravine, graph"


def figure(name: str, key: str) -> Figure:
    """Return what looks up the median of a figure of a contender."""

    def look_up(result: Result) -> float | None:
        found = result["contenders"].get(name, {}).get(key)
        return found["median"] if isinstance(found, dict) else found

    return look_up


def peer_ratio(name: str) -> Figure:
    """Return what looks up how many times as long a peer takes on the device."""
    return figure(name, "ratio")


def moved_host(result: Result) -> float | None:
    """Return microseconds of the host when all gradients moved, less those for each of them."""
    median = figure(MOVED, "host_us")(result)
    return None if median is None else median - 0.12 * len(WORKLOADS[result["workload"]])


@dataclass(frozen=True)
class Goal:
    """A bound of a figure, in all cases that are chosen; the worst of them counts."""

    text: str
    figure: Figure
    limit: float
    at_least: bool
    workload: str | None = None
    rules: tuple[str, ...] | None = None
    options: bool | None = None
    dtype: str | None = "float32"

    def concerns(self, result: Result) -> bool:
        """Whether this is one of the cases."""
        return (
            self.workload in (None, result["workload"])
            and (self.rules is None or result["rule"] in self.rules)
            and self.options in (None, result["options"])
            and self.dtype in (None, result["dtype"])
        )

    def judge(self, results: Iterable[Result]) -> dict[str, Any]:
        """Return the worst figure, in which case it was, and whether the goal is met.

        All three are None if there is no figure.
        """
        found = [
            (value, result["case"])
            for result in results
            if self.concerns(result) and (value := self.figure(result)) is not None
        ]
        verdict = {"goal": self.text, "limit": self.limit, "at_least": self.at_least}
        if not found:
            return verdict | {"worst": None, "case": None, "met": None, "cases": 0}
        worst, case = (min if self.at_least else max)(found)
        met = worst >= self.limit if self.at_least else worst <= self.limit
        return verdict | {"worst": worst, "case": case, "met": met, "cases": len(found)}


def _of_the_copy(workload: str, limit: float) -> Goal:
    text = f"part of the copy's rate, {workload}"
    return Goal(text, figure(OWN, "fraction"), limit, True, workload, options=False)


def _against(peer: str, limit: float, *rules: str) -> Goal:
    text = f"times {peer}, {' and '.join(rules) or 'any rule'}, gpt2"
    return Goal(text, peer_ratio(peer), limit, True, "gpt2", rules or None, options=False)


GOALS = (
    _of_the_copy("gpt2", 0.93),
    _of_the_copy("llama", 0.95),
    _of_the_copy("resnet50", 0.85),
    Goal("us on the device, tiny", figure(OWN, "device_us"), 10, False, "tiny", options=False),
    Goal(
        "us on the device, tiny, with a norm",
        figure(OWN, "device_us"),
        18,
        False,
        "tiny",
        options=True,
    ),
    Goal(
        "us on the device, tiny, in the cache",
        figure(CACHED, "device_us"),
        10,
        False,
        "tiny",
        options=False,
    ),
    Goal(
        "us on the device, tiny, in the cache, with a norm",
        figure(CACHED, "device_us"),
        18,
        False,
        "tiny",
        options=True,
    ),
    _against("torch foreach", 2.8, "nadam"),
    _against("torch foreach", 2.2, "rmsprop"),
    _against("torch foreach", 2.4, "centered"),
    _against("torch fused", 1.15, "momentum", "sgd"),
    _against("cupy flat", 0.97),
    Goal("us on the host", figure(OWN, "host_us"), 8, False, dtype=None),
    Goal("us on the host, moved, less 0.12 an array", moved_host, 8, False, dtype=None),
    Goal("us on the host, graph", figure(GRAPH, "host_us"), 8, False, dtype=None),
    Goal("launches without a norm", figure(OWN, "launches"), 1, False, None, None, False, None),
    Goal("launches with a norm", figure(OWN, "launches"), 3, False, None, None, True, None),
    Goal("synchronizations", lambda result: result["synchronizations"], 0, False, dtype=None),
)
