"""What PyTorch does around an optimizer: state, schedulers, closures, scaling, compilation."""

import copy
import io
import pickle

import numpy as np
import pytest
from test_torch_optimizers import (
    OPTIONS,
    assert_equal,
    each_rule,
    make,
    of_arrays,
    parameter,
    parameters,
    random,
    torch,
    trained,
)

import ravine.torch

MOST = OPTIONS["most"]


def slots(optimizer, params):
    return [slot for p in params for slot in optimizer.state[p].values()]


def loaded(optimizer, fresh):
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file))
    return fresh


@each_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [MOST, {"gradient_accumulation_steps": 3}])
def test_training_goes_on_from_a_file(rule, dtype, options):
    params = parameters(dtype)
    optimizer = make(rule, params, **options)
    trained(optimizer, params, range(4))
    others = [torch.nn.Parameter(p.detach().clone()) for p in params]
    again = loaded(optimizer, make(rule, others, lr=9.0))
    assert {slot.dtype for slot in slots(again, others)} <= {torch.float32}
    assert_equal(slots(again, others), slots(optimizer, params))
    trained(optimizer, params, range(4, 8))
    trained(again, others, range(4, 8))
    assert_equal(others, params)
    assert_equal(slots(again, others), slots(optimizer, params))


@each_rule
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_keep_everything(rule, copied):
    params = parameters()
    optimizer = make(rule, params, **MOST)
    trained(optimizer, params, range(2))
    again, others = copied((optimizer, params))
    trained(optimizer, params, range(2, 4))
    trained(again, others, range(2, 4))
    assert_equal(others, params)


def test_state_of_another_optimizer_is_refused():
    params = parameters()
    other = torch.optim.Adam(params)
    trained(other, params, range(1))
    optimizer = ravine.torch.Adam(params)
    with pytest.raises(ValueError, match="it is that of another optimizer than Adam of ravine"):
        optimizer.load_state_dict(other.state_dict())


NO_STATES = {
    "none": (None, ": NoneType"),
    "list": ([], ": list"),
    "empty": ({}, ", as 'state': NoneType"),
    "state": ({"state": [], "param_groups": []}, ", as 'state': list"),
    "groups": ({"state": {}, "param_groups": {}}, ", as 'param_groups': dict"),
    "slots": ({"state": {0: None}, "param_groups": []}, ", for one of the dicts: NoneType"),
    "group": ({"state": {}, "param_groups": [5]}, ", for one of the dicts: int"),
    "params": ({"state": {}, "param_groups": [{}]}, ", as 'params': NoneType"),
}


@pytest.mark.parametrize(("state", "received"), NO_STATES.values(), ids=NO_STATES)
def test_what_is_no_state_is_refused(state, received):
    optimizer = ravine.torch.Adam(parameters())
    with pytest.raises(TypeError) as caught:
        optimizer.load_state_dict(state)
    assert str(caught.value) == (
        "load_state_dict() takes what state_dict() of an optimizer returned, a dict with 'state', "
        "a dict of dicts, and 'param_groups', a list of dicts with 'params', a list. "
        f"Received{received}."
    )


def test_slot_that_is_no_tensor_is_refused():
    params = parameters()
    optimizer = ravine.torch.Adam(params)
    trained(optimizer, params, range(1))
    state = optimizer.state_dict()
    state["state"][0]["momentum"] = None
    with pytest.raises(TypeError) as caught:
        optimizer.load_state_dict(state)
    assert str(caught.value) == (
        "The slot 'momentum' of parameter 0 must be a tensor. Received: NoneType."
    )


def test_state_for_other_parameters_is_refused():
    w = parameter([1.0, 2.0])
    other = ravine.torch.Adam([w])
    w.grad = torch.ones(2)
    other.step()
    optimizer = ravine.torch.Adam([parameter(1.0)])
    with pytest.raises(ValueError, match="another shape than the parameter") as caught:
        optimizer.load_state_dict(other.state_dict())
    assert str(caught.value) == (
        "The slot 'momentum' of parameter 0 has another shape than the parameter. Expected: (). "
        "Received: (2,)."
    )
    assert optimizer.param_groups[0]["iterations"] == 0


def test_slots_may_be_replaced_and_parameters_moved():
    params, others = parameters(), parameters()
    optimizer, twin = (make("Nadam", p) for p in (params, others))
    for step in range(4):
        trained(optimizer, params, [step])
        trained(twin, others, [step])
        for p in params:
            p.data = p.data.clone()
            for kind, slot in optimizer.state[p].items():
                optimizer.state[p][kind] = slot.clone()
    assert_equal(params, others)


