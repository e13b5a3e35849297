"""The benchmark of steps with pauses between them."""

import sys
from pathlib import Path

import pytest

import ravine

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
bench_pauses = pytest.importorskip("bench_pauses", reason="the benchmarks are not here")


@pytest.mark.parametrize("how", [[], ["--busy"]])
def test_tells_each_size(capsys, how):
    threads = ravine.get_num_threads()
    asked = ["--pause", "0.1", "--rounds", "3", "--exponents", "4", "10", *how]
    assert bench_pauses.main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Nadam, {threads} threads against one, 0.1 ms between steps"
    assert [line.split()[:2] for line in lines[1:]] == [
        [size, option] for size in ("2^4", "2^10") for option in ("plain", "together")
    ]
    assert ravine.get_num_threads() == threads
