"""A step of an optimizer whose rule is Python fails, or is interrupted: nothing has changed."""

import contextlib
import signal

import numpy as np
import pytest
from checks import DTYPES, bits, ignores_missing, normal, raises
from own_rules import OwnSGD, assert_equal, wrapped

import ravine


class Failing(ravine.Optimizer):
    """Momentum and a count of its own; fails at one variable in one step."""

    def __init__(self, fails_at=None, **kwargs):
        super().__init__(0.5, **kwargs)
        self.fails_at = fails_at

    def build(self, variables):
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")
        self.count = self.add_variable((), dtype="int64", name="count")

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        m = self.momentums[index]
        m *= 0.5
        m += gradient
        self.assign_sub(variable, learning_rate * m)
        self.assign_add(self.count, 1)
        gradient[...] = np.nan
        if (self.iterations, index) == self.fails_at:
            raise self.error

    error = RuntimeError("not this one")


EVERYTHING = {
    "weight_decay": 0.1,
    "clipnorm": 1.0,
    "use_ema": True,
    "ema_overwrite_frequency": 2,
    "gradient_accumulation_steps": 2,
}


def everything_of(optimizer, arrays):
    state = {key: bits(array) for key, array in optimizer.state_dict().items()}
    return optimizer.iterations, state, [bits(array) for array in arrays]