def test_parameters_may_lie_otherwise_in_the_same_place():
    w = parameter([[1.0, 2.0], [3.0, 4.0]])
    optimizer = ravine.torch.SGD([w], 1.0)
    w.grad = torch.ones(2, 2)
    optimizer.step()
    w.data = w.data.T
    w.grad = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    optimizer.step()
    assert w.tolist() == [[0, 1], [-1, 0]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_slots_follow_the_type_of_their_parameter(dtype):
    params, others = parameters(), parameters()
    optimizer, twin = (make("Nadam", p) for p in (params, others))
    trained(optimizer, params, range(2))
    trained(twin, others, range(2))
    before = slots(optimizer, params)
    for p in params:
        p.grad = None
        p.data = p.data.to(dtype)
    trained(optimizer, params, [2])
    expected = torch.float64 if dtype is torch.float64 else torch.float32
    assert {slot.dtype for slot in slots(optimizer, params)} == {expected}
    if dtype is torch.float64:
        trained(twin, others, [2])
        for p, other in zip(params, others, strict=True):
            torch.testing.assert_close(p.float(), other, rtol=1e-6, atol=1e-6)
    else:
        assert all(a is b for a, b in zip(slots(optimizer, params), before, strict=True))


def test_resized_parameter_has_to_be_started_anew():
    w = parameter([1.0, 2.0])
    optimizer = ravine.torch.SGD([w], 0.5, momentum=0.5)
    w.grad = torch.ones(2)
    optimizer.step()
    w.data = torch.ones(3)
    w.grad = torch.ones(3)
    with pytest.raises(ValueError, match="A parameter was resized") as caught:
        optimizer.step()
    assert str(caught.value) == (
        "A parameter was resized: its shape is (3,), that of its slot 'momentum' (2,). Delete its "
        "entry in `state`, to start it anew."
    )
    assert w.tolist() == [1, 1, 1]
    del optimizer.state[w]
    optimizer.step()
    assert w.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("reset", ["other", "clear", "entry", "slot"])
def test_state_may_be_reset(reset):
    w = parameter([0.0])
    optimizer = ravine.torch.SGD([w], 1.0, momentum=0.5)
    w.grad = torch.ones(1)
    optimizer.step()
    if reset == "other":
        optimizer.state = type(optimizer.state)(dict)
    elif reset == "clear":
        optimizer.state.clear()
    elif reset == "entry":
        optimizer.state[w] = {}
    else:
        optimizer.state[w]["momentum"] = torch.zeros(1)
    optimizer.step()
    assert w.item() == -2


def test_schedulers_set_the_rate():
    params = parameters()
    optimizer = make("Nadam", params)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    twin, expected = of_arrays("Nadam"), [p.detach().numpy().copy() for p in params]
    for step in range(5):
        trained(optimizer, params, [step])
        scheduler.step()
        twin.learning_rate = 0.125 * 0.5 ** (step // 2)
        twin.apply([g.numpy() for g in random(100 + step)], expected)
    assert_equal(params, expected)


def test_one_cycle_moves_rate_and_momentum():
    params, others = parameters(), parameters()
    optimizer, twin = make("momentum", params), make("momentum", others)
    cycle = torch.optim.lr_scheduler.OneCycleLR
    scheduler = cycle(optimizer, max_lr=0.25, total_steps=6)
    cycle(make("Adam", parameters()), max_lr=0.25, total_steps=6, cycle_momentum=False)
    seen = []
    for step in range(6):
        group = optimizer.param_groups[0]
        seen.append((group["lr"], group["momentum"]))
        twin.param_groups[0].update(lr=seen[-1][0], momentum=seen[-1][1])
        trained(optimizer, params, [step])
        trained(twin, others, [step])
        if step < 5:
            scheduler.step()
    assert len(set(seen)) == 6
    assert_equal(params, others)


def test_closures_are_called_with_gradients_on():
    w = parameter([1.0])

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    optimizer = ravine.torch.SGD([w], 0.25)
    with torch.no_grad():
        assert optimizer.step(closure).item() == 1
    assert w.item() == 0.5


def test_hooks_are_called():
    calls = []
    w = parameter(1.0)
    optimizer = ravine.torch.SGD([w])
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    w.grad = torch.tensor(1.0)
    optimizer.step()
    assert calls == ["before", "after"]


def test_gradient_scaler_leaves_steps_out():
    w = parameter([1.0])
    optimizer = ravine.torch.SGD([w], 1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for grad in (0.25, float("inf"), 0.25):
        scaler.scale(torch.ones(()))
        w.grad = torch.tensor([grad]) * scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
    assert w.item() == 0.5
    assert optimizer.param_groups[0]["iterations"] == 2


def test_averages():
    params = parameters()
    optimizer = make("SGD", params, use_ema=True, ema_momentum=0.5)
    with optimizer.averaged_weights():
        assert_equal(params, parameters())  # there are none yet
    trained(optimizer, params, range(3))
    kept = [p.detach().clone() for p in params]
    averages = [optimizer.state[p]["average"] for p in params]
    with optimizer.averaged_weights():
        assert_equal(params, averages)
    assert_equal(params, kept)
    optimizer.finalize_variable_values()
    assert_equal(params, averages)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of PyTorch
def test_compilation_leaves_the_step_out():
    w = parameter([1.0, 2.0])
    optimizer = ravine.torch.SGD([w], 0.25)

    @torch.compile(backend="eager")
    def step():
        optimizer.zero_grad()
        (w**2).sum().backward()
        optimizer.step()

    for _ in range(2):
        step()
    assert w.tolist() == [0.25, 0.5]
    torch._dynamo.reset()


def test_convolutional_network_learns_digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x[:1000] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(y[:1000])
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(288, 10),
    ).to(memory_format=torch.channels_last)
    optimizer = ravine.torch.Nadam(model.parameters(), 0.01, global_clipnorm=1.0, use_ema=True)
    for _ in range(3):
        for batch in np.array_split(np.arange(1000), 16):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    model.eval()
    assert (model(x).argmax(1) == y).float().mean() > 0.95
