"""The figures of the benchmark of the GPU: what is timed, how, and how results are told."""

import json
import sys
from math import prod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy_cupy import fake_cupy

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks" / "gpu"))
gpu_arrays, gpu_cases, gpu_device, gpu_goals, gpu_report, timing = (
    pytest.importorskip(name, reason="the benchmarks are not here")
    for name in ["gpu_arrays", "gpu_cases", "gpu_device", "gpu_goals", "gpu_report", "timing"]
)
Case, Contender, Samples = gpu_cases.Case, timing.Contender, timing.Samples

BY_RULE = {"sgd": 12, "momentum": 20, "rmsprop": 20, "centered": 36, "nadam": 28}


@pytest.fixture
def gpu():
    return gpu_device.Gpu(fake_cupy())


# --- What is timed


@pytest.mark.parametrize(("rule", "expected"), BY_RULE.items())
def test_bytes_per_parameter(rule, expected):
    def count(**arguments):
        return Case("gpt2", rule, **arguments).bytes_per_parameter

    assert count() == expected
    assert count(options=True) == expected + 8 + 4  # the average; the gradient once more
    assert count(dtype="bfloat16") == expected - 12 + 6
    assert count(options=True, dtype="bfloat16") == expected - 12 + 6 + 8 + 2
    slots = gpu_cases.RULES[rule].slots
    assert gpu_cases.bytes_per_parameter(slots, 4, True, False) == expected + 4
    assert gpu_cases.bytes_per_parameter(slots, 4, False, True) == expected + 8


@pytest.mark.parametrize("rule", gpu_cases.RULES)
@pytest.mark.parametrize("options", [False, True])
def test_bytes_are_those_of_the_arrays_of_an_optimizer(rule, options):
    w = np.ones(1000, np.float32)
    optimizer = Case("gpt2", rule, options).optimizer()
    optimizer.build([w])
    state = sum(a.nbytes for a in optimizer.variables if a.shape == w.shape)
    case = Case("flat", rule, options)
    assert case.bytes_held * 1000 == (2 * w.nbytes + state) * case.parameters
    moved = 3 * w.nbytes + 2 * state + options * w.nbytes
    assert case.bytes_per_parameter * 1000 == moved


def test_workloads_are_those_that_are_told():
    counts = {name: (len(s), sum(map(prod, s))) for name, s in gpu_cases.WORKLOADS.items()}
    assert counts == {
        "gpt2": (148, 124_439_808),
        "tiny": (1000, 1_024_000),
        "resnet50": (161, 25_557_032),
        "llama": (146, 1_235_814_400),
        "flat": (1, 124_439_808),
    }


@pytest.mark.parametrize("dtype", gpu_cases.ITEM_BYTES)
@pytest.mark.parametrize("workload", gpu_cases.WORKLOADS)
@pytest.mark.parametrize("rule", BY_RULE)
def test_sets_do_not_fit_the_cache(workload, rule, dtype):
    case, cache = Case(workload, rule, dtype=dtype), 60 << 20
    sets = case.sets(cache)
    assert sets * case.bytes_held >= 2 * cache
    assert sets == 1 or (sets - 1) * case.bytes_held < gpu_cases.CACHES * cache
    assert sets * case.bytes_held < 40e9  # fits a GPU of 80 GB beside the peers


def test_cases_begin_with_what_matters_most():
    every = [*gpu_cases.cases(["llama", "gpt2"], ["sgd", "nadam"], ["bfloat16", "float32"], [1, 0])]
    assert len(set(every)) == 16
    assert every[0] == Case("gpt2", "nadam", False, "float32")
    assert every[-1] == Case("llama", "sgd", True, "bfloat16")
    assert [case.dtype for case in every[:8]] == ["float32"] * 8


