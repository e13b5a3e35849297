"""Optimizers whose rule is Python, on a GPU: the bits of the CPU, on the stream of the step."""

import numpy as np
import pytest
from checks import DTYPES, assert_same, each_rule, ignores_missing, normal, raises
from gpu_checks import OnlyDLPack, Shown, Twins, all_of, captured, difference, gradients, on_gpu
from own_rules import OWN_RULES, OwnSGD, native_and_own, state_of, wrapped

import ravine

OPTIONS = {
    "plain": {},
    "norms": {"global_clipnorm": 1.0, "weight_decay": 0.1},
    "averages": {"use_ema": True, "ema_overwrite_frequency": 2, "clipvalue": 0.5},
    "windows": {"gradient_accumulation_steps": 3, "clipnorm": 0.5, "use_ema": True},
}


def model(random):
    shapes = [(7,), (3, 4), (), (0, 2), (4100,)]
    return [np.asarray(normal(random, shape, dtype)) for dtype in DTYPES for shape in shapes]


@ignores_missing
@pytest.mark.parametrize("scale", [None, 64.0])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("rule", OWN_RULES)
def test_bits_are_those_of_the_cpu_and_of_the_native_rule(xp, schedule, rule, options, scale):
    random = np.random.default_rng(140)
    variables = model(random)
    copies = [w.copy() for w in variables]
    native, _ = native_and_own(rule, scale, **options)
    native.build(copies)
    pair = Twins(xp, lambda: native_and_own(rule, scale, **options)[1], variables)
    for step in range(7):
        grads = gradients(random, variables, DTYPES, scale or 1.0)
        if step in (1, 2):
            grads[1] = None
        if scale and step in (2, 5):
            grads[4][step] = np.inf
        with np.errstate(all="ignore"):
            pair.apply(grads)
        native.apply(grads)
    pair.assert_equal()
    for w, expected in zip(pair.on_cpu, copies, strict=True):
        assert_same(w, expected)
    actual = state_of(pair.gpu)
    for key, expected in state_of(native).items():
        assert_same(actual[key], expected, key)


@pytest.mark.parametrize("scale", [None, 64.0])
@each_rule
def test_native_rule_can_be_called(xp, schedule, rule, scale):
    options = {"clipnorm": 0.5, "use_ema": True, "gradient_accumulation_steps": 2}

    def make(index):
        optimizer = wrapped(rule, **options)[index]
        return ravine.LossScaleOptimizer(optimizer, scale, 2) if scale else optimizer

    random = np.random.default_rng(146)
    variables = model(random)
    copies = [w.copy() for w in variables]
    expected = make(0)
    expected.build(copies)
    pair = Twins(xp, lambda: make(1), variables)
    streams = [xp.cuda.Stream(non_blocking=True) for _ in range(2)]
    for step in range(5):
        grads = gradients(random, variables, DTYPES)
        if scale and step == 2:
            grads[4][step] = np.inf
        there = pair.put(grads)
        xp.cuda.get_current_stream().synchronize()
        with np.errstate(all="ignore"):
            pair.cpu.apply(grads)
            pair.gpu.apply(there, stream=streams[step % 2])
        expected.apply(grads)
    pair.assert_equal()
    for w, same in zip(pair.on_cpu, copies, strict=True):
        assert_same(w, same)


def own_sgd(**options):
    return lambda: OwnSGD(0.1, **options)


# --- Streams


def test_update_step_runs_on_the_stream_of_the_step(xp, schedule):
    seen = []

    class Own(OwnSGD):
        def update_step(self, gradient, variable, learning_rate):
            if not isinstance(gradient, np.ndarray):
                seen.append(xp.cuda.get_current_stream().ptr)
            super().update_step(gradient, variable, learning_rate)

    random = np.random.default_rng(141)
    variables = [normal(random, 5000, np.float32), normal(random, 3, np.float16)]
    pair = Twins(xp, lambda: Own(0.1, use_ema=True, gradient_accumulation_steps=2), variables)
    streams = [xp.cuda.Stream(non_blocking=True) for _ in range(3)]
    grads = [gradients(random, variables) for _ in range(12)]
    there = [pair.put(each) for each in grads]
    xp.cuda.get_current_stream().synchronize()
    for step in range(12):
        # Each step on another stream than the last, also within a window.
        pair.gpu.apply(there[step], stream=streams[step % 3])
        pair.cpu.apply(grads[step])
    pair.assert_equal()
    assert seen == [streams[step % 3].ptr for step in range(1, 12, 2) for _ in variables]
    assert xp.cuda.get_current_stream().ptr not in seen


