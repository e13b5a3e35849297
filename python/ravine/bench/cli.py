"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ravine
from ravine._arguments import duration, folder, new_file, positive
from ravine.bench import peers, plots, report, suites
from ravine.bench.cases import DTYPES, RULES
from ravine.bench.workloads import WORKLOADS

DESCRIPTION = """\
Time steps beside their limit and beside those of every peer that is installed: NumPy, Numba,
PyTorch, optax, Keras, DeepSpeed, Thinc. All run in one process, in turn, round after round, on
the same arrays; what counts are ratios within a round. The limit is whatever takes longer, of the
in-place stream, which reads and writes the same arrays as the step must, with one addition an
element, and of the divisions and roots of the formula alone, on numbers in the cache."""

_DEFAULT = ["flat16", "flat24", "resnet50", "tiny"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the benchmark to a parser, and `run` as what it runs."""
    parser.description = DESCRIPTION
    some: dict[str, Any] = {"nargs": "+", "metavar": "NAME"}
    parser.add_argument("--suites", choices=suites.SUITES, default=["peers"], **some,
                        help="of peers, sizes (of one array), options (of a step), counts (of "
                        "arrays); default: peers")  # fmt: skip
    parser.add_argument("--workloads", choices=WORKLOADS, default=_DEFAULT, **some,
                        help="of the suite peers: resnet50, gpt2, tiny (1,000 arrays of 64), or "
                        f"one array, flat10 (2**10 elements) to flat26; default: "
                        f"{', '.join(_DEFAULT)}")  # fmt: skip
    parser.add_argument("--rules", choices=RULES, default=list(RULES), **some,
                        help=f"of {', '.join(RULES)}; default: all")  # fmt: skip
    parser.add_argument("--dtypes", choices=DTYPES, default=["float32"], **some,
                        help=f"of {', '.join(DTYPES)}; default: float32")  # fmt: skip
    parser.add_argument("--peers", choices=peers.MODULES, default=list(peers.MODULES), **some,
                        help=f"of {', '.join(peers.MODULES)}; default: all")  # fmt: skip
    parser.add_argument("--no-peers", action="store_true", help="only ravine and its limit")
    parser.add_argument(
        "--compile", action="store_true", help="also PyTorch compiled, slow to start"
    )
    parser.add_argument("--threads", nargs="+", type=positive,
                        metavar="N", help="one number after the other; default: all that a step "
                        "would use")  # fmt: skip
    parser.add_argument("--rounds", type=positive, default=15, metavar="N",
                        help="of each case, at most; default: %(default)s")  # fmt: skip
    parser.add_argument("--seconds", type=duration, default=3.0, metavar="S", help="after which "
                        "a case gets no further round; default: %(default)s")  # fmt: skip
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=pictures, metavar="DIR",
                        help="draw pictures there, of all suites chosen")  # fmt: skip
    parser.add_argument("--as-child", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the benchmark; return the exit status."""
    if options.as_child:
        return _in_this_process(options)
    rows: list[suites.Row] = []
    left_out: dict[str, str] = {}
    for arguments, environment in _children(options):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.json"
            command = [sys.executable, "-m", "ravine", "bench", *arguments, "--json", str(path)]
            done = subprocess.run(command, env={**os.environ, **environment}, check=False)
            if done.returncode:
                return done.returncode
            found = json.loads(path.read_text())
        known = {_identity(row) for row in rows}
        rows += [row for row in found["rows"] if _identity(row) not in known]
        left_out |= found["left_out"]
    for lines in (report.table(rows), report.leads(rows), report.reasons(left_out)):
        print("\n".join(["", *lines]))
    if options.json:
        figures = {"machine": report.machine(), "left_out": left_out, "rows": rows}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.plot:
        for path in plots.draw(rows, options.plot):
            print(f"Drawn: {path}")
    return 0


def pictures(text: str) -> Path:
    """Read the path of a folder for pictures, if they can be drawn."""
    if find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError(
            'matplotlib is needed to draw, and is not installed: pip install "ravine[plot]"'
        )
    return folder(text)


def _children(options: argparse.Namespace) -> list[tuple[list[str], dict[str, str]]]:
    """Arguments and environment of each process: libraries take threads and backend once."""
    chosen = [] if options.no_peers else list(options.peers)
    compiled = {"RAVINE_BENCH_COMPILE": "1"} if options.compile else {}
    children = []
    for threads in options.threads or [ravine.get_num_threads()]:
        children.append((_arguments(options, threads, options.suites, chosen), compiled))
        if "keras" in chosen and "peers" in options.suites:
            on_jax = {"KERAS_BACKEND": "jax"}
            children.append((_arguments(options, threads, ["peers"], ["keras"]), on_jax))
    return children


def _identity(row: suites.Row) -> tuple[str, ...]:
    """Return what a row is about: each child times ravine again, beside its own peers."""
    keys = ("suite", "workload", "rule", "option", "dtype", "threads", "name")
    return tuple(str(row[key]) for key in keys)


def _arguments(
    options: argparse.Namespace, threads: int, chosen: Sequence[str], others: Sequence[str]
) -> list[str]:
    result = ["--as-child", "--threads", str(threads), "--suites", *chosen]
    for name in ("workloads", "rules", "dtypes"):
        result += [f"--{name}", *getattr(options, name)]
    result += ["--peers", *others] if others else ["--no-peers"]
    return [*result, "--rounds", str(options.rounds), "--seconds", str(options.seconds)]


def _in_this_process(options: argparse.Namespace) -> int:
    (threads,) = options.threads
    peers.set_threads(threads)
    ravine.set_num_threads(threads)
    choice = suites.Choice(
        options.suites,
        options.workloads,
        options.rules,
        options.dtypes,
        [] if options.no_peers else options.peers,
        threads,
        options.rounds,
        options.seconds,
    )
    rows: list[dict[str, Any]] = []
    for row in suites.run(choice, lambda line: print(line, flush=True)):
        rows.append(row)
    options.json.write_text(json.dumps({"rows": rows, "left_out": choice.left_out}))
    return 0
