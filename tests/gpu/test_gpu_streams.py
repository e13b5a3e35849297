"""Streams: a step waits for what it needs, on the GPU, and for nothing else; the host never."""

import threading

import numpy as np
import pytest
from checks import assert_same, normal
from gpu_checks import Shown, difference, gradients, on_gpu, twins

import ravine
from ravine import _core


class Protocol:
    """A stream of another library."""

    def __init__(self, handle, version=0):
        self._answer = version, handle

    def __cuda_stream__(self):
        return self._answer


class OlderProtocol:
    def __init__(self, handle):
        self.__cuda_stream__ = 0, handle


class Pointer:
    def __init__(self, handle):
        self.ptr = handle


NAMES = {
    "cupy": lambda stream: stream,
    "int": lambda stream: stream.ptr,
    "numpy_int": lambda stream: np.int64(stream.ptr),
    "protocol": lambda stream: Protocol(stream.ptr),
    "older_protocol": lambda stream: OlderProtocol(stream.ptr),
    "pointer": lambda stream: Pointer(stream.ptr),
}
MAKERS = []


def new_stream(xp):
    return xp.cuda.Stream(non_blocking=True)


@pytest.fixture(autouse=True)
def makers():
    """Let optimizers live as long as a test: one that goes waits for the GPU."""
    yield
    MAKERS.clear()


def late(xp, stream, size=5000):
    """Return an array that work on a stream has yet to make: one that ends as -1, -2, ...

    As long as nobody waits for the stream, an emulated GPU leaves it as it is: zeros.
    """
    array = xp.zeros(size, np.float32)
    optimizer = ravine.SGD(1.0)
    optimizer.build([array])
    step = xp.asarray(np.arange(1, size + 1, dtype=np.float32))
    xp.cuda.get_current_stream().synchronize()
    optimizer.apply([step], stream=stream)
    MAKERS.append(optimizer)
    return array


def expected_of_late(size=5000, rate=0.5):
    return np.arange(1, size + 1, dtype=np.float32) * np.float32(rate)


@pytest.mark.parametrize("name", NAMES)
def test_step_runs_on_the_stream_that_is_named(xp, emulated, name):
    random = np.random.default_rng(90)
    variables = [normal(random, 5000, np.float32)]
    pair = twins(xp, "nadam", variables)
    stream = new_stream(xp)
    grads = gradients(random, variables)
    there = pair.put(grads)
    emulated.synchronize_all()
    pair.gpu.apply(there, stream=NAMES[name](stream))
    new_stream(xp).synchronize()
    assert emulated.outstanding() > 0
    stream.synchronize()
    assert emulated.outstanding() == 0
    pair.cpu.apply(grads)
    pair.assert_equal()


def test_memory_of_gradients_is_not_used_again_before_the_step(xp, emulated):
    w = xp.zeros(5000, np.float32)
    optimizer = ravine.SGD(1.0)
    optimizer.build([w])
    g = xp.ones(5000, np.float32)
    optimizer.apply([g], stream=new_stream(xp))
    assert emulated.outstanding() > 0
    # What CuPy does next with this memory, on its current stream, comes after the step.
    xp.cuda.get_current_stream().synchronize()
    assert emulated.outstanding() == 0


def test_current_stream_is_the_default(cupy, emulated):
    w, g = cupy.zeros(3), cupy.ones(3)
    optimizer = ravine.SGD(0.5)
    optimizer.build([w])
    first, second = cupy.cuda.Stream(), cupy.cuda.Stream()
    with first:
        optimizer.apply([g])
        with second:
            optimizer.apply([g])
    assert emulated.outstanding() > 0
    second.synchronize()
    assert w._host.tolist() == [-1] * 3
    # The default stream of CUDA waits for all others, and does its work at once.
    optimizer.apply([g])
    assert emulated.outstanding() == 0


def test_current_stream_of_this_thread(cupy, emulated):
    w, g = cupy.zeros(3), cupy.ones(3)
    optimizer = ravine.SGD(0.5)
    optimizer.build([w])
    with cupy.cuda.Stream():
        thread = threading.Thread(target=lambda: optimizer.apply([g]))
        thread.start()
        thread.join()
    assert emulated.outstanding() == 0  # the other thread had the default stream
    assert w.get().tolist() == [-0.5] * 3


