"""Whole runs of the benchmark of the GPU, and its peers, where NumPy stands for the GPU."""

import json
import re
import sys
from importlib import import_module, util
from pathlib import Path

import numpy as np
import pytest
from numpy_cupy import fake_cupy

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")
sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks" / "gpu"))
(
    bench_gpu,
    cupy_peers,
    gpu_arrays,
    gpu_cases,
    gpu_device,
    gpu_goals,
    gpu_own,
    gpu_peers,
    gpu_report,
    timing,
    torch_peers,
) = (
    pytest.importorskip(name, reason="the benchmarks are not here")
    for name in [
        "bench_gpu",
        "cupy_peers",
        "gpu_arrays",
        "gpu_cases",
        "gpu_device",
        "gpu_goals",
        "gpu_own",
        "gpu_peers",
        "gpu_report",
        "timing",
        "torch_peers",
    ]
)
Case, LeftOutError = gpu_cases.Case, timing.LeftOutError

SMALL = {
    "gpt2": [(40, 16), (50,), (1,)],
    "tiny": [(8,)] * 20,
    "resnet50": [(4, 3, 5, 5), (4,)],
    "llama": [(300, 64), (64,)],
    "flat": [(690,)],
}


class Core:
    """Counts as if each step were a launch and nothing else."""

    def __init__(self):
        self.calls = 0

    def has_cuda(self):
        return True

    def cuda_counts(self):
        self.calls += 4
        return {"launches": self.calls, "synchronizations": 0, "allocations": 0}


@pytest.fixture
def gpu():
    return gpu_device.Gpu(fake_cupy())


@pytest.fixture
def machine(monkeypatch):
    """Let the benchmark find the stand-in, and be quick."""
    core = Core()
    monkeypatch.setattr(bench_gpu, "_core", core)
    monkeypatch.setattr(gpu_own, "_core", core)
    monkeypatch.setattr(bench_gpu, "import_module", lambda name: fake_cupy())
    monkeypatch.setattr(timing, "BATCH", 1e-5)
    race = timing.race  # which would spend all the time that is left
    monkeypatch.setattr(bench_gpu, "race", lambda who, timer, _, *more: race(who, timer, 0, *more))
    monkeypatch.setattr(gpu_device, "smi", lambda fields: None)
    monkeypatch.setattr(bench_gpu, "smi", lambda fields: None)
    for name in ("torch", "jax"):
        monkeypatch.setitem(sys.modules, name, None)
    for name, shapes in SMALL.items():
        monkeypatch.setitem(gpu_cases.WORKLOADS, name, shapes)
    return core


# --- Peers


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize("rule", gpu_cases.RULES)
def test_formulas_of_the_kernels_are_those_of_ravine(gpu, rule, options, dtype):
    case = Case("resnet50", rule, options, dtype)
    for name in ("cupy flat", "cupy each"):
        peer = next(peer for peer in gpu_peers.PEERS if peer.name == name)
        assert peer.agrees(case)
        assert gpu_peers.agreement(peer, case, gpu) <= gpu_peers.TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("rule", "name", "options"),
    [
        ("momentum", "MOMENTUM", False),
        ("momentum", "RATE", True),
        ("momentum", "CLIP", True),
        ("sgd", "DECAY", True),
        ("nadam", "BETA_1", True),
        ("nadam", "BETA_1", False),
        ("rmsprop", "RHO", False),
        ("centered", "EPSILON", False),
    ],
)
def test_another_result_is_found(gpu, monkeypatch, rule, name, options):
    factor = 2 if name == "DECAY" else 1.01
    monkeypatch.setattr(cupy_peers, name, factor * getattr(cupy_peers, name))
    case = Case("resnet50", rule, options)
    peer = next(peer for peer in gpu_peers.PEERS if peer.name == "cupy flat")
    with pytest.raises(LeftOutError, match="its result is another: off by"):
        gpu_peers.agreement(peer, case, gpu)


@pytest.mark.parametrize("size", [1, 63, 64, 768, 1000, 9408, 38597376, 1 << 20])
def test_rows_of_a_sum(size):
    length = cupy_peers.row_length(size)
    assert size % length == 0
    assert length == size or 64 <= length <= 4096


