"""The figures of the benchmark of the GPU: how results are told, and what they are held to."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks" / "gpu"))
gpu_cases, gpu_goals, gpu_report, timing = (
    pytest.importorskip(name, reason="the benchmarks are not here")
    for name in ["gpu_cases", "gpu_goals", "gpu_report", "timing"]
)
Case, Samples = gpu_cases.Case, timing.Samples


def samples(device, host=1e-6, held=True, rounds=5):
    return Samples([device] * rounds, [host] * rounds, [held] * rounds, 1, 1)


def result_of(case, device=1e-3, copy=0.95e-3, launches=1, **peers):
    own = {"copy, runtime": samples(copy * 2), "copy, kernel": samples(copy)}
    own["ravine"] = samples(device, 5e-6)
    own |= {name.replace("_", " "): samples(seconds) for name, seconds in peers.items()}
    result = gpu_report.summary(
        case, 60 << 20, own, {**own, gpu_goals.GRAPH: samples(device / 2, 4e-6)}
    )
    result["contenders"]["ravine"]["launches"] = launches
    return result | {"synchronizations": 0, "different_bits": []}


def verdicts(*results):
    return {verdict["goal"]: verdict for verdict in gpu_report.goals(results)}


def test_figures():
    case = Case("gpt2", "nadam")
    result = result_of(case, torch_foreach=3e-3)
    own = result["contenders"]["ravine"]
    assert result["ceiling"] == "copy, kernel"
    assert own["device_us"]["median"] == pytest.approx(1000)
    assert own["host_us"]["median"] == pytest.approx(5)
    assert own["fraction"]["median"] == pytest.approx(0.95)
    assert own["gigabytes_per_second"] == pytest.approx(case.bytes_moved / 1e6)
    assert result["contenders"]["torch foreach"]["ratio"]["median"] == pytest.approx(3)
    assert result["contenders"][gpu_goals.GRAPH]["device_us"]["median"] == pytest.approx(500)
    assert json.loads(json.dumps(result)) == result


def test_loop_ratio_is_that_of_host_or_device():
    races = {name: samples(1e-3) for name in gpu_report.COPIES}
    races |= {"ravine": samples(1e-3, 1e-6), "busy": samples(1e-3, 4e-3)}
    assert gpu_report.figures(races)["busy"]["loop_ratio"] == pytest.approx(4)


def test_goals_without_figures_are_not_measured():
    every = gpu_report.goals([])
    assert {verdict["met"] for verdict in every} == {None}
    text = gpu_report.goal_table(every)
    assert text.count("not measured") == len(every) == len({v["goal"] for v in every})


def test_the_worst_case_counts():
    found = verdicts(
        result_of(Case("gpt2", "nadam"), copy=0.99e-3),
        result_of(Case("gpt2", "sgd"), copy=0.90e-3),
        result_of(Case("gpt2", "sgd", True), copy=0.1e-3),  # another goal's
        result_of(Case("gpt2", "sgd", dtype="bfloat16"), copy=0.1e-3),
        result_of(Case("llama", "sgd"), copy=0.96e-3),
    )
    missed, met = found["part of the copy's rate, gpt2"], found["part of the copy's rate, llama"]
    assert (missed["met"], missed["cases"], missed["case"]) == (False, 2, "gpt2 float32 sgd")
    assert missed["worst"] == pytest.approx(0.90)
    assert (met["met"], met["worst"]) == (True, pytest.approx(0.96))
    assert found["part of the copy's rate, resnet50"]["met"] is None


def test_goals_of_peers():
    found = verdicts(
        result_of(Case("gpt2", "nadam"), torch_foreach=2.9e-3),
        result_of(Case("gpt2", "rmsprop"), torch_foreach=2.1e-3),
        result_of(Case("gpt2", "momentum"), torch_fused=1.2e-3),
        result_of(Case("resnet50", "nadam"), torch_foreach=1e-3),
    )
    assert found["times torch foreach, nadam, gpt2"]["met"] is True
    assert found["times torch foreach, rmsprop, gpt2"]["met"] is False
    assert found["times torch fused, momentum and sgd, gpt2"]["met"] is True
    assert found["times torch foreach, centered, gpt2"]["met"] is None


def test_goals_of_small_arrays_and_of_the_host():
    found = verdicts(
        result_of(Case("tiny", "nadam"), 9e-6),
        result_of(Case("tiny", "nadam", True), 19e-6, launches=3),
    )
    assert found["us on the device, tiny"]["met"] is True
    assert found["us on the device, tiny, with a norm"]["met"] is False
    assert found["us on the host"]["met"] is True
    assert found["us on the host, graph"]["worst"] == pytest.approx(4)
    assert found["launches without a norm"]["met"] is True
    assert found["launches with a norm"]["met"] is True
    assert found["synchronizations"]["met"] is True
    bad = result_of(Case("tiny", "nadam")) | {"synchronizations": 1}
    assert verdicts(bad)["synchronizations"]["met"] is False


def test_moved_gradients_may_take_longer_the_more_there_are():
    result = result_of(Case("gpt2", "nadam"))
    arrays = len(gpu_cases.WORKLOADS["gpt2"])
    result["contenders"][gpu_goals.MOVED] = {"host_us": {"median": 7 + 0.12 * arrays}}
    verdict = verdicts(result)["us on the host, moved, less 0.12 an array"]
    assert (verdict["met"], verdict["worst"]) == (True, pytest.approx(7))


def test_table():
    results = [result_of(Case("gpt2", "nadam", True, "bfloat16"), torch_fused=2e-3)]
    results[0]["contenders"]["torch fused"]["held"] = 0.0
    lines = gpu_report.table(results).splitlines()
    assert lines[0] == gpu_report.HEADER
    assert len(lines[1]) == len(lines[0])
    assert lines[1].startswith("gpt2 bf16 nadam +opt ")
    assert lines[1].split("|")[1].split() == ["~2.00", "-", "-", "-", "-", "-"]
    assert max(map(len, lines)) < 150


def test_who_is_left_out_is_told_once():
    results = [result_of(Case("gpt2", rule)) for rule in ("sgd", "nadam")]
    for result in results:
        result["left_out"] = {"torch fused": "no GPU"}
    results[0]["left_out"]["optax jit"] = "not asked for"
    assert gpu_report.left_out(results).splitlines() == [
        "Left out:",
        "  torch fused: no GPU (gpt2 float32 sgd and 1 more)",
        "  optax jit: not asked for (gpt2 float32 sgd)",
    ]
    assert gpu_report.left_out([]) == "Nobody was left out."