@pytest.mark.filterwarnings("ignore:ExternalStream is deprecated")
def test_stream_where_cupy_has_only_the_older_class(xp, emulated, monkeypatch):
    monkeypatch.delattr(xp.cuda.Stream, "from_external")
    random = np.random.default_rng(143)
    variables = [normal(random, 50, np.float32)]
    pair, stream = Twins(xp, own_sgd(), variables), xp.cuda.Stream(non_blocking=True)
    grads = gradients(random, variables)
    there = pair.put(grads)
    xp.cuda.get_current_stream().synchronize()
    pair.gpu.apply(there, stream=stream)
    pair.cpu.apply(grads)
    pair.assert_equal()


def test_default_stream(cupy):
    random = np.random.default_rng(142)
    variables = [normal(random, 5000, np.float32)]
    pair = Twins(cupy, own_sgd(), variables)
    pair.run(gradients(random, variables) for _ in range(2))


@pytest.mark.parametrize(
    ("options", "scale", "launches", "waits"),
    [
        ({}, None, 3, 0),
        ({"clipnorm": 1.0, "use_ema": True}, None, 4, 0),
        ({"clipnorm": 1.0}, 4.0, 4, 2),
    ],
)
def test_nothing_waits_but_for_what_a_loss_scale_leaves_out(xp, options, scale, launches, waits):
    optimizer = OwnSGD(0.1, **options)
    if scale:
        optimizer = ravine.LossScaleOptimizer(optimizer, scale)
    w, g = xp.ones(5, np.float32), xp.ones(5, np.float32)
    optimizer.build([w])
    optimizer.apply([g])
    before = ravine._core.cuda_counts()
    for _ in range(3):
        optimizer.apply([g])
    # The numbers, and what came in the window.
    assert difference(before) == {
        "launches": 3 * launches,
        "synchronizations": 3 * waits,
        "allocations": 0,
    }


def test_capture_is_refused_and_changes_nothing(xp):
    w, g = xp.ones(5, np.float32), xp.ones(5, np.float32)
    optimizer = OwnSGD(0.1)
    optimizer.build([w])
    optimizer.apply([g])
    before = all_of(optimizer, w)
    message = (
        "A step with an update_step() in Python cannot be captured into a CUDA graph. Make it "
        "outside of the capture."
    )

    def refused():
        with raises(ValueError, message):
            optimizer.apply([g])

    captured(xp.cuda.Stream(non_blocking=True), refused)
    assert all_of(optimizer, w) == before


# --- A step that fails


class Failing(OwnSGD):
    fails = False

    def build(self, variables):
        super().build(variables)
        self.count = self.add_variable((), 3, "int64", name="count")

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate)
        self.assign_add(self.count, 1)
        if self.fails and self._get_variable_index(variable) == 2:
            raise RuntimeError("not this one")


@ignores_missing
@pytest.mark.parametrize("dynamic", [False, True])
def test_step_that_fails_has_changed_nothing(xp, schedule, dynamic):
    options = {"gradient_accumulation_steps": 2, "use_ema": True, "weight_decay": 0.1}
    random = np.random.default_rng(143)
    variables = [normal(random, n, dtype) for n in (3, 4099) for dtype in DTYPES]
    steps = [gradients(random, variables) for _ in range(6)]
    steps[2][1] = steps[3][1] = steps[2][3] = None

    def make():
        own = Failing(0.1, **options)
        return ravine.LossScaleOptimizer(own, 2.0, 1) if dynamic else own

    pair = Twins(xp, make, variables)
    pair.run_at_once(steps[:3])
    failing = getattr(pair.gpu, "inner_optimizer", pair.gpu)
    for _ in range(2):
        before = all_of(pair.gpu, *pair.on_gpu)
        failing.fails = True
        with pytest.raises(RuntimeError, match="not this one"):
            pair.gpu.apply(pair.put(steps[3]), stream=xp.cuda.Stream(non_blocking=True))
        failing.fails = False
        assert all_of(pair.gpu, *pair.on_gpu) == before
    pair.run_at_once(steps[3:])