def peers_of(gpu, case, families=("torch", "cupy", "optax", "compile"), sets=1):
    arrays = [gpu_arrays.ArraySet(gpu, case.shapes, case.dtype) for _ in range(sets)]
    found = gpu_peers.contenders(case, arrays, gpu, families)
    return {name: (contender, note) for name, contender, note in found}


def test_missing_peers_say_why(gpu, machine):
    found = peers_of(gpu, Case("gpt2", "momentum"), ["torch", "cupy", "optax"])
    assert [name for name, (contender, _) in found.items() if contender] == [
        "cupy flat",
        "cupy each",
    ]
    assert found["cupy each"][1]["difference"] < 1e-5
    assert found["torch fused"][1]["reason"].startswith("torch cannot be imported (")
    assert found["optax jit"][1]["reason"].startswith("jax cannot be imported (")
    assert found["torch compile"][1]["reason"] == "not asked for (--compile)"
    assert found.keys() == {peer.name for peer in gpu_peers.PEERS}


def test_peers_that_need_too_much_say_how_much(gpu, machine):
    gpu.free_bytes = lambda: gpu_peers.RESERVE + 10
    found = peers_of(gpu, Case("gpt2", "nadam"))
    reason = found["torch foreach"][1]["reason"]
    assert re.fullmatch(r"needs about 0\.0 GB more, 0\.0 are left", reason)
    assert not any(contender for contender, _ in found.values())


def test_peers_that_break_say_how(gpu, machine, monkeypatch):
    def breaks(*_):
        raise TypeError("unexpected keyword argument 'fused'\nand more")

    monkeypatch.setattr(torch_peers, "on_stream_of", breaks)
    reason = peers_of(gpu, Case("gpt2", "nadam"))["torch fused"][1]["reason"]
    assert reason == "TypeError: unexpected keyword argument 'fused'"


