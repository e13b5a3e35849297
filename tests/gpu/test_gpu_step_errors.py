"""Messages of calls on an optimizer that was built on a GPU; they change nothing."""

import numpy as np
from checks import DTYPE_MESSAGE, NAMES, cases, raises
from gpu_checks import OnlyDLPack, Shown, all_of, on_gpu

import ravine


def built(xp):
    """Return an optimizer with all kinds of state, on its way, and its two variables."""
    w = [on_gpu(xp, np.linspace(1, 2, 6, dtype=np.float32).reshape(2, 3)), xp.zeros(4)]
    optimizer = ravine.Nadam(
        0.1, use_ema=True, gradient_accumulation_steps=2, weight_decay=0.1, clipnorm=1.0
    )
    optimizer.build(w)
    for _ in range(5):
        optimizer.apply([xp.ones((2, 3)), xp.ones(4)])
    return optimizer, w


def good(xp):
    return [xp.ones((2, 3), np.float32), xp.ones(4)]


def first(xp, gradient):
    return [gradient, good(xp)[1]]


class Versioned:
    def __cuda_stream__(self):
        return 1, 0


LOST = (
    f"This optimizer was built for {NAMES}. Variables are updated in place and known by their "
    "memory: pass the arrays given to build(), or make a new optimizer."
)
GAPS = (
    "On a GPU gradients must be aligned, without gaps and in the order in memory of their "
    "variables, and gradient 0 is not as variable 0 ('variable_0'). Pass a contiguous copy, as of "
    "cupy.ascontiguousarray()."
)
SHARED = "Gradient {} shares memory with {}, which the step writes. Pass a copy."
STREAM = (
    "stream must be a CUDA stream: the handle, an int of at least 0, or an object with "
    "__cuda_stream__ or ptr, as CuPy's. Received: {}."
)
CALLS = {
    "shape": (
        lambda xp, o, w: o.apply(first(xp, xp.ones((3, 2)))),
        ValueError,
        "Gradient 0 has shape (3, 2), variable 0 ('variable_0') has shape (2, 3). Pass the "
        "gradients in the order of the variables.",
    ),
    "numpy": (
        lambda xp, o, w: o.apply(first(xp, np.ones((2, 3)))),
        ValueError,
        "Gradient 0 is on the CPU, variable 0 ('variable_0') is on GPU 0. Pass gradients on the "
        "device of the variables.",
    ),
    "columns": (lambda xp, o, w: o.apply(first(xp, xp.ones((2, 6))[:, ::2])), ValueError, GAPS),
    "repeated": (
        lambda xp, o, w: o.apply(first(xp, Shown(xp.ones(3), shape=(2, 3), strides=(0, 8)))),
        ValueError,
        GAPS,
    ),
    "other_order": (
        lambda xp, o, w: o.apply(first(xp, on_gpu(xp, np.ones((2, 3), order="F")))),
        ValueError,
        GAPS,
    ),
    "odd_address": (
        lambda xp, o, w: o.apply(first(xp, shifted(xp.ones(8, np.float32)))),
        ValueError,
        GAPS,
    ),
    "integers": (
        lambda xp, o, w: o.apply(first(xp, xp.ones((2, 3), np.int32))),
        TypeError,
        f"Gradient 0 ('variable_0') {DTYPE_MESSAGE}<i4.",
    ),
    "complex": (
        lambda xp, o, w: o.apply(first(xp, xp.ones((2, 3), np.complex128))),
        TypeError,
        f"Gradient 0 ('variable_0') {DTYPE_MESSAGE}<c16.",
    ),
    "masked": (
        lambda xp, o, w: o.apply(first(xp, Shown(xp.ones((2, 3)), mask=Shown(xp.ones(6))))),
        TypeError,
        "Gradient 0 ('variable_0') must not be masked. Pass its data, or the filled array.",
    ),
    "stream_of_an_array": (
        lambda xp, o, w: o.apply(first(xp, Shown(xp.ones((2, 3)), stream=0))),
        ValueError,
        "Gradient 0 ('variable_0') names the stream 0, which __cuda_array_interface__ does not "
        "allow: 1 is the default stream, None is none.",
    ),
    "list": (
        lambda xp, o, w: o.apply(first(xp, [1.0])),
        TypeError,
        "Gradient 0 ('variable_0') must be a NumPy or CuPy array. Received: list.",
    ),
    "dlpack_on_the_cpu": (
        lambda xp, o, w: o.apply(first(xp, OnlyDLPack(xp.ones((2, 3)), device_type=1))),
        TypeError,
        "An array given through DLPack must be on a GPU. Received: OnlyDLPack. Pass a CuPy array.",
    ),
    "variable_as_gradient": (
        lambda xp, o, w: o.apply(first(xp, w[0])),
        ValueError,
        SHARED.format("0 ('variable_0')", "variable 0 ('variable_0')"),
    ),
    "slot_as_gradient": (
        lambda xp, o, w: o.apply([good(xp)[0], Shown(o.variables[-2])]),
        ValueError,
        SHARED.format("1 ('variable_1')", "the state of variable 1 ('variable_1')"),
    ),
    "none_at_all": (
        lambda xp, o, w: o.apply([None, None]),
        ValueError,
        "No gradient was given for any variable.",
    ),
    "array": (
        lambda xp, o, w: o.apply(good(xp)[0]),
        TypeError,
        "The gradients must be a list, a tuple or a dict. Received: ndarray.",
    ),
    "unknown_variable": (
        lambda xp, o, w: o.apply([xp.ones(4)], [w[1].copy()]),
        ValueError,
        f"Unknown variable: array of shape (4,) and dtype float64. {LOST}",
    ),
    "numpy_variable": (
        lambda xp, o, w: o.apply([xp.ones(4)], [np.zeros(4)]),
        ValueError,
        f"Unknown variable: array of shape (4,) and dtype float64. {LOST}",
    ),
    "exclude_array": (
        lambda xp, o, w: o.exclude_from_weight_decay(w[0]),
        ValueError,
        "Pass lists to exclude_from_weight_decay(), also of one element.",
    ),
    "stream_of_other_type": (
        lambda xp, o, w: o.apply(good(xp), stream="default"),
        TypeError,
        STREAM.format("'default'"),
    ),
    "stream_below_zero": (
        lambda xp, o, w: o.apply(good(xp), stream=-1),
        TypeError,
        STREAM.format("-1"),
    ),
    "stream_that_is_true": (
        lambda xp, o, w: o.apply(good(xp), stream=True),
        TypeError,
        STREAM.format("True"),
    ),
    "stream_of_another_protocol": (
        lambda xp, o, w: o.apply(good(xp), stream=Versioned()),
        ValueError,
        "The stream has version 1 of the protocol __cuda_stream__, and only version 0 is known. "
        "Pass its handle, an int.",
    ),
    "state_of_other_shape": (
        lambda xp, o, w: o.load_state_dict({**o.state_dict(), "velocity/variable_1": xp.ones(3)}),
        ValueError,
        "'velocity/variable_1' must have shape (4,) and dtype float64. Received: shape (3,), dtype "
        "float64. Nothing was loaded.",
    ),
    "state_of_other_type": (
        lambda xp, o, w: o.load_state_dict(
            {**o.state_dict(), "average/variable_0": w[0].view("i4")}
        ),
        ValueError,
        "'average/variable_0' must have shape (2, 3) and dtype float32. Received: shape (2, 3), "
        "dtype int32. Nothing was loaded.",
    ),
}


