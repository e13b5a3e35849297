"""Our optimizers for PyTorch: their numbers, parameter groups, and what is refused."""

import numpy as np
import pytest
from checks import assert_same, raises

import ravine

torch = pytest.importorskip("torch", reason="needs PyTorch", exc_type=ImportError)
import ml_dtypes  # noqa: E402

import ravine.torch  # noqa: E402

RULES = {
    "SGD": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "RMSprop": ("RMSprop", {}),
    "centered RMSprop": ("RMSprop", {"momentum": 0.5, "centered": True}),
    "Adam": ("Adam", {}),
    "AMSGrad": ("Adam", {"amsgrad": True}),
    "AdamW": ("AdamW", {}),
    "Nadam": ("Nadam", {}),
}
OPTIONS = {
    "none": {},
    "clipnorm": {"clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.5},
    "accumulation": {"gradient_accumulation_steps": 2},
    "most": {
        "global_clipnorm": 1.0,
        "weight_decay": 0.1,
        "use_ema": True,
        "ema_overwrite_frequency": 3,
        "loss_scale_factor": 8.0,
    },
}
DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16}
DTYPES["bfloat16"] = ml_dtypes.bfloat16
SHAPES = [(5, 30), (7,), (), (2, 3, 4, 5), (0, 3)]
each_rule = pytest.mark.parametrize("rule", RULES)


def make(rule, params, lr=0.125, **options):
    name, arguments = RULES[rule]
    return getattr(ravine.torch, name)(params, lr, **arguments, **options)


def of_arrays(rule, learning_rate=0.125, **options):
    name, arguments = RULES[rule]
    return getattr(ravine, name)(learning_rate, **arguments, **options)


def parameter(value, dtype=torch.float32):
    return torch.nn.Parameter(torch.tensor(value, dtype=dtype))


def random(seed, dtype=torch.float32):
    numbers = np.random.default_rng(seed)
    return [torch.tensor(numbers.standard_normal(shape), dtype=dtype) for shape in SHAPES]


def parameters(dtype=torch.float32):
    return [torch.nn.Parameter(value) for value in random(0, dtype)]


def set_gradients(params, step):
    for p, grad in zip(params, random(100 + step), strict=True):
        p.grad = grad.to(p.dtype)


def trained(optimizer, params, steps):
    for step in steps:
        set_gradients(params, step)
        optimizer.step()
    return params


def array(tensor):
    value = tensor.detach()
    if value.dtype == torch.bfloat16:
        return value.float().numpy().astype(ml_dtypes.bfloat16)
    return value.numpy().copy()


def assert_equal(tensors, others):
    assert len(tensors) == len(others)
    for i, (tensor, other) in enumerate(zip(tensors, others, strict=True)):
        other = other if isinstance(other, np.ndarray) else array(other)
        assert_same(array(tensor), other, f"tensor {i}")


@each_rule
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", OPTIONS)
def test_bits_are_those_of_arrays(rule, dtype, option):
    params = parameters(getattr(torch, dtype))
    expected = [array(p) for p in params]
    twin = of_arrays(rule, **OPTIONS[option])
    addresses = [p.data_ptr() for p in params]
    trained(make(rule, params, **OPTIONS[option]), params, range(4))
    for step in range(4):
        twin.apply([g.numpy().astype(DTYPES[dtype]) for g in random(100 + step)], expected)
    assert_equal(params, expected)
    assert addresses == [p.data_ptr() for p in params]


def test_descent_with_a_constant_rate_is_that_of_pytorch():
    ours, theirs = parameters(), parameters()
    trained(ravine.torch.SGD(ours, 0.125, momentum=0.5), ours, range(5))
    trained(torch.optim.SGD(theirs, 0.125, momentum=0.5), theirs, range(5))
    for p, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, other, rtol=0, atol=1e-6)


@each_rule
def test_groups_have_options_of_their_own(rule):
    params = parameters()
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.5, "clipvalue": 0.25}]
    optimizer = make(rule, groups, weight_decay=0.1)
    expected = [array(p) for p in params]
    trained(optimizer, params, range(3))
    for chosen, options in (
        (slice(0, 2), {}),
        (slice(2, None), {"learning_rate": 0.5, "clipvalue": 0.25}),
    ):
        twin = of_arrays(rule, weight_decay=0.1, **options)
        for step in range(3):
            grads = [g.numpy() for g in random(100 + step)]
            twin.apply(grads[chosen], expected[chosen])
    assert_equal(params, expected)


def test_groups_may_be_added():
    first, second = parameter(1.0), parameter(1.0)
    optimizer = ravine.torch.SGD([first], 0.5)
    first.grad = torch.tensor(0.5)
    optimizer.step()
    optimizer.add_param_group({"params": [second], "lr": 1.0})
    second.grad = torch.tensor(0.5)
    optimizer.step()
    assert (first.item(), second.item()) == (0.5, 0.5)


def test_names_and_dicts_of_parameters():
    linear = torch.nn.Linear(2, 1)
    optimizer = ravine.torch.Adam(linear.named_parameters(), 0.1)
    linear(torch.ones(1, 2)).sum().backward()
    before = linear.weight.detach().clone()
    optimizer.step()
    assert (linear.weight != before).all()