def test_apply_gradients_and_minimize_take_a_stream(xp, emulated):
    w, g = xp.zeros(3), xp.ones(3)
    optimizer = ravine.SGD(0.5)
    optimizer.build([w])
    for _ in range(2):
        emulated.synchronize_all()
        stream = new_stream(xp)
        optimizer.apply_gradients([(g, w)], stream=stream)
        assert optimizer.minimize(lambda: (2.5, [g]), [w], stream=stream) == 2.5
        assert emulated.outstanding() >= 2
        stream.synchronize()
        assert emulated.outstanding() == 0
    assert w.get().tolist() == [-2] * 3


def test_stream_may_be_named_when_the_optimizer_is_built_by_the_step(xp):
    w, g, stream = xp.zeros(3), xp.ones(3), new_stream(xp)
    optimizer = ravine.SGD(0.5, momentum=0.5)
    optimizer.apply([g], [w], stream=stream)
    stream.synchronize()
    assert w.get().tolist() == [-0.5] * 3


# --- Order


def test_step_waits_for_the_current_stream_where_cupy_makes_gradients(xp, schedule):
    stream = new_stream(xp)
    w = xp.zeros(5000, np.float32)
    optimizer = ravine.SGD(0.5)
    # The last step was on the stream of the next: it gives no reason to wait for another.
    optimizer.apply([xp.zeros(5000, np.float32)], [w], stream=stream)
    g = late(xp, xp.cuda.get_current_stream())
    before = _core.cuda_counts()
    optimizer.apply([g], stream=stream)
    assert difference(before)["synchronizations"] == 0
    stream.synchronize()
    with stream:
        assert_same(w.get(), expected_of_late())


@pytest.mark.parametrize("kind", ["producer_named", "producer_is_mine", "default_is_named"])
def test_step_waits_for_the_stream_that_an_array_names(xp, schedule, kind):
    stream, producer = new_stream(xp), new_stream(xp)
    step_stream = producer if kind == "producer_is_mine" else stream
    named = 1 if kind == "default_is_named" else producer.ptr
    w = xp.zeros(5000, np.float32)
    optimizer = ravine.SGD(0.5)
    optimizer.build([w])
    g = late(xp, xp.cuda.Stream.null if kind == "default_is_named" else producer)
    before = _core.cuda_counts()
    for _ in range(2):
        optimizer.apply([Shown(g, stream=named)], stream=step_stream)
    assert difference(before)["synchronizations"] == 0
    step_stream.synchronize()
    with step_stream:
        assert_same(w.get(), expected_of_late() * 2)


def test_step_waits_for_all_streams_that_arrays_name(xp, schedule):
    producers = [new_stream(xp) for _ in range(3)]
    variables = [xp.zeros(5000, np.float32) for _ in range(6)]
    optimizer = ravine.SGD(0.5, global_clipnorm=1e9)
    optimizer.build(variables)
    grads = [Shown(late(xp, producers[i % 3]), stream=producers[i % 3].ptr) for i in range(6)]
    optimizer.apply(grads)
    for w in variables:
        assert_same(w.get(), expected_of_late())


def test_step_does_not_wait_for_a_stream_that_nobody_names(xp, emulated):
    # The other side of it: this is a race, which an emulated GPU loses.
    emulated.set_schedule(0)
    producer, stream = new_stream(xp), new_stream(xp)
    w = xp.zeros(5000, np.float32)
    optimizer = ravine.SGD(0.5)
    optimizer.build([w])
    g = late(xp, producer)
    optimizer.apply([Shown(g)], stream=stream)
    stream.synchronize()
    assert not w._host.any()


@pytest.mark.parametrize("options", [{}, {"use_ema": True, "clipnorm": 1.0}])
@pytest.mark.parametrize("rule", ["sgd_momentum", "nadam"])
def test_optimizer_moves_from_stream_to_stream(xp, schedule, rule, options):
    random = np.random.default_rng(91)
    variables = [normal(random, n, np.float32) for n in (5000, 3)]
    pair = twins(xp, rule, variables, **options)
    streams = [new_stream(xp) for _ in range(3)]
    steps = [gradients(random, variables) for _ in range(9)]
    put = [pair.put(grads) for grads in steps]
    for i, (grads, there) in enumerate(zip(steps, put, strict=True)):
        pair.cpu.apply(grads)
        pair.gpu.apply(there, stream=streams[(i * i) % 3])
    pair.gpu.apply(put[0])
    pair.cpu.apply(steps[0])
    pair.assert_equal()


