"""Arrays of PyTorch and JAX on a GPU, where these libraries are."""

import os
import sys
import warnings
from importlib import import_module

import numpy as np
import pytest
from checks import assert_same
from gpu_checks import on_gpu

import ravine

SHAPES = [(5, 300), (7,), (), (0, 3)]
OPTIONS = {"global_clipnorm": 0.5, "weight_decay": 0.1, "use_ema": True}
STEPS = 4


def imported(name):
    """Import a library, which may warn as it comes; skip the test if it is missing."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(name)
    except ImportError as error:
        pytest.skip(f"{name} cannot be imported ({error})")


@pytest.fixture
def torch(cupy):
    found = imported("torch")
    if getattr(sys.modules["ravine._core"], "emulator", None) or not found.cuda.is_available():
        pytest.skip("this PyTorch has no GPU")
    return found


@pytest.fixture
def jax(cupy):
    found = imported("jax")
    if getattr(sys.modules["ravine._core"], "emulator", None) or found.default_backend() != "gpu":
        pytest.skip("this JAX has no GPU")
    return found


def numbers(seed):
    """Return an array of each shape, float32."""
    random = np.random.default_rng(seed)
    return [np.array(random.standard_normal(shape), np.float32) for shape in SHAPES]


def on_cpu(start, steps):
    """Train NumPy arrays; return them."""
    variables = [w.copy() for w in start]
    optimizer = ravine.Nadam(0.1, **OPTIONS)
    optimizer.build(variables)
    for grads in steps:
        optimizer.apply(grads)
    return variables


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_tensors_equal_numpy(torch, dtype):
    start = [w.astype(dtype) for w in numbers(0)]
    steps = [[g.astype(dtype) for g in numbers(1 + i)] for i in range(STEPS)]
    variables = [torch.from_numpy(w.copy()).cuda() for w in start]
    optimizer = ravine.Nadam(0.1, **OPTIONS)
    optimizer.build(variables)
    addresses = [w.data_ptr() for w in variables]
    for grads in steps:
        stream = torch.cuda.current_stream()
        optimizer.apply([torch.from_numpy(g).cuda() for g in grads], stream=stream)
    torch.cuda.synchronize()
    assert addresses == [w.data_ptr() for w in variables]
    for i, (w, expected) in enumerate(zip(variables, on_cpu(start, steps), strict=True)):
        assert_same(w.cpu().numpy(), expected, f"variable {i}")


def test_bfloat16_tensors_equal_numpy(torch):
    bfloat16 = imported("ml_dtypes").bfloat16
    start = [w.astype(bfloat16) for w in numbers(0)]
    steps = [[g.astype(bfloat16) for g in numbers(1 + i)] for i in range(STEPS)]

    def tensor(array):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).cuda()

    variables = [tensor(w.copy()) for w in start]
    optimizer = ravine.Nadam(0.1, **OPTIONS)
    optimizer.build(variables)
    for grads in steps:
        optimizer.apply([tensor(g) for g in grads], stream=torch.cuda.current_stream())
    torch.cuda.synchronize()
    for i, (w, expected) in enumerate(zip(variables, on_cpu(start, steps), strict=True)):
        assert_same(w.view(torch.int16).cpu().numpy().view(bfloat16), expected, f"variable {i}")


def test_gradients_of_autograd_on_a_stream_of_torch(torch):
    own = torch.cuda.Stream()
    start = [w for w in numbers(0) if w.size]
    variables = [torch.from_numpy(w.copy()).cuda().requires_grad_() for w in start]
    optimizer = ravine.SGD(0.25, momentum=0.5)
    optimizer.build([w.detach() for w in variables])
    own.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(own):
        for _ in range(STEPS):
            for w in variables:
                w.grad = None
            sum((w * w).sum() / 2 for w in variables).backward()
            optimizer.apply([w.grad for w in variables], stream=own)
    torch.cuda.synchronize()
    expected = [w.copy() for w in start]
    twin = ravine.SGD(0.25, momentum=0.5)
    twin.build(expected)
    for _ in range(STEPS):
        twin.apply([w.copy() for w in expected])  # the gradient of w * w / 2
    for w, other in zip(variables, expected, strict=True):
        assert_same(w.detach().cpu().numpy(), other)


def test_step_captured_by_torch(torch):
    variables = [torch.ones(1000, device="cuda")]
    grads = [torch.ones(1000, device="cuda")]
    optimizer = ravine.SGD(0.5)
    optimizer.build(variables)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        optimizer.apply(grads, stream=torch.cuda.current_stream())
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    assert (variables[0] == -0.5).all()
    assert optimizer.iterations == 3


@pytest.mark.parametrize("how", ["interface", "dlpack"])
def test_gradients_of_jax_equal_numpy(jax, xp, how):
    start, steps = numbers(0), [numbers(1 + i) for i in range(STEPS)]
    variables = [on_gpu(xp, w) for w in start]
    optimizer = ravine.Nadam(0.1, **OPTIONS)
    optimizer.build(variables)
    for grads in steps:
        there = [jax.block_until_ready(jax.numpy.asarray(g)) for g in grads]
        if how == "dlpack":
            there = [OnlyDLPackOf(g) if g.size else on_gpu(xp, np.asarray(g)) for g in there]
        optimizer.apply(there)
        variables[0].device.synchronize()  # JAX may use their memory again
    for i, (w, expected) in enumerate(zip(variables, on_cpu(start, steps), strict=True)):
        assert_same(w.get(), expected, f"variable {i}")


class OnlyDLPackOf:
    """An array whose library has no other way."""

    def __init__(self, array):
        self._array = array

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    def __dlpack__(self, **arguments):
        return self._array.__dlpack__(**arguments)
