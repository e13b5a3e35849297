"""The benchmark, as users run it: what it times, tells, writes and draws."""

import json
import subprocess
import sys

import numpy as np
import pytest

import ravine
from ravine.__main__ import main as ravine_main
from ravine.bench import cases, cli, peers, plots, race, report, suites
from ravine.bench.own import (
    ALONE,
    DIVIDER,
    LIMIT,
    RAVINE,
    STREAM,
    contenders,
    with_limit,
)
from ravine.bench.workloads import WORKLOADS

SMALL = ["--rounds", "2", "--seconds", "0", "--workloads", "flat10", "--threads", "1"]


def bench(*arguments):
    command = [sys.executable, "-m", "ravine", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_workloads_are_those_that_are_told():
    def elements(name):
        return sum(int(np.prod(shape)) for shape in WORKLOADS[name])

    assert (len(WORKLOADS["resnet50"]), elements("resnet50")) == (161, 25_557_032)
    assert (len(WORKLOADS["gpt2"]), elements("gpt2")) == (148, 124_439_808)
    assert (len(WORKLOADS["tiny"]), elements("tiny")) == (1000, 64_000)


@pytest.mark.parametrize(
    ("rule", "option", "dtype", "each"),
    [
        ("sgd", "plain", "float32", 12),
        ("nesterov", "plain", "float32", 20),
        ("nadam", "plain", "float32", 28),
        ("nadam", "together", "float32", 28 + 4 + 8),
        ("adam", "clipnorm", "float32", 28 + 4),
        ("rmsprop", "clipvalue", "float32", 20),
        ("nadam", "together", "bfloat16", 8 + 24),
    ],
)
def test_bytes_are_those_that_a_step_moves(rule, option, dtype, each):
    assert cases.Case("flat10", rule, option, dtype).bytes_moved() == 1024 * each


def test_race_takes_turns_and_stops_in_time():
    calls = []

    def contender(name):
        return lambda repeats: calls.append(name) or 1e-2

    runs = {name: contender(name) for name in "ab"}
    samples = race.race(runs, rounds=5, seconds=60)
    assert {name: len(times) for name, times in samples.items()} == {"a": 5, "b": 5}
    assert calls[:4] == [*"aabb"]
    rounds = [tuple(calls[i : i + 4]) for i in range(4, len(calls), 4)]
    assert len(rounds) == 5
    assert set(rounds) == {("a", "a", "b", "b"), ("b", "b", "a", "a")}  # in either order
    assert len(race.race(runs, rounds=9, seconds=0)["a"]) == 3


def test_ratios_are_those_within_a_round():
    samples = {"a": [2.0, 20.0, 200.0], "b": [1.0, 10.0, 100.0]}
    assert race.ratios(samples, "a", "b") == (2, 2, 2)
    assert race.seconds_of(samples, "a") == 20
    assert race.ratios({"a": [3.0], "b": [2.0]}, "a", "b") == (1.5, 1.5, 1.5)
    assert race.ratios({"a": [1.0, 9.0], "b": [1.0, 1.0]}, "a", "b") == (3, 5, 7)


@pytest.mark.parametrize("rule", cases.RULES)
@pytest.mark.parametrize("option", cases.SINGLY)
def test_own_contenders_train_the_arrays(rule, option):
    variables, grads = cases.Case("flat10", rule, option).arrays()
    runs = contenders(cases.Case("flat10", rule, option), variables, grads)
    assert list(runs) == [STREAM, DIVIDER, RAVINE, ALONE]
    for name, run in runs.items():
        before = variables[0].copy()
        assert run(2) > 0
        assert (variables[0] != before).any() == (name != DIVIDER)


def test_limit_is_the_larger_in_each_round():
    samples = {STREAM: [1.0, 4.0, 2.0], DIVIDER: [3.0, 0.0, 2.5], RAVINE: [4.0] * 3}
    assert with_limit(samples) == {LIMIT: [3.0, 4.0, 2.5], **samples}


@pytest.mark.parametrize("rule", cases.RULES)
def test_divisions_take_the_longer_the_more_there_are(rule):
    def seconds(exponent):
        case = cases.Case(f"flat{exponent}", rule)
        divide = contenders(case, *case.arrays())[DIVIDER]
        return min(divide(20) for _ in range(20))

    if rule in ("sgd", "nesterov"):
        assert seconds(16) < 5e-6
    else:
        assert seconds(16) > 20 * seconds(10)


# These compute the formula of ravine.
@pytest.mark.parametrize("peer", ["numpy", "numba", "torch", "thinc"])
@pytest.mark.parametrize("rule", ["sgd", "nesterov", "rmsprop"])
@pytest.mark.parametrize("option", ["plain", "together"])
def test_peers_make_the_step(peer, rule, option):
    if missing := peers.missing(peer):
        pytest.skip(f"{missing} not installed")
    if (peer, rule) == ("torch", "rmsprop") or (peer, option) == ("torch", "together"):
        pytest.skip("epsilon stands elsewhere there, and decay is part of the gradient")
    case = cases.Case("flat10", rule, option)
    expected, grads = case.arrays()
    case.optimizer().apply(grads, expected)
    start = case.arrays()[0]
    for name, step in peers.steps(peer, case, start, grads, 1):
        step()
        np.testing.assert_allclose(start[0], expected[0], rtol=2e-6, err_msg=name)
        start[0][...] = case.arrays()[0][0]


@pytest.mark.parametrize("peer", peers.MODULES)
def test_peers_that_are_missing_say_what(peer, monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda package: None)
    assert peers.missing(peer)
    choice = suites.Choice(["peers"], ["flat10"], ["adam"], ["float32"], [peer], 1, 1, 0)
    rows = list(suites.run(choice, lambda line: None))
    assert {row["name"] for row in rows} == {LIMIT, STREAM, DIVIDER, RAVINE, ALONE}
    assert choice.left_out == {peer: f"not installed: {', '.join(peers.missing(peer))}"}


@pytest.mark.parametrize("fails", ["when made", "in a step"])
def test_peers_that_fail_are_left_out(monkeypatch, fails):
    def broken(*_):
        if fails == "when made":
            raise RuntimeError("no luck\ntoday")
        yield "broken", lambda: 1 / 0

    monkeypatch.setattr(peers, "steps", broken)
    choice = suites.Choice(["peers"], ["flat10"], ["sgd"], ["float32"], ["numpy"], 1, 1, 0)
    rows = list(suites.run(choice, lambda line: None))
    assert len(rows) == 10
    key, reason = next(iter(choice.left_out.items()))
    assert key.endswith(", flat10 sgd float32")
    assert reason in ("RuntimeError: no luck", "ZeroDivisionError: division by zero")


def test_command_times_tells_and_writes(tmp_path):
    path = tmp_path / "figures.json"
    done = bench(*SMALL, "--rules", "sgd", "nadam", "--peers", "numpy", "--json", str(path))
    assert done.returncode == 0, done.stderr
    assert "flat10 nadam float32, clip + decay + average" in done.stdout
    assert "Time of a step, as a multiple of the limit of the same round (medians)" in done.stdout
    found = json.loads(path.read_text())
    assert found["machine"]["instruction_set"] == ravine.instruction_set()
    names = [row["name"] for row in found["rows"]]
    assert names == [LIMIT, STREAM, DIVIDER, RAVINE, ALONE, "numpy", "numpy out="] * 4
    for row in found["rows"]:
        assert row["seconds"] > 0
        low, middle, high = row["to_limit"]
        assert 0 < low <= middle <= high
        assert row["name"] != LIMIT or (low, high) == (1, 1)


def test_command_draws_all_suites(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    rows = []
    monkeypatch.setattr(suites, "SIZES", (10, 12))
    monkeypatch.setattr(suites, "COUNTS", (1, 10))
    monkeypatch.setitem(WORKLOADS, "resnet50", [(64,)])
    choice = suites.Choice(suites.SUITES, ["flat10"], ["sgd"], ["float32"], ["numpy"], 1, 1, 0)
    rows += suites.run(choice, lambda line: None)
    drawn = plots.draw(rows, tmp_path / "pictures")
    assert [path.name for path in drawn] == [
        "roofline.svg",
        "peers.svg",
        "options.svg",
        "fixed_cost.svg",
    ]
    assert all(path.stat().st_size > 5000 for path in drawn)
    first = [path.read_bytes() for path in drawn]
    assert [path.read_bytes() for path in plots.draw(rows, tmp_path / "pictures")] == first
    assert plots.draw([], tmp_path) == []


def row(name, to_limit, to_ravine, **others):
    keys = {"workload": "flat10", "rule": "sgd", "option": "plain", "dtype": "float32"}
    return {
        **{"suite": "peers", **keys, "threads": 2, "name": name},
        **{"to_limit": (to_limit,) * 3, "to_ravine": to_ravine, **others},
    }


def test_table_and_who_leads():
    rows = [
        row(LIMIT, 1, (1, 1, 1)),
        row(STREAM, 0.9, (1, 1, 1)),
        row(DIVIDER, 1, (1, 1, 1)),
        row(RAVINE, 1.02, (1, 1, 1)),
        row(ALONE, 1.01, (1, 1, 1)),
        row("near", 1.0, (0.9, 0.98, 1.1)),
        row("ahead", 0.5, (0.4, 0.5, 0.6)),
        row(RAVINE, 1.5, (1, 1, 1), rule="adam"),
    ]
    assert list(report.table(rows)) == [
        "Time of a step, as a multiple of the limit of the same round (medians)",
        "                                      ravine     near    ahead",
        "flat10 sgd plain float32 2 threads      1.02     1.00     0.50",
        "flat10 adam plain float32 2 threads     1.50        -        -",
    ]
    assert list(report.leads(rows)) == [
        "Ahead of ravine: ahead, flat10 sgd plain float32 2 threads: 0.50"
    ]
    assert list(report.leads(rows[:6])) == ["No peer was ahead in any case."]
    assert list(report.leads(rows[:5])) == []
    assert list(report.table([])) == []
    assert list(report.reasons({"numba": "not installed: numba"})) == [
        "Left out: numba: not installed: numba"
    ]


def test_keras_on_jax_and_each_number_of_threads_have_processes_of_their_own():
    parser = cli.argparse.ArgumentParser()
    cli.add_arguments(parser)
    children = cli._children(parser.parse_args(["--threads", "1", "2", "--compile"]))
    assert [environment for _, environment in children] == [
        {"RAVINE_BENCH_COMPILE": "1"},
        {"KERAS_BACKEND": "jax"},
    ] * 2
    threads = [arguments[arguments.index("--threads") + 1] for arguments, _ in children]
    assert threads == ["1", "1", "2", "2"]
    (only,) = cli._children(parser.parse_args(["--no-peers"]))
    assert "--no-peers" in only[0]


def test_unknown_workload_is_refused():
    done = bench("--workloads", "flat9")
    assert done.returncode == 2
    assert "invalid choice: 'flat9'" in done.stderr


@pytest.mark.parametrize("option", ["--threads", "--rounds"])
def test_what_must_be_positive(option, capsys):
    with pytest.raises(SystemExit):
        ravine_main(["bench", option, "0"])
    assert f"argument {option}: must be at least 1. Received: 0." in capsys.readouterr().err