def test_finalize_follows_a_step_on_another_stream(xp, schedule):
    random = np.random.default_rng(92)
    variables = [normal(random, 5000, np.float32)]
    pair = twins(xp, "nadam", variables, use_ema=True)
    stream = new_stream(xp)
    steps = [gradients(random, variables) for _ in range(3)]
    put = [pair.put(grads) for grads in steps]
    for grads, there in zip(steps, put, strict=True):
        pair.cpu.apply(grads)
        pair.gpu.apply(there, stream=stream)
    for each in (pair.cpu, pair.gpu):
        each.finalize_variable_values()
    pair.assert_equal()


def test_finalize_is_put_on_the_current_stream(xp, emulated):
    w = xp.zeros(5000, np.float32)
    optimizer = ravine.SGD(0.5, use_ema=True)
    optimizer.apply([xp.ones(5000, np.float32)], [w])
    emulated.synchronize_all()
    optimizer.finalize_variable_values()
    assert emulated.outstanding() > 0
    xp.cuda.get_current_stream().synchronize()
    assert emulated.outstanding() == 0


def test_averages_are_there_for_whoever_reads_them_late(xp, schedule):
    # Another optimizer, on another stream, takes them as its gradients.
    w, other = xp.zeros(5000, np.float32), xp.zeros(5000, np.float32)
    optimizer, reader = ravine.SGD(1.0, use_ema=True, ema_momentum=0.5), ravine.SGD(1.0)
    for value in (1.0, 2.0):
        optimizer.apply([xp.full(5000, value, np.float32)], [w])
    reader.build([other])
    stream = new_stream(xp)
    with optimizer.averaged_weights():
        reader.apply([w], stream=stream)
    assert w.get().tolist() == [-3] * 5000
    stream.synchronize()
    assert other.get().tolist() == [2] * 5000


def late_steps(xp, **options):
    """Return twins whose steps on the GPU stand on a stream that is not the current one."""
    random = np.random.default_rng(93)
    variables = [normal(random, 5000, np.float32)]
    pair = twins(xp, "nadam", variables, **options)
    grads = gradients(random, variables)
    there = pair.put(grads)
    xp.cuda.get_current_stream().synchronize()
    stream = new_stream(xp)
    for _ in range(3):
        pair.cpu.apply(grads)
        pair.gpu.apply(there, stream=stream)
    return pair


def test_state_is_right_whichever_stream_the_steps_are_on(xp, schedule):
    pair = late_steps(xp, use_ema=True)
    for key, array in pair.cpu.state_dict().items():
        assert_same(pair.gpu.state_dict()[key], array, key)


def test_averaged_weights_come_back_whichever_stream_the_steps_are_on(xp, schedule):
    pair = late_steps(xp, use_ema=True)
    with pair.cpu.averaged_weights(), pair.gpu.averaged_weights():
        assert_same(pair.on_gpu[0].get(), pair.on_cpu[0])
    pair.assert_equal()


def test_loaded_state_is_not_overwritten_by_steps_that_were_late(xp, schedule):
    pair = late_steps(xp, use_ema=True)
    state = twins(xp, "nadam", pair.on_cpu, use_ema=True).cpu.state_dict()
    for each in (pair.cpu, pair.gpu):
        each.load_state_dict(state)
    pair.assert_equal()
    pair.run([[np.ones(5000, np.float32)]])


def test_gradient_may_be_freed_right_after_the_step(xp, schedule):
    random = np.random.default_rng(94)
    variables = [normal(random, 5000, np.float32)]
    pair = twins(xp, "sgd_momentum", variables)
    for grads in [gradients(random, variables) for _ in range(6)]:
        pair.cpu.apply(grads)
        pair.gpu.apply([on_gpu(xp, grads[0])])
    pair.assert_equal()


def test_gradients_at_the_place_of_freed_ones_are_found(xp):
    # A new object often gets the identity of the one that was freed.
    pair = twins(xp, "sgd", [np.zeros(3, np.float32)])
    identities = set()
    for value in range(20):
        g = np.full(3, float(value), np.float32)
        there = on_gpu(xp, g)
        identities.add(id(there))
        pair.cpu.apply([g])
        pair.gpu.apply([there])
        del there
    assert len(identities) < 20
    pair.assert_equal()