def test_gradient_that_shares_memory_is_refused(xp):
    w = xp.ones(3, "float32")
    optimizer = OwnSGD(0.5, use_ema=True)
    optimizer.build([Shown(w)])
    variable = "variable 0 ('variable_0')"
    for shared, which in (
        (w, variable),
        (optimizer.momentums[0], f"the state of {variable}"),
        (optimizer.variables[2], f"the state of {variable}"),
    ):
        with raises(
            ValueError,
            f"Gradient 0 ('variable_0') shares memory with {which}, which the step writes. Pass a "
            "copy.",
        ):
            optimizer.apply([shared])
    assert optimizer.iterations == 0
    assert w.get().tolist() == [1, 1, 1]


# --- Arrays, and state


def test_arrays_of_other_libraries(xp):
    random = np.random.default_rng(144)
    start = [normal(random, (4, 5), np.float32) for _ in range(2)]
    arrays = [on_gpu(xp, w) for w in start]
    optimizer, same = OwnSGD(0.1), OwnSGD(0.1)
    variables = [Shown(arrays[0]), OnlyDLPack(arrays[1])]
    optimizer.build(variables)
    same.build(start)
    for _ in range(2):
        grads = gradients(random, start)
        optimizer.apply([on_gpu(xp, grads[0]), Shown(on_gpu(xp, grads[1]))])
        same.apply(grads)
    xp.cuda.get_current_stream().synchronize()
    for array, w in zip(arrays, start, strict=True):
        assert_same(array.get(), w)
    assert [optimizer._get_variable_index(w) for w in variables] == [0, 1]


def test_own_variables_are_on_the_device(xp):
    class Own(OwnSGD):
        def build(self, variables):
            super().build(variables)
            values = np.arange(6, dtype=np.float16).reshape(2, 3)
            self.made = [
                self.add_variable((2, 3), values),
                self.add_variable((), 5, "int32"),
                self.add_variable_from_reference(variables[0], initializer=values.T),
                self.add_variable_from_reference(variables[0], initializer=xp.asarray(values.T)),
                self.add_variable((0, 2)),
            ]

    on_cpu = np.ones((2, 3), np.float32).T
    cpu, gpu = Own(), Own()
    cpu.build([on_cpu])
    gpu.build([on_gpu(xp, on_cpu)])
    for made, expected in zip(gpu.made, cpu.made[:3] + cpu.made[2:3] + cpu.made[4:], strict=True):
        assert isinstance(made, xp.ndarray)
        assert_same(made.get(), np.asarray(expected))
    state = gpu.state_dict()
    gpu.load_state_dict(
        {key: np.ones_like(value) if "/" in key else value for key, value in state.items()}
    )
    assert gpu.made[2].get().tolist() == np.ones((3, 2)).tolist()


def test_state_moves_between_cpu_and_gpu(xp):
    random = np.random.default_rng(145)
    variables = [normal(random, (4, 5), np.float16)]
    pair = Twins(xp, own_sgd(use_ema=True), variables)
    pair.run(gradients(random, variables) for _ in range(2))
    other = Twins(xp, own_sgd(use_ema=True), [w.copy() for w in pair.on_cpu])
    other.gpu.load_state_dict(pair.cpu.state_dict())
    other.cpu.load_state_dict(pair.gpu.state_dict())
    other.run(gradients(random, variables) for _ in range(2))


@pytest.mark.parametrize("call", ["assign", "assign_add", "assign_sub"])
def test_assign_checks_shapes(xp, call):
    optimizer, array = OwnSGD(), xp.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"must have that shape, or be a number. Received: "):
        getattr(optimizer, call)(array, xp.ones(3, np.float32))
    getattr(optimizer, call)(array, 2)
    assert (
        array.get().tolist() == [[{"assign": 2, "assign_add": 3, "assign_sub": -1}[call]] * 3] * 2
    )
