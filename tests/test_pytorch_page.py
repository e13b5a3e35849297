"""What `docs/pytorch.md` says of PyTorch, beside PyTorch itself."""

import numpy as np
import pytest
from pages import Program, blocks

import ravine

torch = pytest.importorskip("torch", reason="compares with PyTorch")
STEPS = 30
RATES = np.repeat([0.02, 0.01, 0.005], 10)


@pytest.fixture
def page():
    """Return what the page defines."""
    program = Program("docs/pytorch.md")
    for block in blocks(program.page):
        program.run(block)
    return program.names


@pytest.fixture
def gradients():
    return np.random.default_rng(0).normal(size=(STEPS, 5))


def train(optimizer, gradients, rates=None, **options):
    """Return what an optimizer of PyTorch makes of ones."""
    w = torch.ones(5, dtype=torch.float64, requires_grad=True)
    made = optimizer([w], **options)
    for step, g in enumerate(gradients):
        if rates is not None:
            made.param_groups[0]["lr"] = rates[step]
        w.grad = torch.from_numpy(g)
        made.step()
    return w.detach().numpy()


@pytest.mark.parametrize("decay", [4e-3, 1.0])
def test_nadam(decay, page, gradients):
    expected = train(torch.optim.NAdam, gradients, momentum_decay=decay)
    actual = page["torch_nadam"](np.ones(5), gradients, momentum_decay=decay)
    # PyTorch keeps the product in float32.
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop(momentum, centered, page, gradients):
    options = {"momentum": momentum, "centered": centered}
    expected = train(torch.optim.RMSprop, gradients, RATES, **options)
    actual = page["torch_rmsprop"](np.ones(5), gradients, lr=RATES, **options)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_adam(eps, page, gradients):
    expected = train(torch.optim.Adam, gradients, eps=eps)
    actual = page["torch_adam"](np.ones(5), gradients, eps=eps)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_adam_adds_its_decay_to_the_gradient(gradients):
    expected = train(torch.optim.Adam, gradients, weight_decay=0.1)
    w, optimizer = np.ones(5), ravine.Adam(epsilon=1e-8)
    for g in gradients:
        optimizer.apply([g + 0.1 * w], [w])
    np.testing.assert_allclose(w, expected, rtol=1e-6)


def test_adamw_decays_as_ours(gradients):
    expected = train(torch.optim.AdamW, gradients, weight_decay=0.1)
    w, optimizer = np.ones(5), ravine.AdamW(weight_decay=0.1, epsilon=1e-8)
    for g in gradients:
        optimizer.apply([g], [w])
    np.testing.assert_allclose(w, expected, rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_a_constant_rate_is_ours(nesterov, gradients):
    options = {"momentum": 0.9, "nesterov": nesterov}
    expected = train(torch.optim.SGD, gradients, lr=0.01, **options)
    w, optimizer = np.ones(5), ravine.SGD(0.01, **options)
    for g in gradients:
        optimizer.apply([g], [w])
    np.testing.assert_allclose(w, expected, rtol=1e-12)


def test_defaults_are_those_of_the_table():
    w = [torch.ones(1, requires_grad=True)]
    assert torch.optim.NAdam(w).defaults["lr"] == 2e-3
    assert torch.optim.NAdam(w).defaults["eps"] == 1e-8
    assert torch.optim.NAdam(w).defaults["momentum_decay"] == 4e-3
    rmsprop = torch.optim.RMSprop(w).defaults
    assert (rmsprop["lr"], rmsprop["alpha"], rmsprop["eps"]) == (0.01, 0.99, 1e-8)
    assert torch.optim.AdamW(w).defaults["weight_decay"] == 0.01
