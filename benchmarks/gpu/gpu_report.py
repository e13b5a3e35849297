"""What was measured, as figures, as lines of a table, and as goals that are met or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gpu_cases import Case
from gpu_goals import GOALS, GRAPH, OWN, Result
from timing import Samples, quartiles, ratios

COPIES = ("copy, runtime", "copy, kernel")
# The peers in the table, under names that fit.
COLUMNS = {
    "torch fused": "fused",
    "torch foreach": "foreach",
    "cupy flat": "flat",
    "cupy each": "each",
    "optax jit": "optax",
    "torch compile": "compile",
}
HEADER = (
    f"{'case':27} {'copy us':>9} {'us':>9} {'part':>5} {'GB/s':>5} {'launch':>6} {'host':>5}"
    f" {'graph':>9} {'host':>5} |" + "".join(f"{name:>9}" for name in COLUMNS.values())
)
LEGEND = """\
copy: a device-to-device copy that moves the same bytes. us: ravine on the device; part: of the
copy's rate. host: us of one call. graph: us of a replay, and of its call. Right: how many times as
long others take; ~ the host did not keep the device busy, or times are the host's."""


def _micro(seconds: Sequence[float]) -> dict[str, float]:
    return quartiles([1e6 * value for value in seconds])


def _loop(samples: Samples) -> float:
    return max(quartiles(samples.device)["median"], quartiles(samples.host)["median"])


def best_copy(samples: dict[str, Samples]) -> str:
    """Return the name of the faster way to copy."""
    return min(COPIES, key=lambda name: quartiles(samples[name].device)["median"])


def figures(samples: dict[str, Samples], own: str = OWN, bytes_moved: int = 0) -> dict[str, Any]:
    """Turn the samples of one race into figures, by contender.

    Parameters
    ----------
    samples : dict of Samples
        With those of the copies.
    own : str
        The contender that the others are compared with.
    bytes_moved : int
        By one step.
    """
    copy = samples[best_copy(samples)].device
    result: dict[str, Any] = {}
    for name, each in samples.items():
        if not each.device:
            continue
        result[name] = {
            "device_us": _micro(each.device),
            "host_us": _micro(each.host),
            "held": sum(each.held) / len(each.held),
            "sets": each.sets,
            "steps_a_sample": each.steps,
            "fraction": ratios(copy, each.device),
            "ratio": ratios(each.device, samples[own].device),
            # Of loops that do nothing else: what takes longer decides, host or device.
            "loop_ratio": _loop(each) / _loop(samples[own]),
            "gigabytes_per_second": bytes_moved / quartiles(each.device)["median"] / 1e9,
        }
    return result


def summary(
    case: Case, cache: int, samples: dict[str, Samples], replays: dict[str, Samples]
) -> Result:
    """Return the result of a case, as it is kept.

    Parameters
    ----------
    case : Case
    cache : int
        Bytes of the cache.
    samples, replays : dict of Samples
        Of the race of eager steps, and of that of replays.
    """
    contenders = figures(samples, bytes_moved=case.bytes_moved)
    if replays:
        contenders[GRAPH] = figures(replays, GRAPH, case.bytes_moved)[GRAPH]
    return {
        "case": str(case),
        "workload": case.workload,
        "dtype": case.dtype,
        "rule": case.rule,
        "options": case.options,
        "arrays": len(case.shapes),
        "parameters": case.parameters,
        "bytes_per_parameter": case.bytes_per_parameter,
        "bytes_moved": case.bytes_moved,
        "sets": case.sets(cache),
        "ceiling": best_copy(samples),
        "contenders": contenders,
        "left_out": {name: each.failure for name, each in samples.items() if each.failure},
    }


def line(result: Result) -> str:
    """Return a case as a line of the table."""
    contenders, own = result["contenders"], result["contenders"][OWN]
    title = f"{result['workload']} {result['dtype'].replace('float', 'f')}"
    title += f" {result['rule']}{' +opt' if result['options'] else ''}"
    graph = contenders.get(GRAPH)
    parts = [
        f"{title:27}",
        f"{contenders[result['ceiling']]['device_us']['median']:9.1f}",
        f"{own['device_us']['median']:9.1f}",
        f"{own['fraction']['median']:5.2f}",
        f"{own['gigabytes_per_second']:5.0f}",
        f"{own['launches']:6g}",
        f"{own['host_us']['median']:5.1f}",
        f"{graph['device_us']['median']:9.1f}" if graph else f"{'-':>9}",
        f"{graph['host_us']['median']:5.1f}" if graph else f"{'-':>5}",
        "|",
    ]
    text = " ".join(parts)
    for name in COLUMNS:
        peer = contenders.get(name)
        if peer is None:
            text += f"{'-':>9}"
        else:
            mark = "~" if peer["held"] < 0.5 else ""
            text += f"{mark + format(peer['ratio']['median'], '.2f'):>9}"
    return text


def table(results: Iterable[Result]) -> str:
    """Return all cases as a table."""
    return "\n".join([HEADER, *(line(result) for result in results), LEGEND])


def left_out(results: Iterable[Result]) -> str:
    """Say which peers did not take part in what, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for name, reason in result["left_out"].items():
            reasons.setdefault((name, reason), []).append(result["case"])
    lines = [
        f"  {name}: {reason} ({cases[0]}{f' and {len(cases) - 1} more' if len(cases) > 1 else ''})"
        for (name, reason), cases in reasons.items()
    ]
    return "\n".join(["Left out:", *lines]) if lines else "Nobody was left out."


def goals(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Judge all goals."""
    return [goal.judge(results) for goal in GOALS]


def goal_table(verdicts: Iterable[dict[str, Any]]) -> str:
    """Return the goals as a table."""
    lines = []
    for verdict in verdicts:
        bound = f"{'>=' if verdict['at_least'] else '<='} {verdict['limit']:g}"
        if verdict["met"] is None:
            found = "not measured"
        else:
            found = (
                f"{'met' if verdict['met'] else 'MISSED':6} {verdict['worst']:8.3g}"
                f"  worst of {verdict['cases']}: {verdict['case']}"
            )
        lines.append(f"  {verdict['goal']:49} {bound:8} {found}")
    return "\n".join(["Goals:", *lines])
