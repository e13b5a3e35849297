"""Plans over tensors of PyTorch: which gradients they take, and what they watch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch", exc_type=ImportError)
ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")

from ravine import _core  # noqa: E402
from ravine._tensors import TensorPlan  # noqa: E402


class Derived(torch.Tensor):
    """Its memory might be anywhere."""


def descended(grad, plan_of=TensorPlan):
    """Return what is left of ones after a step of a plan: ones minus the gradient."""
    w = torch.ones((2, 3))
    plan = plan_of(["w"], [w], [])
    plan.run(_core.SGD(), _core.Options(), 1.0, plan.gradients([grad]))
    return w


GRADIENTS = {
    "plain": torch.arange(6.0).reshape(2, 3),
    "transposed": torch.arange(6.0).reshape(3, 2).T,
    "slice": torch.arange(24.0).reshape(4, 6)[1::2, ::2],
    "expanded": torch.tensor([[0.5], [0.25]]).expand(2, 3),
    "negated later": torch.complex(torch.ones(2, 3), torch.arange(6.0).reshape(2, 3)).conj().imag,
    "of a graph": torch.arange(6.0).reshape(2, 3).requires_grad_(),
    "parameter": torch.nn.Parameter(torch.arange(6.0).reshape(2, 3)),
    "of a derived class": torch.arange(6.0).reshape(2, 3).as_subclass(Derived),
}


@pytest.mark.parametrize("kind", GRADIENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_gradients_of_all_kinds(kind, dtype):
    grad = GRADIENTS[kind]
    if dtype is not torch.float32:
        grad = grad.to(dtype)
    assert torch.equal(descended(grad), 1 - GRADIENTS[kind].detach().as_subclass(torch.Tensor))


def test_gradients_without_axes_and_without_elements():
    variables = [torch.tensor(2.0), torch.ones((0, 3)), torch.ones(3)[:2]]
    plan = TensorPlan(["a", "b", "c"], variables, [])
    grads = [torch.tensor(0.5), torch.ones((0, 3)), torch.tensor([1.0, 2.0])]
    plan.run(_core.SGD(), _core.Options(), 1.0, plan.gradients(grads))
    assert [v.tolist() for v in variables] == [1.5, [], [0, -1]]


def test_gradients_may_be_missing_and_come_back():
    variables = [torch.ones(2), torch.ones(2)]
    plan = TensorPlan(["a", "b"], variables, [])
    for grads in ([torch.ones(2), None], [None, torch.ones(2)], [torch.ones(2)] * 2):
        plan.run(_core.SGD(), _core.Options(), 1.0, plan.gradients(grads))
    assert [v.tolist() for v in variables] == [[-1, -1], [-1, -1]]


def test_gradients_without_the_interface_of_dlpack():
    class Old:
        """A tensor of a version of PyTorch that lacks it."""

        def __init__(self, value):
            self.value = np.asarray(value, np.float32)

    w = np.ones(2, np.float32)
    plan = _core.Plan(["w"], [w], [], None, None)
    plan.take_tensors(_core.TensorType(Old, lambda grad: grad.value))
    plan.step(_core.SGD(), _core.Options(), 1.0, [Old([0.5, 0.25])], None)
    assert w.tolist() == [0.5, 0.75]


def test_interface_of_another_kind_is_refused():
    class Wrong:
        __dlpack_c_exchange_api__ = 3

    with pytest.raises(ValueError, match="PyCapsule"):
        _core.TensorType(Wrong, np.asarray)


def test_tensors_are_taken_only_if_that_was_said():
    plan = _core.Plan(["w"], [np.ones(2, np.float32)], [], None, None)
    with pytest.raises(TypeError) as caught:
        plan.step(_core.SGD(), _core.Options(), 1.0, [torch.ones(2)], None)
    assert str(caught.value) == "Gradient 0 ('w') must be a NumPy or CuPy array. Received: Tensor."


@pytest.mark.parametrize(
    ("grad", "message"),
    [
        (
            torch.ones((2, 3)).to_sparse(),
            "A gradient must be dense. Received: a tensor of layout torch.sparse_coo. Layers of "
            "embeddings make dense gradients with sparse=False.",
        ),
        (
            torch.ones((2, 3), device="meta"),
            "A tensor must be on the CPU or on a GPU of CUDA. Received: one on meta.",
        ),
        (
            torch.ones((2, 3), dtype=torch.int16),
            "Gradient 0 ('w') must have dtype float32, float64, float16 or bfloat16, in native "
            "byte order. Received: int16.",
        ),
    ],
    ids=["sparse", "meta", "integers"],
)
def test_gradients_that_are_refused(grad, message):
    with pytest.raises(TypeError) as caught:
        descended(grad)
    assert str(caught.value) == message


def share(tensor):
    tensor.share_memory_()


def move(tensor):
    tensor.data = tensor.data.clone()


def transpose(tensor):
    tensor.data = tensor.data.T


def shorten(tensor):
    tensor.data = tensor.data[:1]


def retype(tensor):
    tensor.data = tensor.data.view(torch.float32)


@pytest.mark.parametrize("change", [share, move, transpose, shorten, retype])
@pytest.mark.parametrize("interface", [True, False])
def test_moved_tensors_are_noticed(change, interface, monkeypatch):
    if not interface:
        lacking = _core.TensorType(object, np.asarray)
        monkeypatch.setattr(TensorPlan, "_type", lacking)
    tensors = [torch.zeros((2, 3), dtype=torch.float64) for _ in range(3)]
    plan = TensorPlan(["w"], tensors[:1], [tensors[1:2]])
    plan.watch(tensors[2])
    for tensor in tensors:
        assert plan.is_bound()
        change(tensor)
        assert not plan.is_bound()
        plan._layouts = plan._layouts_now()
