"""The benchmark of many sizes, and its picture; NumPy stands for the GPU."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("test_bench_gpu_runs", reason="the benchmarks are not here")
sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import bench_sizes
from test_bench_gpu_runs import gpu_cases, machine  # noqa: F401


def run(path, device, *exponents):
    asked = ["--device", device, "--rounds", "2", "--seconds", "0", "--json", str(path)]
    assert bench_sizes.main([*asked, "--exponents", *map(str, exponents)]) == 0
    return json.loads(path.read_text())


def test_cpu(tmp_path, capsys):
    found = run(tmp_path / "cpu.json", "cpu", 10, 12)
    assert found["device"] == "cpu"
    assert "threads" in found["machine"]["name"]
    assert [(row["exponent"], row["rule"]) for row in found["rows"]] == [
        (exponent, rule) for exponent in (10, 12) for rule in bench_sizes.RULES
    ]
    assert all(0 < row["part"] < 10 for row in found["rows"])
    assert capsys.readouterr().out.count("of the limit") == 6


def test_gpu(tmp_path, machine, monkeypatch):  # noqa: F811
    monkeypatch.setitem(gpu_cases.WORKLOADS, "one", [(1,)])  # taken away again
    found = run(tmp_path / "gpu.json", "gpu", 4, 6)
    assert found["machine"]["name"] == "A GPU"
    assert len(found["rows"]) == 6
    assert all(row["part"] > 0 for row in found["rows"])


def test_gpu_that_is_not_there(tmp_path, monkeypatch):
    bench_gpu = sys.modules["bench_gpu"]
    monkeypatch.setattr(bench_gpu._core, "has_cuda", lambda: False)
    with pytest.raises(bench_gpu.LeftOutError, match="no CUDA backend"):
        run(tmp_path / "gpu.json", "gpu", 4)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_picture_of_both(tmp_path, kind):
    pytest.importorskip("matplotlib").use("agg")
    cpu, target = tmp_path / "cpu.json", tmp_path / f"sizes.{kind}"
    run(cpu, "cpu", 10, 12)
    assert bench_sizes.main(["--plot", str(target), str(cpu), str(cpu)]) == 0
    assert target.stat().st_size > 5000