def test_missing_gradient_leaves_its_parameter_alone():
    a, b = parameter(1.0), parameter(1.0)
    optimizer = ravine.torch.SGD([a, b], 1.0, momentum=0.5, weight_decay=0.5)
    optimizer.step()
    assert optimizer.param_groups[0]["iterations"] == 0
    a.grad = torch.tensor(0.25)
    optimizer.step()
    assert (a.item(), b.item()) == (0.25, 1)


def test_frozen_parameters_have_no_slots():
    a, b = parameter(1.0), parameter(1.0)
    b.requires_grad_(False)
    optimizer = ravine.torch.Adam([a, b], 0.5)
    for grads in ([1.0, None], [1.0, 1.0]):
        a.grad = torch.tensor(grads[0])
        if grads[1] is not None:
            assert list(optimizer.state) == [a]
            b.requires_grad_(True)
            b.grad = torch.tensor(grads[1])
        optimizer.step()
    assert b.item() < 1


def test_frozen_parameters_are_stepped_if_they_have_gradients():
    ours, theirs = parameter(1.0), parameter(1.0)
    for w, optimizer in (
        (ours, ravine.torch.SGD([ours], 0.5)),
        (theirs, torch.optim.SGD([theirs], 0.5)),
    ):
        w.requires_grad_(False)
        w.grad = torch.tensor(1.0)
        optimizer.step()
    assert ours.item() == theirs.item() == 0.5


def test_parameters_in_other_layouts():
    flat, laid_out = (torch.arange(48.0).reshape(2, 3, 2, 4) for _ in range(2))
    laid_out = laid_out.to(memory_format=torch.channels_last)
    params = [torch.nn.Parameter(flat), torch.nn.Parameter(laid_out)]
    optimizers = [ravine.torch.Nadam([p], 0.5, use_ema=True) for p in params]
    for step in range(3):
        grad = torch.sin(torch.arange(48.0) + step).reshape(2, 3, 2, 4)
        for p, optimizer in zip(params, optimizers, strict=True):
            p.grad = grad.clone()
            optimizer.step()
    assert params[1].is_contiguous(memory_format=torch.channels_last)
    assert_equal([params[1]], [params[0]])
    for kind in ("momentum", "velocity", "average"):
        slots = [o.state[p][kind] for o, p in zip(optimizers, params, strict=True)]
        assert_equal(slots[1:], slots[:1])
        assert slots[1].stride() == params[1].stride()


def test_autograd_sees_that_parameters_change():
    w = parameter([2.0])
    loss = (w**2).sum()
    w.grad = torch.ones(1)
    ravine.torch.SGD([w], 0.5).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# --- What is refused


def test_sparse_gradient():
    table = torch.nn.Embedding(3, 2, sparse=True)
    other = parameter(1.0)
    optimizer = ravine.torch.SGD([{"params": [other]}, {"params": table.parameters()}], 0.5)
    other.grad = torch.tensor(1.0)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError) as caught:
        optimizer.step()
    assert str(caught.value) == (
        "A gradient must be dense. Received: a tensor of layout torch.sparse_coo. Layers of "
        "embeddings make dense gradients with sparse=False."
    )
    assert other.item() == 1
    assert optimizer.param_groups[0]["iterations"] == 0


def test_unknown_argument():
    message = r"Unknown arguments \['betas'\]. Adam has \['params', 'lr', 'beta_1', .*steps'\]\.$"
    with pytest.raises(TypeError, match=message):
        ravine.torch.Adam([parameter(1.0)], betas=(0.9, 0.99))


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="beta_2 must be in"):
        ravine.torch.Adam([parameter(1.0)], beta_2=1.0)
    with pytest.raises(ValueError, match=r"lr must be a finite number. Received: nan."):
        ravine.torch.SGD([parameter(1.0)], float("nan"))
    optimizer = ravine.torch.SGD([parameter(1.0)])
    with pytest.raises(ValueError, match="clipvalue"):
        optimizer.add_param_group({"params": [parameter(2.0)], "clipvalue": -1.0})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": None}, "lr must be a number. Received: None."),
        ({"lr": "0.1"}, "lr must be a number. Received: '0.1'."),
        ({"clipnorm": "1"}, "clipnorm must be a number. Received: '1'."),
        ({"momentum": None}, "momentum must be a number. Received: None."),
        ({"nesterov": 3}, "nesterov must be True or False. Received: 3."),
        ({"use_ema": "yes"}, "use_ema must be True or False. Received: 'yes'."),
        (
            {"gradient_accumulation_steps": 1.5},
            "gradient_accumulation_steps must be a whole number. Received: 1.5.",
        ),
    ],
)
def test_options_of_other_types(options, message):
    with raises(ValueError, message):
        ravine.torch.SGD([parameter(1.0)], **options)
    optimizer = ravine.torch.SGD([parameter(1.0)])
    with raises(ValueError, message):
        optimizer.add_param_group({"params": [parameter(2.0)], **options})
    assert len(optimizer.param_groups) == 1


def test_numbers_may_be_tensors():
    w = parameter(1.0)
    numbers = {"lr": torch.tensor(0.5), "momentum": torch.tensor(0.5), "clipnorm": torch.tensor(2)}
    optimizer = ravine.torch.SGD([w], **numbers)
    for _ in range(2):
        w.grad = torch.ones(())
        optimizer.step()
    assert w.item() == 1 - 0.5 - 0.75


def test_parameter_of_another_type():
    w = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    w.grad = torch.ones(2, dtype=torch.complex64)
    with pytest.raises(TypeError, match="must have dtype float32, float64, float16 or bfloat16"):
        ravine.torch.SGD([w]).step()