@ignores_missing
@pytest.mark.parametrize("error", [RuntimeError("an error"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("fails_at", [(1, 0), (1, 2)])
def test_step_that_fails_has_changed_nothing(fails_at, dynamic, error):
    random = np.random.default_rng(41)
    start = [normal(random, 3, dtype) for dtype in DTYPES]
    steps = [[normal(random, 3, np.float32) for _ in DTYPES] for _ in range(6)]
    steps[2][1] = steps[3][1] = steps[2][-1] = None
    (w, optimizer), (same, undisturbed) = [
        ([w.copy() for w in start], Failing(**EVERYTHING)) for _ in range(2)
    ]
    optimizer.error = error
    if dynamic:
        optimizer, undisturbed = map(ravine.LossScaleOptimizer, (optimizer, undisturbed))
    optimizer.build(w)
    undisturbed.build(same)
    for grads in steps[:3]:
        optimizer.apply(grads)
    before = everything_of(optimizer, w)
    getattr(optimizer, "inner_optimizer", optimizer).fails_at = fails_at
    for _ in range(2):
        with pytest.raises(type(error)):
            optimizer.apply(steps[3])
        assert everything_of(optimizer, w) == before
    getattr(optimizer, "inner_optimizer", optimizer).fails_at = None
    for grads in steps[3:]:
        optimizer.apply(grads)
    for grads in steps:
        undisturbed.apply(grads)
    assert everything_of(optimizer, w) == everything_of(undisturbed, same)


@pytest.mark.parametrize("gradient", [np.ones(2), np.ones(3, np.int32), None, np.ones(3)])
def test_gradient_that_is_refused_changes_nothing(gradient):
    w = np.ones(3)
    optimizer = Failing(use_ema=True)
    optimizer.build([w])
    optimizer.apply([np.ones(3)])
    if isinstance(gradient, np.ndarray) and gradient.dtype == np.float64 and gradient.size == 3:
        w.flags.writeable = False
    before = everything_of(optimizer, [w])
    with pytest.raises((ValueError, TypeError)):
        optimizer.apply([gradient])
    assert everything_of(optimizer, [w]) == before


def test_first_step_that_fails_leaves_the_optimizer_unbuilt():
    w = np.ones(3)
    optimizer = Failing(fails_at=(0, 0))
    with pytest.raises(RuntimeError, match="not this one"):
        optimizer.apply([np.ones(3)], [w])
    assert not optimizer.built
    assert w.tolist() == [1, 1, 1]


def test_step_within_a_step_is_refused():
    class Own(ravine.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            self.apply([gradient.copy()])

    w = np.ones(3)
    optimizer = Own(0.5)
    optimizer.build([w])
    message = r"^update_step\(\) must not call apply\(\): its own step is not done yet\.$"
    with pytest.raises(ValueError, match=message):
        optimizer.apply([np.ones(3)])
    assert optimizer.iterations == 0
    assert w.tolist() == [1, 1, 1]


def test_interrupt_leaves_whole_steps():
    random = np.random.default_rng(42)
    start = [normal(random, 30_000, np.float32) for _ in range(4)]
    grads = [normal(random, 30_000, np.float32) for _ in range(4)]
    w = [each.copy() for each in start]
    optimizer = OwnSGD(0.1, use_ema=True)
    optimizer.build(w)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for delay in np.linspace(1e-4, 4e-3, 40):
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, delay)  # it may ring at once
                while True:
                    optimizer.apply(grads)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    undisturbed = OwnSGD(0.1, use_ema=True)
    undisturbed.build(start)
    for _ in range(optimizer.iterations):
        undisturbed.apply(grads)
    assert optimizer.iterations > 0
    assert everything_of(optimizer, w) == everything_of(undisturbed, start)


FIRST = {
    "apply": lambda o: o.apply([np.ones(1)], [np.ones(1)]),
    "build": lambda o: o.build([np.ones(1)]),
    "setting": lambda o: setattr(o, "momentum", 0.5),
    "rate": lambda o: setattr(o, "learning_rate", 0.5),
    "exclusions": lambda o: o.exclude_from_weight_decay(var_names=["bias"]),
    "iterations": lambda o: o.iterations,
}


@pytest.mark.parametrize("use", FIRST.values(), ids=FIRST)
def test_use_before_the_constructor_of_the_base_says_so(use):
    class Own(ravine.SGD):
        def __init__(self):
            use(self)

    message = (
        "super().__init__() must be called in Own.__init__() before anything of the optimizer is "
        "set or used."
    )
    with raises(AttributeError, message):
        Own()


@pytest.mark.parametrize("rule", ["sgd_momentum", "nadam"])
def test_native_rule_in_a_step_that_fails_is_as_before(rule):
    native, own = wrapped(rule, use_ema=True)
    w, same = ([np.ones(3), np.ones(2, np.float16)] for _ in range(2))
    grads = [np.ones(3), np.ones(2)]
    own.apply(grads, w)
    before = everything_of(own, w)
    own.fails = True
    with pytest.raises(RuntimeError, match="not this one"):
        own.apply(grads)
    assert everything_of(own, w) == before
    own.fails = False
    own.apply(grads)
    for _ in range(2):
        native.apply(grads, same)
    assert_equal(own, dict(enumerate(w)), native, dict(enumerate(same)))


@pytest.mark.parametrize(
    "spoil", [lambda w: w.setflags(write=False), lambda w: w.resize(2, refcheck=False)]
)
def test_variable_that_was_spoilt_is_seen_before_update_step(spoil):
    calls = []

    class Own(ravine.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            calls.append(gradient)

    w = np.ones(3)
    optimizer = Own(0.5)
    optimizer.build([w])
    spoil(w)
    message = (
        "Variable 0 ('variable_0') was resized or made read-only after build(). Make a new "
        "optimizer."
    )
    with raises(ValueError, message):
        optimizer.apply([np.ones(3)])
    assert calls == []


def test_value_that_update_step_returns_is_refused():
    class Returning(OwnSGD):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, learning_rate)
            return variable

    w = [np.ones(3)]
    optimizer = Returning(0.5)
    optimizer.build(w)
    before = everything_of(optimizer, w)
    with raises(
        TypeError,
        "update_step() must change the variable in place, as assign_sub() does, and return "
        "nothing. Received: ndarray.",
    ):
        optimizer.apply([np.ones(3)])
    assert everything_of(optimizer, w) == before


SHARING = {
    "variable": (lambda o, w: w[0], "variable 0 ('variable_0')"),
    "part_of_variable": (
        lambda o, w: np.broadcast_to(w[1][2:3], (2, 3)),
        "variable 1 ('variable_1')",
    ),
    "slot": (lambda o, w: o.momentums[0], "the state of variable 0 ('variable_0')"),
    "average": (
        lambda o, w: o._built_state().averages[0],
        "the state of variable 0 ('variable_0')",
    ),
    "accumulator": (
        lambda o, w: o._built_state().accumulators[0],
        "the state of variable 0 ('variable_0')",
    ),
    "number": (
        lambda o, w: np.broadcast_to(o.number, (2, 3)),
        "the state of the optimizer",
    ),
}


class WithNumber(OwnSGD):
    def build(self, variables):
        super().build(variables)
        self.number = self.add_variable((), initializer=0.5)


@pytest.mark.parametrize(("shared", "which"), SHARING.values(), ids=SHARING)
@pytest.mark.parametrize("is_last_of_window", [False, True])
def test_gradient_that_shares_memory_is_refused(shared, which, is_last_of_window):
    w = [np.ones((2, 3), np.float32), np.arange(4.0)]
    optimizer = WithNumber(0.5, use_ema=True, gradient_accumulation_steps=2)
    good = [np.ones((2, 3)), np.ones(4)]
    for _ in range(2 + is_last_of_window):
        optimizer.apply(good, w)
    before = everything_of(optimizer, w)
    with raises(
        ValueError,
        f"Gradient 0 ('variable_0') shares memory with {which}, which the step writes. Pass a "
        "copy.",
    ):
        optimizer.apply([shared(optimizer, w), good[1]])
    assert everything_of(optimizer, w) == before
    optimizer.apply(good)


@pytest.mark.parametrize("index", [0, 1])
def test_gradient_that_shares_memory_is_refused_with_the_words_of_native_rules(index):
    def message(optimizer, gradient_of):
        w = [np.ones((2, 3), np.float32)]
        optimizer.build(w)
        with pytest.raises(ValueError, match="shares memory") as caught:
            optimizer.apply([gradient_of(optimizer, w)])
        assert w[0].tolist() == np.ones((2, 3)).tolist()
        return str(caught.value)

    sources = (lambda o, w: w[0], lambda o, w: o.variables[-1])
    native, own = (message(each, sources[index]) for each in wrapped("sgd_momentum"))
    assert native == own
