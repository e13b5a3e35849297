"""The benchmark inside Keras runs, and tells which goals are met."""

import importlib
import json
import os
from pathlib import Path

import pytest

TORCH = os.environ.get("KERAS_BACKEND") == "torch"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    importlib.import_module("keras_checks")  # or skip
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("bench_keras")


def test_benchmark_times_both_in_turn(bench, tmp_path, capsys):
    path = tmp_path / "keras.json"
    rows = bench.main(["--rounds", "1", "--calls", "2", "--cases", "Nadam", "--json", str(path)])
    assert [row["kind"] for row in rows] == ["apply", "fit"]
    assert all(row["keras"] > 0 and row["ravine"] > 0 for row in rows)
    assert json.loads(path.read_text())["rows"] == rows
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[3:]] == [["Nadam", "apply"], ["Nadam", "fit"]]


@pytest.mark.parametrize(
    ("case", "kind", "ratio", "expected"),
    [
        ("Nadam", "apply", 8.0, True if TORCH else None),
        ("Nadam", "apply", 7.9, False if TORCH else None),
        ("SGD", "apply", 0.5, None),
        ("SGD", "fit", 0.99, False),
        ("SGD", "fit", 1.0, True),
    ],
)
def test_goals(bench, case, kind, ratio, expected):
    assert bench.is_met({"case": case, "kind": kind, "ratio": ratio}) is expected
