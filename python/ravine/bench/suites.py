"""What is timed in one process: cases against peers, by size, by option, by number of arrays."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ravine.bench import peers
from ravine.bench.cases import Case, against_peers, by_count, by_option, by_size
from ravine.bench.own import DIVIDER, LIMIT, RAVINE, STREAM, contenders, with_limit
from ravine.bench.race import Run, Samples, race, ratios, repeated, seconds_of

Row = dict[str, Any]
SUITES = ("peers", "sizes", "options", "counts")
SIZES = range(10, 27, 2)
COUNTS = (1, 10, 100, 1000, 10000)


@dataclass(frozen=True)
class Choice:
    """What the user wants timed."""

    suites: Sequence[str]
    workloads: Sequence[str]
    rules: Sequence[str]
    dtypes: Sequence[str]
    peers: Sequence[str]
    threads: int
    rounds: int = 15
    seconds: float = 3.0
    left_out: dict[str, str] = field(default_factory=dict)

    def cases(self) -> Iterator[tuple[str, Case]]:
        """Return each case with its suite."""
        made: dict[str, Callable[[], Iterator[Case]]] = {
            "peers": lambda: against_peers(self.workloads, self.rules, self.dtypes),
            "sizes": lambda: by_size(self.rules, SIZES),
            "options": lambda: by_option(self.rules),
            "counts": lambda: by_count(COUNTS),
        }
        return ((suite, case) for suite in SUITES if suite in self.suites for case in made[suite]())


def run(choice: Choice, tell: Callable[[str], None]) -> Iterator[Row]:
    """Time all that was chosen, and tell of it as it is done."""
    for suite, case in choice.cases():
        tell(case.title)
        for row in _rows(choice, suite, case):
            tell(f"  {describe(row)}")
            yield row
        gc.collect()


def describe(row: Row) -> str:
    """Return one line on a row."""
    low, middle, high = row["to_limit"]
    return (
        f"{row['name']:19} {row['seconds'] * 1e6:12.1f} us {middle:9.2f} x limit"
        f"  (quartiles {low:.2f} to {high:.2f})"
    )


def _rows(choice: Choice, suite: str, case: Case) -> Iterator[Row]:
    variables, grads = case.arrays()
    own = contenders(case, variables, grads)

    def rows(samples: Samples, names: Sequence[str]) -> Iterator[Row]:
        for name in names:
            yield {
                "suite": suite,
                "workload": case.workload,
                "rule": case.rule,
                "option": case.option,
                "dtype": case.dtype,
                "threads": choice.threads,
                "arrays": len(variables),
                "bytes": case.bytes_moved(),
                "name": name,
                "seconds": seconds_of(samples, name),
                "to_limit": ratios(samples, name, LIMIT),
                "to_ravine": ratios(samples, name, RAVINE),
            }

    samples = with_limit(race(own, choice.rounds, choice.seconds))
    yield from rows(samples, [*samples])
    if suite != "peers":
        return
    for peer in choice.peers:
        for name, run in _of_peer(choice, peer, case, variables, grads):
            # One peer at a time, beside the limit and ravine, so that memory holds the largest.
            runs = {**{key: own[key] for key in (STREAM, DIVIDER, RAVINE)}, name: run}
            try:
                samples = with_limit(race(runs, choice.rounds, choice.seconds))
            except Exception as error:  # its own affair: the others go on
                choice.left_out[f"{name}, {case.title}"] = _reason(error)
                continue
            yield from rows(samples, [name])


def _of_peer(
    choice: Choice, peer: str, case: Case, variables: list[Any], grads: list[Any]
) -> Iterator[tuple[str, Run]]:
    if missing := peers.missing(peer):
        choice.left_out[peer] = f"not installed: {', '.join(missing)}"
        return
    try:
        for name, step in peers.steps(peer, case, variables, grads, choice.threads):
            yield name, repeated(step)
    except Exception as error:
        choice.left_out[f"{peer}, {case.title}"] = _reason(error)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]
