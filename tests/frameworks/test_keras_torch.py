"""Our optimizers on variables of Keras that are tensors of PyTorch."""

import numpy as np
import pytest
from keras_checks import (
    BACKEND,
    assert_equal,
    compiled,
    each_rule,
    fit,
    keras,
    make,
    ravine,
    refused,
    tensor,
    variable,
)

if BACKEND != "torch":
    pytest.skip("set KERAS_BACKEND=torch, in a run of its own", allow_module_level=True)
import torch


def test_gradients_may_have_strides():
    w = variable(np.ones((2, 3)))
    ravine.keras.SGD(1.0).apply([torch.arange(6.0).reshape(3, 2).T], [w])
    assert w.numpy().tolist() == [[1, -1, -3], [0, -2, -4]]


def test_autograd_sees_that_variables_change():
    w = variable(2.0)
    loss = w.value**2
    ravine.keras.SGD(0.5).apply([tensor(1.0)], [w])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_variables_may_be_moved_in_memory():
    w = variable([1, 2])
    optimizer = ravine.keras.SGD(1.0)
    optimizer.apply([tensor([0.5, 0.5])], [w])
    w.value.data = w.value.data.clone()
    optimizer.apply([tensor([0.5, 0.5])], [w])
    assert w.numpy().tolist() == [0, 1]


def test_other_layouts_keep_the_slots():
    w, twin = variable(np.ones((1, 2, 2, 2))), variable(np.ones((1, 2, 2, 2)))
    optimizers = [ravine.keras.SGD(0.5, momentum=0.5) for _ in range(2)]
    grad = torch.arange(8.0).reshape(1, 2, 2, 2)
    for _ in range(3):
        for v, optimizer in zip((w, twin), optimizers, strict=True):
            optimizer.apply([grad], [v])
        w.value.data = w.value.data.to(memory_format=torch.channels_last)
    assert_equal([w], [twin])
    assert_equal(optimizers[0].momentums, optimizers[1].momentums)


def test_sparse_gradient():
    refused(
        ravine.keras.SGD(),
        [torch.eye(2).to_sparse()],
        [variable(np.eye(2))],
        TypeError,
        "A gradient must be dense. Received: a tensor of layout torch.sparse_coo. Layers of "
        "embeddings make dense gradients with sparse=False.",
    )


def test_tensor_on_another_device():
    refused(
        ravine.keras.SGD(),
        [torch.ones(2, device="meta")],
        [variable([1, 2])],
        TypeError,
        "A tensor must be on the CPU or on a GPU of CUDA. Received: one on meta.",
    )


@each_rule
def test_variables_stay_where_they_are(rule):
    model = compiled(make(ravine.keras, rule, use_ema=True))
    model.optimizer.build(model.trainable_variables)
    before = [v.value for v in [*model.weights, *model.optimizer.variables]]
    addresses = [tensor.data_ptr() for tensor in before]
    fit(model, epochs=1)
    after = [v.value for v in [*model.weights, *model.optimizer.variables]]
    assert all(x is y for x, y in zip(before, after, strict=True))
    assert addresses == [tensor.data_ptr() for tensor in after]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of PyTorch
def test_compilation_leaves_the_step_out():
    batch = tensor([[1.0, 2.0]]), tensor([[0.5]])
    models = [keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    steps = []
    for model in models:
        model.compile(ravine.keras.Nadam(), "mse")
        model.train_on_batch(*batch)  # builds
        steps.append(model.train_step)
    # The tracer of PyTorch, without the compiler behind it.
    steps[1] = torch.compile(steps[1], backend="eager")
    for step in steps:
        for _ in range(3):
            step(batch)
    assert_equal(models[0].weights, models[1].weights)
    assert int(models[1].optimizer.iterations) == 4
    torch._dynamo.reset()


def test_loop_of_ones_own():
    w = variable([3.0, -2.0])
    optimizer = ravine.keras.Adam(0.1)
    for _ in range(100):
        loss = (w.value**2).sum()
        loss.backward()
        optimizer.apply([w.value.grad], [w])
        w.value.grad = None
    assert abs(w.numpy()).max() < 0.1


def test_constraints_are_in_place():
    w = variable([0.5, -2.0])
    w.constraint = keras.constraints.NonNeg()
    address = w.value.data_ptr()
    ravine.keras.SGD(1.0).apply([tensor([-3.0, 0.25])], [w])
    assert w.numpy().tolist() == [3.5, 0]
    assert w.value.data_ptr() == address