def shifted(array):
    return Shown(array, data=(array.data.ptr + 2, False), shape=(2, 3))


@cases(CALLS)
def test_call_is_refused_and_changes_nothing(xp, call, kind, message):
    optimizer, w = built(xp)
    before = all_of(optimizer, *w)
    with raises(kind, message):
        call(xp, optimizer, w)
    assert all_of(optimizer, *w) == before
    # And the next step is that of an optimizer that never heard of the call.
    other, same = built(xp)
    for each in (optimizer, other):
        each.apply(good(xp))
    assert all_of(optimizer, *w) == all_of(other, *same)


# --- On the CPU

NO_STREAM = "stream is for variables on a GPU, and these are NumPy arrays. Leave it out."
ON_THE_CPU = {
    "gradient": (
        lambda xp, o, w: o.apply([xp.ones(3)]),
        ValueError,
        "Gradient 0 is on GPU 0, variable 0 ('variable_0') is on the CPU. Pass gradients on the "
        "device of the variables.",
    ),
    "stream": (lambda xp, o, w: o.apply([np.ones(3)], stream=0), ValueError, NO_STREAM),
    "stream_of_pairs": (
        lambda xp, o, w: o.apply_gradients([(np.ones(3), w)], stream=xp.cuda.Stream.null),
        ValueError,
        NO_STREAM,
    ),
    "stream_of_minimize": (
        lambda xp, o, w: o.minimize(lambda: (0.0, [np.ones(3)]), [w], stream=1),
        ValueError,
        NO_STREAM,
    ),
}


@cases(ON_THE_CPU)
def test_call_on_the_cpu_is_refused_and_changes_nothing(xp, call, kind, message):
    w = np.ones(3)
    optimizer = ravine.Nadam(0.5)
    optimizer.build([w])
    before = all_of(optimizer, w)
    with raises(kind, message):
        call(xp, optimizer, w)
    assert all_of(optimizer, w) == before


def test_stream_of_a_first_step_on_the_cpu_is_refused_and_builds_nothing():
    w, optimizer = np.ones(3), ravine.SGD(0.5)
    with raises(ValueError, NO_STREAM):
        optimizer.apply([np.ones(3)], [w], stream=0)
    assert not optimizer.built
    optimizer.apply([], [w], stream=0)
    assert w.tolist() == [1] * 3
