"""Groups of parameters under a norm of all gradients: one step for all of them."""

import numpy as np
import pytest
from test_torch_optimizers import (
    array,
    assert_equal,
    each_rule,
    make,
    of_arrays,
    parameter,
    parameters,
    random,
    set_gradients,
    torch,
)

import ravine.torch

ALL = {"global_clipnorm": 0.5}


def grouped(params, *options):
    """Put the parameters in as many groups as there are options, in turn."""
    count = len(options)
    return [{"params": params[i::count], **each} for i, each in enumerate(options)]


@each_rule
@pytest.mark.parametrize(
    "second", [{}, {"lr": 0.5}, {"weight_decay": None}, {"weight_decay": 0.25, "lr": 0.25}]
)
def test_results_are_those_of_clipping_before_the_step(rule, second):
    ours, theirs = parameters(), parameters()
    options = {"weight_decay": 0.1, "use_ema": True, "ema_overwrite_frequency": 3}
    if rule == "AdamW" and second.get("weight_decay", 0) is None:
        second = {"weight_decay": 0.0}
    optimizer = make(rule, grouped(ours, {}, second), **options, **ALL)
    other = make(rule, grouped(theirs, {}, second), **options)
    for step in range(4):
        set_gradients(ours, step)
        optimizer.step()
        set_gradients(theirs, step)
        norm = np.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in theirs))
        for p in theirs:
            p.grad *= 0.5 / norm
        other.step()
    for p, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, expected, rtol=1e-5, atol=1e-6)
    assert [group["iterations"] for group in optimizer.param_groups] == [4, 4]


@each_rule
def test_bits_are_those_of_arrays_with_factors(rule):
    params = parameters()
    groups = grouped(params, {"lr": 0.25, "weight_decay": 0.5}, {"lr": 0.125, "weight_decay": 0.1})
    optimizer = make(rule, groups, **ALL)
    in_groups = params[::2] + params[1::2]
    expected = [array(p) for p in in_groups]
    twin = of_arrays(rule, 1.0, weight_decay=1.0, **ALL)
    twin.build(expected)
    for index, w in enumerate(expected):
        rate, decay = (0.25, 0.5) if index < len(params[::2]) else (0.125, 0.1)
        twin.set_multipliers([w], learning_rate=rate, weight_decay=decay)
    for step in range(4):
        set_gradients(params, step)
        optimizer.step()
        grads = [g.numpy() for g in random(100 + step)]
        twin.apply(grads[::2] + grads[1::2])
    assert_equal(in_groups, expected)


def test_schedulers_set_the_rate_of_each_group():
    ours, theirs = parameters(), parameters()
    optimizer = make("Nadam", grouped(ours, {}, {}), **ALL)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda t: 1.0, lambda t: 0.5**t])
    other = make("Nadam", grouped(theirs, {}, {}), **ALL)
    for step in range(4):
        set_gradients(ours, step)
        optimizer.step()
        scheduler.step()
        other.param_groups[1]["lr"] = 0.125 * 0.5**step
        set_gradients(theirs, step)
        other.step()
    assert_equal(ours, theirs)
    assert optimizer.param_groups[1]["lr"] == 0.125 / 16
    optimizer.param_groups[1]["lr"] = other.param_groups[1]["lr"] = 0.125  # all alike again
    for params, each in ((ours, optimizer), (theirs, other)):
        set_gradients(params, 9)
        each.step()
    assert_equal(ours, theirs)


def test_groups_that_are_added_count_like_the_others():
    first, second = parameter([3.0]), parameter([3.0])
    optimizer = ravine.torch.SGD([first], 1.0, global_clipnorm=5.0)
    first.grad = torch.tensor([1.0])
    optimizer.step()
    optimizer.add_param_group({"params": [second], "lr": 0.5})
    first.grad, second.grad = torch.tensor([30.0]), torch.tensor([40.0])
    optimizer.step()
    torch.testing.assert_close(first.detach(), torch.tensor([-1.0]))
    torch.testing.assert_close(second.detach(), torch.tensor([1.0]))
    assert [group["iterations"] for group in optimizer.param_groups] == [2, 2]


MESSAGE = (
    "With global_clipnorm, the norm of all gradients, groups may differ in lr and weight_decay "
    "alone. Group 0 has {0}, group 1 has {1}. Or clip with torch.nn.utils.clip_grad_norm_ instead."
)


@pytest.mark.parametrize(
    ("second", "texts"),
    [
        ({"momentum": 0.5}, ("momentum 0.0", "0.5")),
        ({"global_clipnorm": None}, ("global_clipnorm 0.5", "None")),
        ({"use_ema": True}, ("use_ema False", "True")),
    ],
)
def test_groups_that_differ_otherwise_are_refused(second, texts):
    a, b = parameter([1.0]), parameter([1.0])
    message = MESSAGE.format(*texts)
    with pytest.raises(ValueError, match="With global_clipnorm") as caught:
        ravine.torch.SGD([{"params": [a]}, {"params": [b], **second}], **ALL)
    assert str(caught.value) == message
    optimizer = ravine.torch.SGD([a], **ALL)
    with pytest.raises(ValueError, match="With global_clipnorm") as caught:
        optimizer.add_param_group({"params": [b], **second})
    assert str(caught.value) == message
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [b]})
    optimizer.param_groups[1].update(second)
    a.grad, b.grad = torch.ones(1), torch.ones(1)
    with pytest.raises(ValueError, match="With global_clipnorm") as caught:
        optimizer.step()
    assert str(caught.value) == message
    assert (a.item(), b.item()) == (1, 1)
