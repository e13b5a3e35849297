"""`ravine.torch` on a GPU: PyTorch's tensors there, or what stands for them on an emulated one."""

import os
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

import ravine
from ravine import _core

torch = pytest.importorskip("torch", reason="needs PyTorch", exc_type=ImportError)
import ravine.torch  # noqa: E402

emulator = getattr(_core, "emulator", None)
SHAPES = [(5, 300), (7,), (), (2, 3, 4, 5), (0, 3)]
RULES = {
    "SGD": {"momentum": 0.5, "nesterov": True},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "Nadam": {},
}
OPTIONS = [
    {},
    {"global_clipnorm": 1.0, "weight_decay": 0.1, "use_ema": True, "ema_overwrite_frequency": 3},
    {"gradient_accumulation_steps": 2},
]


class EmulatedTensor(torch.Tensor):
    """A tensor that says it is on a GPU. The emulator learns of its memory when that is asked."""

    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    kept = ()

    @property
    def __cuda_array_interface__(self):
        plain = self.as_subclass(torch.Tensor)
        address, nbytes = plain.data_ptr(), plain.numel() * plain.element_size()
        if nbytes and address not in EmulatedTensor.kept:
            emulator.register_memory(address, nbytes, 0)
            EmulatedTensor.kept[address] = plain
        kind = {torch.bfloat16: "<V2", torch.float16: "<f2", torch.float64: "<f8"}
        size = plain.element_size()
        return {
            "shape": tuple(plain.shape),
            "typestr": kind.get(plain.dtype, "<f4"),
            "strides": tuple(step * size for step in plain.stride()),
            "data": (address if nbytes else 0, False),
            "version": 2,
        }


@pytest.fixture
def there(cupy, own_stream, monkeypatch):
    """Return what puts a tensor on the GPU."""
    if emulator is None:
        if not torch.cuda.is_available():
            pytest.skip("this PyTorch has no GPU")
        yield lambda tensor: tensor.cuda()
        return
    stream = SimpleNamespace(cuda_stream=own_stream.ptr)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    EmulatedTensor.kept = {}
    yield lambda tensor: tensor.clone().as_subclass(EmulatedTensor)
    emulator.synchronize_all()
    for address in EmulatedTensor.kept:
        emulator.unregister_memory(address)


def on_cpu(tensor):
    if emulator:
        emulator.synchronize_all()
        return tensor.detach().as_subclass(torch.Tensor)
    return tensor.detach().cpu()


def random(seed, dtype):
    numbers = np.random.default_rng(seed)
    return [torch.tensor(numbers.standard_normal(shape), dtype=dtype) for shape in SHAPES]


def trained(rule, options, tensors, moved, dtype, steps=4):
    params = [torch.nn.Parameter(moved(tensor)) for tensor in tensors]
    optimizer = getattr(ravine.torch, rule)(params, 0.125, **RULES[rule], **options)
    addresses = [p.data_ptr() for p in params]
    kept = []
    for step in range(steps):
        grads = [moved(grad) for grad in random(100 + step, dtype)]
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad
        kept.append(grads)  # those of an emulated GPU may still be read
        optimizer.step()
    assert addresses == [p.data_ptr() for p in params]
    return params, optimizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("rule", RULES)
def test_bits_are_those_of_the_cpu(there, rule, options, dtype):
    start = random(0, dtype)
    params, optimizer = trained(rule, options, start, there, dtype)
    expected, twin = trained(rule, options, start, torch.clone, dtype)
    for p, other in zip(params, expected, strict=True):
        assert torch.equal(on_cpu(p), other.detach())
        for kind, slot in optimizer.state[p].items():
            assert slot.is_cuda
            assert torch.equal(on_cpu(slot), twin.state[other][kind])


def test_groups_under_one_norm(there):
    start, results = random(0, torch.float32), []
    for moved in (there, torch.clone):
        params = [torch.nn.Parameter(moved(tensor)) for tensor in start]
        groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.5, "weight_decay": None}]
        optimizer = ravine.torch.Nadam(groups, 0.25, global_clipnorm=0.5, weight_decay=0.1)
        kept = []
        for step in range(3):
            kept.append([moved(grad) for grad in random(100 + step, torch.float32)])
            for p, grad in zip(params, kept[-1], strict=True):
                p.grad = grad
            optimizer.step()
        results.append([on_cpu(p) for p in params])
    for p, expected in zip(*results, strict=True):
        assert torch.equal(p, expected)


def test_gradients_are_laid_out_as_their_variables(there):
    start = torch.arange(48.0).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last)
    results = []
    for moved in (there, lambda tensor: tensor.clone(memory_format=torch.preserve_format)):
        p = torch.nn.Parameter(moved(start))
        optimizer = ravine.torch.SGD([p], 0.5, momentum=0.5)
        for step in range(2):
            p.grad = moved(torch.sin(torch.arange(48.0) + step).reshape(2, 3, 2, 4))
            optimizer.step()
        results.append(on_cpu(p))
    assert torch.equal(*results)


def test_numbers_on_a_gpu_are_read_once(there, monkeypatch):
    pytest.importorskip("keras", reason="needs Keras", exc_type=ImportError)
    if os.environ.get("KERAS_BACKEND") != "torch":
        pytest.skip("set KERAS_BACKEND=torch, in a run of its own")
    scalar_of = import_module("ravine.keras._torch_values")._ScalarOnGpu
    tensor = there(torch.tensor(2, dtype=torch.int32))
    read, kind = [], type(tensor)
    item = kind.item
    monkeypatch.setattr(kind, "item", lambda self: read.append(1) or item(self))
    scalar = scalar_of(SimpleNamespace(value=tensor))
    assert (scalar.read(), scalar.read(), len(read)) == (2, 2, 1)
    scalar.write(3)
    assert scalar.read() == 3
    assert len(read) == (1 if emulator else 2)  # PyTorch's own are of one class on both
    tensor.add_(1)
    assert scalar.read() == 4
