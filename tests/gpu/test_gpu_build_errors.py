"""What cannot be bound on a GPU, and what may be missing: messages in full, nothing half built."""

import sys

import ml_dtypes
import numpy as np
import pytest
from checks import DTYPE_MESSAGE, cases, raises
from gpu_checks import OnlyDLPack, Shown, all_of

import ravine

FIRST, SECOND = "Variable 0 ('variable_0')", "Variable 1 ('variable_1')"
GAPS = (
    "On a GPU variables must be aligned and without gaps, and variable 0 ('variable_0') is not. "
    "Pass the array that it is a view of, or a contiguous copy."
)
DEVICES = (
    "All variables must be on one device; the first is on {}, variable 1 ('variable_1') is on {}. "
    "Move them, or use an optimizer for each device."
)
SHARE = (
    "Two arrays that a step writes share memory: variable 0 ('variable_0') and variable 1 "
    "('variable_1'). Give each array once."
)
READ_ONLY = "Variables are updated in place, and variable {} is read-only. Pass a writable array."
NO_CUPY = (
    "Arrays on a GPU need CuPy, which cannot be imported (import of cupy halted; None in "
    "sys.modules). Install it: pip install cupy-cuda13x"
)


def moved(array, nbytes):
    """Return an array that begins some bytes later."""
    return Shown(array, data=(array.data.ptr + nbytes, False), shape=(array.size - 1,))


def read_only(array):
    return Shown(array, data=(array.data.ptr, True))


def twice(xp):
    array = xp.ones(8)
    return [array, Shown(array)]


def overlapping(xp):
    array = xp.ones(8)
    return [array[:5], array[4:]]


BUILDS = {
    "numpy_and_cupy": (
        lambda xp: [np.ones(3), xp.ones(3)],
        ValueError,
        DEVICES.format("the CPU", "GPU 0"),
    ),
    "cupy_and_numpy": (
        lambda xp: [xp.ones(3), np.ones(3)],
        ValueError,
        DEVICES.format("GPU 0", "the CPU"),
    ),
    "step_of_two": (lambda xp: [xp.ones(8)[::2]], ValueError, GAPS),
    "columns": (lambda xp: [xp.ones((4, 4))[:, 1:]], ValueError, GAPS),
    "reversed": (lambda xp: [xp.ones(4)[::-1]], ValueError, GAPS),
    "odd_address": (lambda xp: [moved(xp.ones(4, np.float32), 2)], ValueError, GAPS),
    "read_only": (
        lambda xp: [xp.ones(3), read_only(xp.ones(3))],
        ValueError,
        READ_ONLY.format("1 ('variable_1')"),
    ),
    "dlpack_without_version": (
        lambda xp: {"w": xp.ones(3), "frozen": OnlyDLPack(xp.ones(3), has_version=False)},
        ValueError,
        READ_ONLY.format("1 ('frozen')"),
    ),
    "dlpack_on_the_cpu": (
        lambda xp: [OnlyDLPack(xp.ones(3), device_type=1)],
        TypeError,
        f"{FIRST} must be a NumPy or CuPy array. Received: OnlyDLPack.",
    ),
    "integers": (lambda xp: [xp.ones(3, np.int64)], TypeError, f"{FIRST} {DTYPE_MESSAGE}<i8."),
    "complex": (
        lambda xp: {"z": xp.ones(3, np.complex64)},
        TypeError,
        f"Variable 0 ('z') {DTYPE_MESSAGE}<c8.",
    ),
    "booleans": (lambda xp: [xp.ones(3, bool)], TypeError, f"{FIRST} {DTYPE_MESSAGE}|b1."),
    "byte_order": (
        lambda xp: [Shown(xp.ones(3), typestr=">f8")],
        TypeError,
        f"{FIRST} {DTYPE_MESSAGE}>f8.",
    ),
    "two_bytes_of_anything": (
        lambda xp: [Shown(xp.ones(3, np.float16), typestr="<V2")],
        TypeError,
        f"{FIRST} {DTYPE_MESSAGE}<V2.",
    ),
    "masked": (
        lambda xp: [Shown(xp.ones(3), mask=Shown(xp.ones(3, bool)))],
        TypeError,
        f"{FIRST} must not be masked. Pass its data, or the filled array.",
    ),
    "stream_that_is_none": (
        lambda xp: [Shown(xp.ones(3), stream=0)],
        ValueError,
        f"{FIRST} names the stream 0, which __cuda_array_interface__ does not allow: 1 is the "
        "default stream, None is none.",
    ),
    "list": (
        lambda xp: [xp.ones(3), [1.0]],
        TypeError,
        f"{SECOND} must be a NumPy or CuPy array. Received: list.",
    ),
    "array": (
        lambda xp: xp.ones((2, 2)),
        TypeError,
        "The variables must be a list, a tuple or a dict of arrays. Received: ndarray.",
    ),
    "twice": (twice, ValueError, SHARE),
    "overlap": (overlapping, ValueError, SHARE),
}