def test_sample_is_small_and_keeps_trailing_axes():
    assert gpu_cases.sample([(128256, 2048), (2048,)]) == [(32, 2048), (2048,)]
    assert gpu_cases.sample([(124_000_000,)]) == [(1 << 16,)]
    assert gpu_cases.sample([(5, 1 << 20)]) == [(1, 1 << 20)]
    assert len(gpu_cases.sample([(1024,)] * 1000)) == 8


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_arrays_are_aligned_and_gaps_are_zero(gpu, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")
    shapes = [(3,), (5, 7), (256,), (1,)]
    arrays = gpu_arrays.ArraySet(gpu, shapes, dtype)
    assert [w.shape for w in arrays.variables] == shapes
    item, base = gpu_cases.ITEM_BYTES[dtype], arrays.flat_variables.data.ptr
    assert all((w.data.ptr - base) % 512 == 0 for w in arrays.variables)
    for flat, views in (
        (arrays.flat_variables, arrays.variables),
        (arrays.flat_gradients, arrays.gradients),
    ):
        assert flat.dtype.name == dtype
        assert flat.nbytes % 512 == 0
        assert flat.nbytes >= item * sum(map(prod, shapes))
        assert np.count_nonzero(flat) == sum(np.count_nonzero(view) for view in views)
        assert all(np.count_nonzero(view) == view.size for view in views)
    before = arrays.gradients[1].astype(np.float32)
    gpu.flip_signs(arrays.flat_gradients)
    assert (arrays.gradients[1].astype(np.float32) == -before).all()


def test_pattern_fills_arrays_that_are_longer(gpu, monkeypatch):
    monkeypatch.setattr(gpu_arrays, "PATTERN", 100)
    gpu_arrays.pattern.cache_clear()
    flat = gpu.filled("variable", "float32", [(1024,)])
    assert (flat[:900] == flat[100:1000]).all()
    assert len(set(flat.tolist())) == 100
    gpu_arrays.pattern.cache_clear()


@pytest.mark.parametrize("half", [16, 4096, 1 << 19, 1 << 20, 5 << 19])
def test_copies_move_as_many_bytes(gpu, half):
    def record(target, source, nbytes):
        moved.append((target, source, nbytes))

    gpu.copies(16)  # makes the memory
    gpu.memcpy = gpu.copy_kernel = record
    begins = [array.data.ptr for array in gpu._scratch]
    for contender in gpu.copies(2 * half + 3):
        for step in contender.steps:
            moved = []
            step()
            assert sum(nbytes for _, _, nbytes in moved) == half
            assert len(moved) == contender.launches
            for *addresses, nbytes in moved:
                for address, begin in zip(addresses, begins, strict=True):
                    assert begin <= address <= address + nbytes <= begin + gpu._scratch[0].nbytes


def test_copies_copy(gpu):
    ways = gpu.copies(8192)
    assert {*gpu_report.COPIES} == {contender.name for contender in ways}
    for contender in ways:
        gpu._scratch[0][...] = 0
        for step in contender.steps:
            step()
        whole = len(contender.steps) * 1024
        assert (gpu._scratch[0][:whole] == gpu._scratch[1][:whole]).all()


# --- Timing


class FakeTimer:
    """A clock that goes on by what steps take: on the host, and on the device."""

    def __init__(self):
        self.time = self.device_free = 0.0
        self.hold_needed = 0.0
        self.holds = []

    def take(self, host, device):
        self.time += host
        self.device_free = max(self.device_free, self.time) + device

    def now(self):
        return self.time

    def wait(self):
        self.time = max(self.time, self.device_free)

    def device(self, steps, first, count, hold):
        self.wait()
        self.holds.append(hold)
        start = self.time
        self.device_free = start + hold
        timing.in_turn(steps, first, count)
        held = self.time < start + hold
        elapsed = self.device_free - (start + hold)
        self.wait()
        return elapsed / count, held

    def host(self, step, calls):
        self.wait()
        result = []
        for _ in range(calls):
            start = self.time
            step()
            result.append(self.time - start)
        self.wait()
        return result


def stepping(timer, host, device, counts=None, index=0):
    def step():
        if counts is not None:
            counts[index] += 1
        timer.take(host, device)

    return step


def test_race_tells_device_from_host():
    timer = FakeTimer()
    racing = [
        Contender("fast", [stepping(timer, 4e-6, 1e-3)], 1),
        Contender("host-bound", [stepping(timer, 1e-4, 1e-5)], 10),
        Contender("own clock", [stepping(timer, 1e-6, 2e-3)], wait=timer.wait),
    ]
    result = timing.race(racing, timer, 0.5, 3)
    assert timer.time >= 0.5
    fast, bound, own = (result[c.name] for c in racing)
    assert len(fast.device) == len(bound.device) == len(own.device) >= 3
    assert timing.quartiles(fast.device)["median"] == pytest.approx(1e-3)
    assert timing.quartiles(fast.host)["median"] == pytest.approx(4e-6)
    assert timing.quartiles(bound.device)["median"] == pytest.approx(1e-5)
    assert timing.quartiles(bound.host)["median"] == pytest.approx(1e-4)
    assert timing.quartiles(own.device)["median"] == pytest.approx(2e-3, rel=1e-2)
    assert all(fast.held)
    assert all(bound.held)
    assert not any(own.held)
    assert max(timer.holds) <= timing.LONGEST_HOLD


def test_race_makes_the_least_rounds_when_time_is_up():
    timer, flips = FakeTimer(), []
    racing = [Contender("slow", [stepping(timer, 1.0, 1.0)])]
    result = timing.race(racing, timer, -1, 3, lambda: flips.append(1))
    assert len(result["slow"].device) == len(flips) == 3
    assert result["slow"].steps == 1


def test_race_uses_all_sets_alike():
    timer, counts = FakeTimer(), [0] * 7
    steps = [stepping(timer, 1e-6, 1e-4, counts, i) for i in range(7)]
    result = timing.race([Contender("rotating", steps, 1)], timer, 1.0, 3)
    assert result["rotating"].sets == 7
    assert max(counts[1:]) - min(counts[1:]) <= 1
    assert counts[0] > counts[1]  # the host is timed on it


def test_slow_contenders_use_fewer_sets():
    timer = FakeTimer()
    contender = Contender("slow", [stepping(timer, 0.1, 0.1) for _ in range(20)])
    assert 1 < timing.race([contender], timer, 0, 1)["slow"].sets < 6


def test_no_batch_fills_the_queue():
    timer = FakeTimer()
    racing = [
        Contender("one", [stepping(timer, 1e-7, 1e-7)], 1),
        Contender("many", [stepping(timer, 1e-7, 1e-7)], 300),
        Contender("more", [stepping(timer, 1e-7, 1e-7)], 2000),
        Contender("unknown", [stepping(timer, 1e-7, 1e-7)]),
    ]
    result = timing.race(racing, timer, 0, 1)
    assert [result[c.name].steps for c in racing] == [900, 3, 1, 112]


def test_hold_grows_until_it_suffices():
    timer = FakeTimer()
    delays = iter([1e-6] * 60)
    late = [False]

    def step():
        timer.take(3e-4 if late[0] else next(delays, 1e-6), 1e-3)

    contender = Contender("growing", [step], 1)
    rounds = []

    def between():
        late[0] = True
        rounds.append(len(timer.holds))

    samples = timing.race([contender], timer, 0, 6, between)["growing"]
    assert not samples.held[0]
    assert samples.held[-1]
    assert timer.holds == sorted(timer.holds)


@pytest.mark.parametrize("when", [1, 40])
def test_a_failure_is_told_and_ends_nothing(when):
    timer, calls = FakeTimer(), [0]

    def fails():
        calls[0] += 1
        if calls[0] >= when:
            raise RuntimeError("out of\nmemory")
        timer.take(1e-6, 1e-4)

    racing = [Contender("bad", [fails]), Contender("good", [stepping(timer, 1e-6, 1e-4)])]
    result = timing.race(racing, timer, 0.1, 5)
    assert result["bad"].failure == "RuntimeError: out of"
    assert result["bad"].device == []
    assert len(result["good"].device) >= 5
    racing[0].essential, calls[0] = True, 0
    with pytest.raises(RuntimeError, match="out of"):
        timing.race(racing, timer, 0.1, 5)


def test_stream_timer_holds_before_it_starts(gpu):
    order = []
    events = [SimpleNamespace(done=False), SimpleNamespace(done=False)]
    for name, event in zip(("start", "end"), events, strict=True):
        event.record = lambda stream, name=name: order.append(name)
        event.synchronize = lambda: order.append("wait")
    made = iter(events)
    cupy = SimpleNamespace(
        cuda=SimpleNamespace(Event=lambda: next(made), get_elapsed_time=lambda a, b: 6.0)
    )
    timer = timing.StreamTimer(cupy, gpu.stream, lambda seconds: order.append(("hold", seconds)))
    steps = [lambda: order.append("a"), lambda: order.append("b")]
    assert timer.device(steps, 1, 3, 0.25) == (pytest.approx(2e-3), True)
    assert order == [("hold", 0.25), "start", "b", "a", "b", "end", "wait"]
    events[0].done = True
    assert timer.device(steps, 0, 1, 0.0) == (pytest.approx(6e-3), False)
    assert len(timer.host(steps[0], 3)) == 3


def test_quartiles_and_ratios():
    assert timing.quartiles([2.0]) == {"median": 2.0, "low": 2.0, "high": 2.0, "count": 1}
    assert timing.quartiles([5, 1, 3])["median"] == 3
    four = timing.quartiles([1, 2, 3, 4, 5, 6, 7])
    assert (four["low"], four["median"], four["high"], four["count"]) == (2, 4, 6, 7)
    # Of the rounds, not of the medians.
    assert timing.ratios([1, 20, 3], [1, 10, 1])["median"] == 2
    assert timing.ratios([], []) is None


# --- Figures, goals, tables


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
