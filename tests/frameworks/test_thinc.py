"""Our optimizers in Thinc: from configurations, on a network, beside Thinc's own."""

import numpy as np
import pytest
from checks import assert_same, raises

thinc = pytest.importorskip("thinc.api", reason="needs Thinc", exc_type=ImportError)

import ravine  # noqa: E402
import ravine.thinc  # noqa: E402

NAMES = ("SGD", "RMSprop", "Adam", "AdamW", "Nadam")
each_name = pytest.mark.parametrize("name", NAMES)
KEY = (0, "W")


def resolved(text):
    return thinc.registry.resolve(thinc.Config().from_str(text))


def arrays():
    random = np.random.default_rng(0)
    return [random.standard_normal((5, 7)).astype("float32") for _ in range(2)]


def stepped(optimizer, steps=3):
    w, g = arrays()
    for step in range(steps):
        w, _ = optimizer(KEY, w, g * np.float32(1 + step))
        optimizer.step_schedules()
    return w


@each_name
def test_config_makes_an_optimizer(name):
    found = resolved(f'[optimizer]\n@optimizers = "ravine.{name}.v1"\n')["optimizer"]
    assert isinstance(found, ravine.thinc.Optimizer)
    assert isinstance(found, thinc.Optimizer)
    assert_same(stepped(found), stepped(getattr(ravine.thinc, name)()))


@each_name
def test_config_of_thinc_changes_in_one_line(name):
    text = """
    [optimizer]
    @optimizers = "{}.v1"
    L2 = 0.01
    L2_is_weight_decay = true
    grad_clip = 1.0
    use_averages = false
    {}

    [optimizer.learn_rate]
    @schedules = "warmup_linear.v1"
    initial_rate = 0.01
    warmup_steps = 2
    total_steps = 20
    """
    adam = "beta1 = 0.9\nbeta2 = 0.999\neps = 0.00000001"
    numbers = adam if "dam" in name else ""
    lines = (line.strip() for line in text.format(f"ravine.{name}", numbers).splitlines())
    found = resolved("\n".join(lines))["optimizer"]
    assert found.averages is None
    w = stepped(found)
    assert (w != arrays()[0]).all()


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("SGD", {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "nesterov": True}),
        ("RMSprop", {"rho": 0.8, "eps": 1e-3}, {"rho": 0.8, "epsilon": 1e-3}),
        ("RMSprop", {"momentum": 0.5, "centered": True}, {"momentum": 0.5, "centered": True}),
        ("Adam", {"beta1": 0.8, "amsgrad": True}, {"beta_1": 0.8, "amsgrad": True}),
        ("AdamW", {"beta2": 0.99}, {"beta_2": 0.99}),
        ("Nadam", {"eps": 1e-3}, {"epsilon": 1e-3}),
    ],
)
def test_bits_are_those_of_arrays(name, ours, theirs):
    optimizer = getattr(ravine.thinc, name)(0.125, grad_clip=0.5, use_averages=False, **ours)
    twin = getattr(ravine, name)(0.125, clipnorm=0.5, **theirs)
    w, g = arrays()
    for step in range(3):
        twin.apply([g * np.float32(1 + step)], [w])
    assert_same(stepped(optimizer), w)


def test_adam_is_near_that_of_thinc():
    options = {"L2": 0.0, "grad_clip": 1.0, "eps": 1e-8, "use_averages": False}
    ours, theirs = (stepped(x.Adam(0.01, **options)) for x in (ravine.thinc, thinc))
    np.testing.assert_allclose(ours, theirs, 0, 1e-6)


def test_step_is_in_place_and_clears_the_gradient():
    optimizer = ravine.thinc.SGD(0.5, grad_clip=0)
    w, g = np.array([1.0, 2.0], "float32"), np.array([1.0, np.nan], "float32")
    result = optimizer(KEY, w, g)
    assert result[0] is w
    assert result[1] is g
    assert w[0] == 0.5
    assert g.tolist() == [0, 0]


def test_rate_is_scaled():
    optimizer = ravine.thinc.SGD(0.5, grad_clip=0)
    w, g = np.ones(1, "float32"), np.ones(1, "float32")
    optimizer(KEY, w, g, lr_scale=0.5)
    assert w[0] == 0.75


def test_numbers_follow_their_schedules():
    optimizer = ravine.thinc.SGD([0.5, 0.25], L2=[0.0, 0.5], grad_clip=[4.0, 0.5])
    w = np.ones(1, "float32")
    for expected in (0.5, 0.3125):
        optimizer(KEY, w, np.ones(1, "float32"))
        optimizer.step_schedules()
        assert w[0] == expected