@pytest.mark.skipif(util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize("rule", gpu_cases.RULES)
def test_torch(gpu, monkeypatch, rule, options, dtype):
    torch = import_module("torch")
    monkeypatch.setattr(torch_peers, "on_stream_of", lambda gpu: torch)
    monkeypatch.setitem(gpu_cases.WORKLOADS, "gpt2", SMALL["gpt2"])
    case = Case("gpt2", rule, options, dtype)
    found = peers_of(gpu, case, ["torch"], sets=2)
    contender, note = found["torch foreach"]
    assert ("difference" in note) == (
        rule in ("sgd", "momentum") and dtype == "float32" and not options
    )
    contender.steps[0]()
    contender.steps[1]()
    contender, note = found["torch fused"]
    if rule in ("sgd", "momentum"):
        contender.steps[1]()
    else:
        assert "fused" in note["reason"]


# --- Whole runs


def run(tmp_path, *arguments):
    path = tmp_path / "results.json"
    status = bench_gpu.main([*arguments, "--commit", "abc", "--json", str(path)])
    return status, json.loads(path.read_text()) if path.exists() else None


def test_run_of_everything(tmp_path, machine, capsys):
    dtypes, rules = ["float32", "bfloat16"], ["nadam", "sgd"]
    status, found = run(
        tmp_path,
        *("--dtypes", *dtypes, "--rules", *rules, "--workloads", *SMALL),
        *("--quick", "--budget", "600"),
    )
    assert status == 0
    assert len(found["results"]) == 5 * 2 * 2 * 2
    assert found["failure"] is None
    assert not found["not_run"]
    for result in found["results"]:
        assert not result["different_bits"]
        assert result["finite"]
        assert {"ravine", gpu_goals.GRAPH, *gpu_report.COPIES} <= result["contenders"].keys()
        own = result["contenders"]["ravine"]
        assert own["launches"] == 1
        assert own["device_us"]["count"] >= 3
        assert len({*result["contenders"], *result["left_out"]} & {*gpu_report.COLUMNS}) == 6
    text = capsys.readouterr().out
    assert text.count("CPU and GPU: equal bits") == 40
    assert gpu_report.HEADER in text
    assert "Bits of CPU and GPU: equal" in text
    assert "torch foreach: torch cannot be imported" in text
    assert {v["met"] for v in found["goals"] if v["goal"].startswith("launches")} == {True}
    assert found["machine"]["commit"] == "abc"
    assert found["machine"]["gpu"] == "A GPU"
    assert found["machine"]["versions"]["numpy"] == np.__version__


def test_quick_run_is_small(machine):
    parsed = bench_gpu.parse(["--quick", "--rules", "sgd"])
    assert (parsed.workloads, parsed.rules, parsed.budget) == (["gpt2", "tiny"], ["sgd"], 30)
    assert bench_gpu.parse([]).budget == 150
    assert len(bench_gpu.parse([]).workloads) == 5


def test_spent_budget_is_told(tmp_path, machine, capsys):
    status, found = run(tmp_path, "--budget", "0", "--quick")
    assert status == 0
    assert {*found["not_run"].values()} == {"the budget was spent"}
    assert "not run: gpt2 float32 nadam: the budget was spent" in capsys.readouterr().out


def test_a_case_that_does_not_fit_is_left_out(tmp_path, machine, monkeypatch):
    monkeypatch.setattr(gpu_device.Gpu, "free_bytes", lambda self: 10)
    status, found = run(tmp_path, "--quick")
    assert status == 0
    assert found["not_run"]["gpt2 float32 nadam"] == "needs 4.3 GB, 0.0 are free"


def test_failure_of_ravine_ends_the_run(tmp_path, machine, monkeypatch, capsys):
    apply = bench_gpu.ravine.Optimizer.apply

    def fails(self, *arguments, **keywords):
        if isinstance(self, bench_gpu.ravine.SGD):
            raise RuntimeError("illegal memory access")
        return apply(self, *arguments, **keywords)

    monkeypatch.setattr(bench_gpu.ravine.Optimizer, "apply", fails)
    status, found = run(tmp_path, "--quick")
    assert status == 1
    assert [result["case"] for result in found["results"]] == ["gpt2 float32 nadam"]
    assert found["failure"] == "gpt2 float32 momentum: RuntimeError: illegal memory access"
    printed = capsys.readouterr()
    assert gpu_report.HEADER in printed.out
    assert "FAILED: gpt2 float32 momentum" in printed.err


def test_other_bits_are_told(tmp_path, machine, monkeypatch, capsys):
    monkeypatch.setattr(gpu_own, "different_bits", lambda case, gpu: ["variable 0"])
    status, _ = run(tmp_path, "--quick", "--workloads", "gpt2", "--rules", "sgd")
    assert status == 0
    printed = capsys.readouterr().out
    assert "CPU and GPU: DIFFERENT: ['variable 0']" in printed
    assert "Bits of CPU and GPU: DIFFERENT in ['gpt2 float32 sgd'" in printed


def test_bits_are_compared(gpu, monkeypatch):
    case = Case("resnet50", "nadam", True)
    assert gpu_own.different_bits(case, gpu) == []
    made = []

    def optimizer(self):
        made.append(bench_gpu.ravine.Nadam(1e-3 * (1 + len(made)), use_ema=True))
        return made[-1]

    monkeypatch.setattr(Case, "optimizer", optimizer)
    wrong = gpu_own.different_bits(case, gpu)
    assert {"variable 0", "learning_rate", "average/variable_0"} <= {*wrong}


@pytest.mark.parametrize("what", ["build", "cupy", "driver"])
def test_without_a_gpu_it_says_so(machine, monkeypatch, capsys, what):
    def missing(name):
        raise ImportError("No module named 'cupy'")

    if what == "build":
        monkeypatch.setattr(machine, "has_cuda", lambda: False)
    elif what == "cupy":
        monkeypatch.setattr(bench_gpu, "import_module", missing)
    else:
        cupy = fake_cupy()
        cupy.cuda.is_available = lambda: False
        monkeypatch.setattr(bench_gpu, "import_module", lambda name: cupy)
    assert bench_gpu.main([]) == 2
    expected = {
        "build": "this build of ravine has no CUDA backend",
        "cupy": "CuPy cannot be imported (No module named 'cupy')",
        "driver": "there is no GPU, or no driver for it",
    }[what]
    assert capsys.readouterr().err == f"bench_gpu: {expected}\n"


def test_bfloat16_needs_ml_dtypes(monkeypatch):
    assert gpu_arrays.numpy_dtype("bfloat16") == ml_dtypes.bfloat16
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(LeftOutError, match="bfloat16 needs ml_dtypes, which is not installed"):
        gpu_arrays.numpy_dtype("bfloat16")
