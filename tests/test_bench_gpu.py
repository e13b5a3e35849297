"""The benchmark of the GPU: what is timed, and how."""

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