def test_decay_that_is_none_is_added_to_the_gradient():
    optimizer = ravine.thinc.SGD(0.5, L2=0.25, L2_is_weight_decay=False, grad_clip=0)
    w = np.full(1, 2.0, "float32")
    optimizer(KEY, w, np.ones(1, "float32"))
    assert w[0] == 2 - 0.5 * 1.5


def test_averages_have_the_decay_of_thinc():
    optimizer = ravine.thinc.SGD(0.5, grad_clip=0)
    w, average = np.ones(1, "float32"), None
    for t in range(1, 5):
        optimizer(KEY, w, np.ones(1, "float32"))
        decay = (1 + t) / (10 + t)
        average = w[0] if average is None else decay * average + (1 - decay) * w[0]
    np.testing.assert_allclose(optimizer.averages[KEY], average, 1e-6)


def test_each_parameter_has_its_own_state():
    optimizer, other = ravine.thinc.Nadam(0.1), ravine.thinc.Nadam(0.1)
    a, b, c = (np.ones(2, "float32") for _ in range(3))
    for _ in range(2):
        optimizer((0, "W"), a, np.ones(2, "float32"))
    optimizer((1, "W"), b, np.ones(2, "float32"))
    other((0, "W"), c, np.ones(2, "float32"))
    assert_same(b, c)
    assert (a != b).all()


def test_parameters_may_be_replaced():
    optimizer, twin = ravine.thinc.Nadam(0.1), ravine.thinc.Nadam(0.1)
    w = v = np.ones(2, "float32")
    for _ in range(3):
        w, _ = optimizer(KEY, w.copy(), np.ones(2, "float32"))
    v = v.copy()
    for _ in range(3):
        twin(KEY, v, np.ones(2, "float32"))
    assert_same(w, v)
    assert_same(optimizer.averages[KEY], twin.averages[KEY])


@pytest.mark.parametrize(
    ("other", "received"),
    [
        (np.ones((4, 3), "float32"), "array of shape (4, 3) and dtype float32"),
        (np.ones((2, 3)), "array of shape (2, 3) and dtype float64"),
    ],
)
def test_parameters_may_not_be_replaced_by_other_ones(other, received):
    model, optimizer = thinc.Linear(2, 3).initialize(), ravine.thinc.Nadam(0.1)
    key, w = (model.id, "W"), model.get_param("W")

    def step(param):
        model.set_param("W", param)
        model.set_grad("W", np.ones_like(param))
        model.finish_update(optimizer)

    step(w)
    before = w.copy(), optimizer.averages[key].copy()
    with raises(
        ValueError,
        f"Parameter {key} was an array of shape (2, 3) and dtype float32 when it was first "
        f"updated. Received: {received}. What is kept for it has that shape and type: make a new "
        "optimizer.",
    ):
        step(other)
    assert (other == 1).all()
    assert_same(w, before[0])
    assert_same(optimizer.averages[key], before[1])
    step(w)
    assert optimizer.nr_update[key] == 2


def test_empty_gradient_is_passed_by():
    optimizer = ravine.thinc.SGD()
    empty = np.zeros((0, 3), "float32")
    assert optimizer(KEY, empty, empty) == (empty, empty)
    assert optimizer.nr_update[KEY] == 0


def test_failed_step_changes_nothing():
    optimizer = ravine.thinc.Nadam()
    w, g = np.ones(2, "float32"), np.ones(3, "float32")
    with pytest.raises(ValueError, match=r"has shape \(3,\), variable 0"):
        optimizer(KEY, w, g)
    assert w.tolist() == [1, 1]
    assert g.tolist() == [1, 1, 1]
    assert optimizer.nr_update[KEY] == 0


@each_name
def test_network_learns_digits(name):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x[:1000] / 16).astype("float32"), thinc.to_categorical(y[:1000])
    thinc.fix_random_seed(0)
    model = thinc.chain(thinc.Relu(64), thinc.Softmax()).initialize(x[:5], y[:5])
    optimizer = getattr(ravine.thinc, name)(*([0.1] if name == "SGD" else [0.01]))
    for _ in range(8):
        for batch, labels in thinc.get_current_ops().multibatch(64, x, y, shuffle=True):
            guess, backprop = model.begin_update(batch)
            backprop((guess - labels) / len(labels))
            model.finish_update(optimizer)
            optimizer.step_schedules()
    with model.use_params(optimizer.averages):
        assert (model.predict(x).argmax(1) == y.argmax(1)).mean() > 0.9