@cases(BUILDS)
def test_build_refuses(xp, call, kind, message):
    optimizer = ravine.Nadam(use_ema=True)
    before = all_of(optimizer)
    variables = call(xp)
    with raises(kind, message):
        optimizer.build(variables)
    assert all_of(optimizer) == before
    assert not optimizer.built


def test_bfloat16_is_told_by_its_name(xp):
    w = xp.ones(3, ml_dtypes.bfloat16)
    optimizer = ravine.SGD(0.5)
    optimizer.apply([Shown(xp.ones(3, ml_dtypes.bfloat16))], [Shown(w)])
    assert w.get().tolist() == [0.5] * 3


def test_read_only_flag_of_dlpack_is_seen(xp, emulated):
    w = xp.ones(3)
    w._host.flags.writeable = False
    with raises(ValueError, READ_ONLY.format("0 ('variable_0')")):
        ravine.SGD().build([OnlyDLPack(w)])


def test_memory_that_is_not_that_of_a_gpu_is_refused(xp, emulated):
    w = xp.ones(3)
    emulated.register_memory(w.data.ptr, w.nbytes, emulated.NO_DEVICE)
    optimizer = ravine.SGD()
    with pytest.raises(ValueError, match="says that it is on a GPU, and its memory is not"):
        optimizer.build([w])
    assert not optimizer.built


# --- What is missing


def test_no_driver(xp, emulated):
    w, g = xp.ones(3), xp.ones(3)
    emulated.set_driver(False)
    optimizer = ravine.SGD(0.5)
    for call in (lambda: optimizer.build([w]), lambda: optimizer.apply([g], [w])):
        with raises(
            RuntimeError,
            f"{FIRST} is on a GPU. No NVIDIA driver was found. Install one (version 580 or newer), "
            "or pass NumPy arrays.",
        ):
            call()
        assert not optimizer.built
    on_cpu = np.ones(3)
    optimizer.apply([np.ones(3)], [on_cpu])  # without a GPU
    assert on_cpu.tolist() == [0.5] * 3


@pytest.mark.parametrize("show", [Shown, OnlyDLPack])
def test_no_cupy(xp, monkeypatch, show):
    w = show(xp.ones(3))
    monkeypatch.setitem(sys.modules, "cupy", None)
    optimizer = ravine.SGD(0.5, momentum=0.5)
    with raises(ImportError, NO_CUPY):
        optimizer.build([w])
    assert not optimizer.built
    optimizer.apply([np.ones(3)], [np.ones(3)])  # which needs no CuPy


def test_no_cupy_for_a_gradient(xp, monkeypatch):
    w, g = xp.ones(3), OnlyDLPack(xp.ones(3))
    optimizer = ravine.SGD(0.5)
    optimizer.build([w])
    before = all_of(optimizer, w)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cupy", None)
        with raises(ImportError, NO_CUPY):
            optimizer.apply([g])
    assert all_of(optimizer, w) == before


@pytest.mark.parametrize("count", [1, 2])
def test_no_memory_for_the_tables(xp, emulated, count):
    w, g = [xp.ones(3), xp.ones(3)], [xp.ones(3), xp.ones(3)]
    optimizer = ravine.Nadam(0.5, use_ema=True)
    before = all_of(optimizer, *w)
    for call in (lambda: optimizer.build(w), lambda: optimizer.apply(g, w)):
        emulated.fail_allocation_after(count)
        with pytest.raises(MemoryError, match=r"^The GPU has no \d+ bytes of memory left\."):
            call()
        assert not optimizer.built
        assert all_of(optimizer, *w) == before
    optimizer.apply(g, w)
    assert optimizer.iterations == 1


class OutOfMemoryError(MemoryError):
    """As CuPy's."""


def test_no_memory_for_the_state(xp, monkeypatch):
    w, g = [xp.ones(3)], [xp.ones(3)]
    optimizer = ravine.Nadam(0.5, use_ema=True)
    before = all_of(optimizer, *w)

    def fail(*_, **__):
        raise OutOfMemoryError("no bytes left")

    with monkeypatch.context() as patch:
        patch.setattr(xp, "zeros", fail)
        for call in (lambda: optimizer.build(w), lambda: optimizer.apply(g, w)):
            with pytest.raises(OutOfMemoryError, match="no bytes left"):
                call()
            assert not optimizer.built
            assert all_of(optimizer, *w) == before
    optimizer.apply(g, w)
    assert optimizer.iterations == 1


@pytest.mark.parametrize("wrong", [lambda xp: [xp.ones(2)], lambda xp: [np.ones(3)]])
def test_first_step_that_fails_leaves_nothing_built(xp, wrong):
    w = [xp.ones(3)]
    optimizer = ravine.Nadam(0.5)
    with pytest.raises(ValueError, match=r"^Gradient 0 "):
        optimizer.apply(wrong(xp), w)
    assert not optimizer.built
    on_cpu = np.ones(3)
    optimizer.apply([np.ones(3)], [on_cpu])
    assert optimizer.iterations == 1
